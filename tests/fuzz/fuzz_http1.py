"""HTTP/1.1: octets mean one thing, whatever engine reads them and however they are cut.

Nothing raises, at most one request is rejected and it is the last, a connection whose client has
gone ends, and what waits for the application stays within its window and one read.
"""

from __future__ import annotations

from itertools import pairwise

from http1_peer import Peer
from script import Script

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.protocol.engines import http1_engine
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    RequestRejected,
)
from h2asgi.protocol.http1.engine import HTTP1Engine

WINDOW = 1024
CONFIG = HTTP1Config(max_head_size=1024, receive_window=WINDOW)
H11, HTTPTOOLS = (http1_engine(HTTP1Config(engine=name)) for name in ("h11", "httptools"))

Outcome = tuple[list[Event], bytes]


def check(octets: bytes) -> None:
    script = Script(octets)
    websocket = bool(script.octet() & 1)
    step = 1 + script.octet()
    data = script.rest()
    whole = _outcome(H11, data, len(data) or 1, websocket)
    assert _outcome(HTTPTOOLS, data, len(data) or 1, websocket) == whole
    assert _outcome(H11, data, step, websocket) == whole
    assert _outcome(HTTPTOOLS, data, step, websocket) == whole


def _outcome(kind: type[HTTP1Engine], data: bytes, step: int, websocket: bool) -> Outcome:
    """Feed it all, acknowledge what comes, then close; answer what is open then."""
    peer = Peer(kind(CONFIG, Timeouts(), 0.0, websocket=websocket))
    events: list[Event] = []
    for start, stop in pairwise([*range(0, len(data), step), len(data)]):
        _acknowledge(peer, new := peer.feed(data[start:stop]), stop - start)
        events += new
    events += peer.eof()
    sent = b""
    answered = 0
    while answered < len(waiting := _requests(events)):
        events += _answer(peer, waiting[answered])
        sent += peer.received()
        answered += 1
    _check_events(events)
    return _joined(events), sent


def _acknowledge(peer: Peer, events: list[Event], size: int) -> None:
    pieces = [event for event in events if isinstance(event, DataReceived)]
    assert sum(len(piece.data) for piece in pieces) <= max(WINDOW, size) + size
    for piece in pieces:
        peer.engine.acknowledge_received_data(piece.stream_id, len(piece.data))


def _answer(peer: Peer, request: RequestReceived | RequestRejected) -> list[Event]:
    if isinstance(request, RequestReceived) and request.protocol is not None:
        peer.engine.accept_tunnel(request.stream_id, [(b"upgrade", b"websocket")])
        peer.engine.send_data(request.stream_id, b"through the tunnel", True)
        return peer.leave()
    return peer.answer(request.stream_id, b"answer")


def _requests(events: list[Event]) -> list[RequestReceived | RequestRejected]:
    return [event for event in events if isinstance(event, RequestReceived | RequestRejected)]


def _check_events(events: list[Event]) -> None:
    assert isinstance(events[-1], ConnectionTerminated)
    assert sum(isinstance(event, ConnectionTerminated) for event in events) == 1
    requests = _requests(events)
    assert [request.stream_id for request in requests] == list(range(1, len(requests) + 1))
    assert not any(isinstance(request, RequestRejected) for request in requests[:-1])


def _joined(events: list[Event]) -> list[Event]:
    """Neighbouring pieces of one body as one; reads decide how it is cut, and nothing else."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived):
            last.data += event.data
        else:
            joined.append(event)
    return joined
