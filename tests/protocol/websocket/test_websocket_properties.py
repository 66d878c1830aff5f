"""What holds for all octets and all messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TAIL,
    TEXT,
    Deflater,
    Inflater,
    Sent,
    frame,
    frames,
)

from h2asgi.config import WebSocketConfig
from h2asgi.protocol.engines import websocket_codec
from h2asgi.protocol.websocket.codec import (
    CloseReceived,
    Codec,
    ConnectionFailed,
    WebSocketEvent,
)
from h2asgi.protocol.websocket.deflate import Agreement, PerMessageDeflate

LIMIT = 200

messages = st.lists(st.text(max_size=60) | st.binary(max_size=LIMIT), max_size=8)
any_frame = st.builds(
    lambda opcode, payload, fin, reserved: frame(opcode, payload, fin=fin, reserved=reserved),
    st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE] * 3 + [3, 15]),
    st.binary(max_size=130) | st.text(max_size=40).map(str.encode),
    st.booleans() | st.just(True),
    st.sampled_from([0, 0, 0, RSV1]),
)
streams = st.lists(any_frame | st.binary(max_size=20), max_size=8).map(b"".join)


def open_(kind: type[Codec], deflate: bool) -> Codec:
    return kind(LIMIT, PerMessageDeflate(Agreement()) if deflate else None)


def fed(
    codec: Codec, octets: bytes, cuts: Iterable[int] = ()
) -> tuple[list[WebSocketEvent], list[Sent]]:
    """Events and answers, without the words of a failure: of two mistakes either may be named."""
    events: list[WebSocketEvent] = []
    for start, stop in pairwise([0, *cuts, len(octets)]):
        events += codec.receive_data(octets[start:stop])
    for event in events:
        if isinstance(event, ConnectionFailed):
            event.reason = ""
    answers = frames(codec.take_answers())
    return events, [
        replace(sent, payload=sent.payload[:2]) if sent.opcode == CLOSE else sent
        for sent in answers
    ]


@given(octets=streams, deflate=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=300)
def test_events_do_not_depend_on_how_octets_were_cut(
    kind: type[Codec], octets: bytes, deflate: bool, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=10)))
    whole = fed(open_(kind, deflate), octets)
    assert fed(open_(kind, deflate), octets, cuts) == whole
    assert fed(open_(kind, deflate), octets, range(1, len(octets))) == whole


def fed_up_to(codec: Codec, octets: bytes, limit: int) -> list[WebSocketEvent]:
    """Events of ``octets``, which lie in a buffer that is overwritten after each call."""
    events: list[WebSocketEvent] = []
    while octets:
        buffer = bytearray(octets)
        with memoryview(buffer) as view:
            events += codec.receive_data(view, limit)
            assert 0 < codec.taken <= len(octets)
            octets = octets[codec.taken :]
        buffer[:] = b"\xff" * len(buffer)
    for event in events:
        if isinstance(event, ConnectionFailed):
            event.reason = ""
    return events


@given(octets=streams, deflate=st.booleans(), limit=st.integers(1, 300))
@settings(deadline=None, max_examples=300)
def test_what_is_not_taken_may_be_given_again(
    kind: type[Codec], octets: bytes, deflate: bool, limit: int
) -> None:
    whole, _ = fed(open_(kind, deflate), octets)
    assert fed_up_to(open_(kind, deflate), octets, limit) == whole


@given(octets=streams, deflate=st.booleans())
@settings(deadline=None, max_examples=300)
def test_nothing_raises_and_an_end_is_the_last_event(
    kind: type[Codec], octets: bytes, deflate: bool
) -> None:
    codec = open_(kind, deflate)
    events, sent = fed(codec, octets)
    ends = [isinstance(event, CloseReceived | ConnectionFailed) for event in events]
    assert not any(ends[:-1])
    assert codec.over == any(ends)
    assert [answer.opcode == CLOSE for answer in sent].count(True) == codec.over
    for event in events:
        if isinstance(event, str | bytes):
            assert len(event) <= LIMIT


@given(octets=streams, deflate=st.booleans())
@settings(deadline=None, max_examples=300)
def test_both_codecs_say_the_same(kind: type[Codec], octets: bytes, deflate: bool) -> None:
    wsproto = websocket_codec(WebSocketConfig(engine="wsproto"))
    octets += bytes(14)  # the longest header: a broken one may be seen before it is whole, or not
    assert fed(open_(kind, deflate), octets) == fed(open_(wsproto, deflate), octets)


@given(sent=messages, deflate=st.booleans(), cut=st.integers(1, 60))
@settings(deadline=None)
def test_every_message_arrives(
    kind: type[Codec], sent: list[str | bytes], deflate: bool, cut: int
) -> None:
    codec = open_(kind, deflate)
    deflater = Deflater()
    for message in sent:
        opcode = TEXT if isinstance(message, str) else BINARY
        payload = message.encode() if isinstance(message, str) else message
        reserved = RSV1 if deflate else 0
        if deflate:
            payload = deflater.compress(payload)
        octets = frame(opcode, payload[:cut], fin=False, reserved=reserved)
        octets += frame(CONTINUATION, payload[cut:])
        assert codec.receive_data(octets) == [message]


@given(sent=messages, deflate=st.booleans())
@settings(deadline=None)
def test_every_message_goes_out(kind: type[Codec], sent: list[str | bytes], deflate: bool) -> None:
    codec = open_(kind, deflate)
    inflater = Inflater()
    for message in sent:
        (out,) = frames(codec.send_message(message))
        payload = inflater.inflate(out.payload) if out.reserved else out.payload
        assert out.opcode == (TEXT if isinstance(message, str) else BINARY)
        assert payload == (message.encode() if isinstance(message, str) else message)


@given(pieces=st.lists(st.binary(max_size=300), min_size=1), limit=st.integers(0, 300))
@settings(deadline=None)
def test_never_more_is_inflated_than_one_octet_beyond_the_limit(
    pieces: list[bytes], limit: int
) -> None:
    deflate = PerMessageDeflate(Agreement())
    message = bytearray()
    whole = b"".join(pieces)
    octets = zlib.compress(whole, wbits=-15)
    for start in range(0, len(octets), 50):
        deflate.inflate(octets[start : start + 50], message, limit)
    deflate.inflate(TAIL, message, limit)
    assert message == whole[: limit + 1]
