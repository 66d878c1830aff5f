"""A connection in HTTP/2: any frames, any calls of the application, on both engines in step.

Nothing raises; what goes out reads as frames; both engines send the same frames and give the same
events; a peer gets no further than its credit, its header lists are bounded, the octets in answer
to its own are too, and nothing follows the end. Where the engines may part is in ``Parted``.
"""

from __future__ import annotations

from typing import Any

from http2_peer import ALL, MAX_ID, PREFACE, FrameLog, ServerFrame, WindowUpdate, frame, settings
from script import Script

from h2asgi.config import HTTP2Config, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.protocol.engines import http2_engine
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    SendQueueDrained,
)
from h2asgi.protocol.http2.engine import HTTP2Engine

ENGINES = [http2_engine(HTTP2Config(engine=name)) for name in ("h2", "ngh2")]
LIST_SIZE = 1024
CONFIG = HTTP2Config(
    max_header_list_size=LIST_SIZE,
    max_concurrent_streams=4,
    stream_window=65_535,
    connection_window=65_535,
)
STREAM_IDS = (0, 1, 3, 5, 7, 9, 11, 2, 4, 13, MAX_ID, 0)
FIRST_CALL = len(STREAM_IDS) << 4
PIECE = b"x" * 700


class Parted(Exception):
    """A field section is too large, and malformed too: the engines may go by either.

    nghttp2 counts no further once it has seen that a section is malformed; it keeps none of it.
    """


class Side:
    """One engine, and the books of its client."""

    def __init__(self, kind: type[HTTP2Engine], websocket: bool) -> None:
        self.engine = kind(CONFIG, Timeouts(), 0.0, websocket=websocket)
        self.log = FrameLog()
        self.credit = 65_535
        self.unread: dict[int, int] = {}
        self.protocols: dict[int, str | None] = {}
        self.events: list[Any] = []
        self.over = False
        self.calmed = False

    def read(self, limit: int, now: float) -> list[ServerFrame]:
        frames = self.log.read(bytes(self.engine.data_to_send(limit, now)))
        for one in frames:
            if isinstance(one, WindowUpdate) and not one.stream_id:
                self.credit += one.increment
        return frames

    def take_events(self) -> list[Any]:
        events = self.engine.take_events()
        for event in events:
            assert not self.over, event
            self._note(event)
        return [_comparable(event) for event in events]

    def _note(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            assert sum(32 + len(name) + len(value) for name, value in event.headers) <= LIST_SIZE
            self.protocols[event.stream_id] = event.protocol
        elif isinstance(event, DataReceived):
            self.credit -= len(event.data)
            assert self.credit >= 0
            self.unread[event.stream_id] = self.unread.get(event.stream_id, 0) + len(event.data)
        elif isinstance(event, ConnectionTerminated):
            self.over = True
            self.calmed = event.error_code == ErrorCode.ENHANCE_YOUR_CALM

    def call(self, move: int, stream_id: int) -> int:
        """Let the application do something; give the octets it sends."""
        engine = self.engine
        if move == 0:
            engine.send_headers(stream_id, 200, [(b"x-answer", b"yes")], False)
        elif move == 1:
            engine.send_headers(stream_id, 204, [], True)
        elif move == 2:
            engine.send_data(stream_id, PIECE, False)
        elif move == 3:
            engine.send_data(stream_id, PIECE, True)
        elif move == 4:
            engine.send_trailers(stream_id, [(b"x-sum", b"1")])
        elif move == 5:
            engine.reset_stream(stream_id, 8)
        elif move == 6:
            engine.acknowledge_received_data(stream_id, self.unread.pop(stream_id, 0))
        elif self.protocols.get(stream_id) is not None:
            engine.accept_tunnel(stream_id, [])
        return len(PIECE)


def check(octets: bytes) -> None:
    script = Script(octets)
    choice = script.octet()
    sides = [Side(kind, bool(choice & 1)) for kind in ENGINES]
    start = PREFACE + settings() if choice & 2 else b""
    for side in sides:
        side.engine.receive_data(start, 0.0)
    sent, now = len(start), 0.0
    try:
        while script:
            sent += _step(script, sides, now)
            now += 0.001
    except Parted:
        return
    _compare(sides, ALL, now)
    for side in sides:
        assert side.log.octets <= 200 + 4 * sent
        side.engine.handle_deadline(now + 10_000)
    _compare(sides, ALL, now + 10_000)
    for side in sides:
        if not side.over:
            side.engine.receive_eof(now + 10_000)
    _compare(sides, 0, now + 10_000)
    assert all(side.over for side in sides)


def _step(script: Script, sides: list[Side], now: float) -> int:
    """Do one thing on both sides; give how many octets it puts on the wire."""
    code = script.octet()
    kind = code & 15
    if code < FIRST_CALL:
        flags = script.octet()
        payload = script.text()
        octets = frame(kind, flags, STREAM_IDS[code >> 4], payload)
        return _receive(sides, octets, now)
    if kind < 8:
        stream_id = STREAM_IDS[1 + (code >> 4) % 3]
        return max(side.call(kind, stream_id) for side in sides)
    if kind < 10:
        return _receive(sides, script.text(), now)
    if kind == 10:
        _compare(sides, script.octet() << 4, now)
        return 0
    for side in sides:
        if kind == 11:
            side.engine.begin_shutdown(now)
        elif kind == 12:
            side.engine.ping(b"12345678")
        elif kind == 13:
            side.engine.handle_deadline(now)
    return 100


def _receive(sides: list[Side], octets: bytes, now: float) -> int:
    for side in sides:
        buffer = bytearray(octets)
        side.engine.receive_data(memoryview(buffer), now)
        buffer[:] = b"\xff" * len(buffer)
    _compare(sides, 0, now)
    return len(octets)


def _compare(sides: list[Side], limit: int, now: float) -> None:
    """Read from both, if there is a limit, and hold what they say side by side."""
    if limit:
        frames = [side.read(limit, now) for side in sides]
        assert frames[0] == frames[1], frames
    events = [side.take_events() for side in sides]
    if events[0] != events[1] and any(side.calmed for side in sides):
        raise Parted
    assert events[0] == events[1], events


def _comparable(event: Event) -> tuple[str, Any]:
    """All of it but the reasons, which only logs tell."""
    assert not isinstance(event, SendQueueDrained) or event.stream_id
    values = {name: getattr(event, name) for name in event.__match_args__ if name != "reason"}
    return type(event).__name__, values
