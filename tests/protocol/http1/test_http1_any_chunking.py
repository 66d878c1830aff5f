"""Events depend on the octets alone, never on how they were cut into reads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from http1_malformed import MALFORMED_BODIES, MALFORMED_HEADS
from http1_peer import GET, POST_CHUNKED, EngineFactory, Peer, post
from hypothesis import given, settings
from hypothesis import strategies as st

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.protocol.engines import http1_engine
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    RequestRejected,
)

VALID = [
    GET,
    b"\r\n" + GET,
    post(5, b"hello"),
    post(0),
    POST_CHUNKED + b"5;a=b\r\nhello\r\n1\r\n \r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
    POST_CHUNKED + b"0\r\n\r\n",
    b"GET http://b.example/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABk\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"purge /x HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t1 2\t \r\nx: 3\r\n\r\n",
    b"NOTHING-LLHTTP-KNOWS /x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
]
MALFORMED = [octets[:600] for octets, _ in MALFORMED_HEADS.values()]
MALFORMED += [POST_CHUNKED + octets[:600] for octets, _ in MALFORMED_BODIES.values()]
CONFIG = HTTP1Config(max_head_size=1024)

streams = st.lists(st.sampled_from(VALID), min_size=1, max_size=4).map(b"".join)
insertions = st.sampled_from([b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\r\n", b";", b"0", b"\xff"])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid stream in which octets were removed, replaced or added."""
    octets = draw(streams)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(octets)))
        end = min(len(octets), start + draw(st.integers(0, 3)))
        octets = octets[:start] + draw(insertions | st.just(b"")) + octets[end:]
    return octets


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[a:b] for a, b in pairwise(edges)]


def transcript(engine_factory: EngineFactory, reads: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed the reads and then the end; answer each request when the input has been seen."""
    peer = Peer(engine_factory(CONFIG, Timeouts(), 0.0))
    events: list[Event] = []
    for read in reads:
        events += peer.feed(read)
    events += peer.eof()
    sent = b""
    answered = 0
    while True:
        waiting = [event.stream_id for event in events
                   if isinstance(event, RequestReceived | RequestRejected)]  # fmt: skip
        if answered == len(waiting):
            return joined(events), sent
        events += peer.answer(waiting[answered], b"answer")
        sent += peer.received()
        answered += 1


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring pieces of one body as one; reads decide how it is cut, and nothing else."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived):
            last.data += event.data
        else:
            result.append(event)
    return result


@settings(max_examples=300, deadline=None)
@given(octets=streams, places=st.lists(st.integers(0, 10_000), max_size=8))
def test_valid_requests(engine_factory: EngineFactory, octets: bytes, places: list[int]) -> None:
    whole = transcript(engine_factory, [octets])
    assert transcript(engine_factory, cut(octets, places)) == whole
    assert not any(isinstance(event, RequestRejected) for event in whole[0])
    assert isinstance(whole[0][-1], ConnectionTerminated)


@settings(max_examples=600, deadline=None)
@given(
    octets=mutated() | st.sampled_from(MALFORMED) | st.binary(max_size=80),
    places=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_mutated_requests(engine_factory: EngineFactory, octets: bytes, places: list[int]) -> None:
    whole = transcript(engine_factory, [octets])
    assert transcript(engine_factory, cut(octets, places)) == whole
    assert sum(isinstance(event, RequestRejected) for event in whole[0]) <= 1
    assert isinstance(whole[0][-1], ConnectionTerminated)


@settings(max_examples=200, deadline=None)
@given(octets=streams | mutated())
def test_octet_by_octet(engine_factory: EngineFactory, octets: bytes) -> None:
    singles = [octets[i : i + 1] for i in range(len(octets))]
    assert transcript(engine_factory, singles) == transcript(engine_factory, [octets])


@pytest.mark.parametrize("octets", MALFORMED)
def test_malformed_octet_by_octet(engine_factory: EngineFactory, octets: bytes) -> None:
    singles = [octets[i : i + 1] for i in range(len(octets))]
    assert transcript(engine_factory, singles) == transcript(engine_factory, [octets])


@settings(max_examples=600, deadline=None)
@given(octets=streams | mutated() | st.sampled_from(MALFORMED) | st.binary(max_size=80))
def test_engines_agree(engine_factory: EngineFactory, octets: bytes) -> None:
    """The choice of an engine changes no event and no octet."""
    pure = http1_engine(HTTP1Config(engine="h11"))
    assert transcript(engine_factory, [octets]) == transcript(pure, [octets])


@pytest.mark.parametrize("octets", MALFORMED)
def test_engines_agree_on_what_is_malformed(engine_factory: EngineFactory, octets: bytes) -> None:
    pure = http1_engine(HTTP1Config(engine="h11"))
    assert transcript(engine_factory, [octets]) == transcript(pure, [octets])
