"""Frames to messages: both codecs say the same, however the octets are cut, and raise never.

No message is larger than allowed, an end is the last event, and no more is answered than came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from script import Script
from websocket_peer import CLOSE, Sent, frames

from h2asgi.config import WebSocketConfig
from h2asgi.protocol.engines import websocket_codec
from h2asgi.protocol.websocket.codec import (
    CloseReceived,
    Codec,
    ConnectionFailed,
    WebSocketEvent,
)
from h2asgi.protocol.websocket.deflate import Agreement, PerMessageDeflate

WSPROTO, WEBSOCKETS = (
    websocket_codec(WebSocketConfig(engine=name)) for name in ("wsproto", "websockets")
)
AGREEMENTS = (None, Agreement(), Agreement(client_no_context_takeover=True))
LIMIT = 300
LARGEST_HEADER = bytes(14)
"""At the end, so that no header is left half said: wsproto looks at a header once it is whole."""

LARGEST_CLOSE = 2 + 125

Outcome = tuple[list[WebSocketEvent], list[Sent]]


def check(octets: bytes) -> None:
    script = Script(octets)
    agreement = AGREEMENTS[script.octet() % len(AGREEMENTS)]
    step = 1 + script.octet()
    data = script.rest() + LARGEST_HEADER
    whole = _outcome(WSPROTO, agreement, data, ())
    assert _outcome(WEBSOCKETS, agreement, data, ()) == whole
    cuts = range(step, len(data), step)
    assert _outcome(WSPROTO, agreement, data, cuts) == whole
    assert _outcome(WEBSOCKETS, agreement, data, cuts) == whole


def _outcome(
    kind: type[Codec], agreement: Agreement | None, data: bytes, cuts: Iterable[int]
) -> Outcome:
    """Events and answers without the words of a failure: of two mistakes either may be named."""
    codec = kind(LIMIT, None if agreement is None else PerMessageDeflate(agreement))
    events: list[WebSocketEvent] = []
    for start, stop in pairwise([0, *cuts, len(data)]):
        events += codec.receive_data(data[start:stop])
    answers = codec.take_answers()
    assert len(answers) <= len(data) + LARGEST_CLOSE
    ends = [isinstance(event, CloseReceived | ConnectionFailed) for event in events]
    assert not any(ends[:-1])
    assert codec.over == any(ends)
    for event in events:
        if isinstance(event, str | bytes):
            assert len(event) <= LIMIT
        elif isinstance(event, ConnectionFailed):
            event.reason = ""
    return events, [
        replace(sent, payload=sent.payload[:2]) if sent.opcode == CLOSE else sent
        for sent in frames(answers)
    ]
