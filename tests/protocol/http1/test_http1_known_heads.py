"""What a connection remembers of its heads changes no event and no octet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest
from http1_malformed import MALFORMED_HEADS
from http1_peer import GET, POST_CHUNKED, EngineFactory, Peer, post
from hypothesis import given, settings
from hypothesis import strategies as st

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestEnded,
    RequestReceived,
    RequestRejected,
)
from h2asgi.protocol.headers import RequestHead
from h2asgi.protocol.http1.heads import MAX_KNOWN_OCTETS, MAX_KNOWN_SECTIONS, Head, KnownHeads

Connect = Callable[..., Peer]

HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-Y: 1\r\nCookie: k=v\r\n\r\n"
FIELDS = b"Host: a.example\r\nX-Y: 1\r\n\r\n"


def read(peer: Peer, octets: bytes) -> list[Event]:
    """The events of a request alone, as if it were the first."""
    return [event if isinstance(event, ConnectionTerminated) else replace(event, stream_id=1)
            for event in peer.feed(octets)]  # fmt: skip


def test_repeated_heads_give_equal_events_with_lists_of_their_own(peer: Peer) -> None:
    seen = []
    for stream_id in range(1, 5):
        (event,) = peer.feed(HEAD)
        assert isinstance(event, RequestReceived)
        assert event.stream_id == stream_id
        seen.append(replace(event, stream_id=1, headers=event.headers.copy()))
        event.headers.clear()
        assert peer.answer(stream_id) == []
    assert seen[0].headers == [(b"host", b"a.example"), (b"x-y", b"1"), (b"cookie", b"k=v")]
    assert all(event == seen[0] for event in seen)


@pytest.mark.parametrize("place", range(len(HEAD)))
@pytest.mark.parametrize("octet", [b"x", b" ", b"\0", b"\r"])
def test_change_of_one_octet_is_seen(connect: Connect, place: int, octet: bytes) -> None:
    changed = HEAD[:place] + octet + HEAD[place + 1 :]
    peer = connect()
    for stream_id in (1, 2):
        peer.feed(HEAD)
        peer.answer(stream_id)
    assert read(peer, changed) == read(connect(), changed)


def test_only_the_request_line_may_differ(peer: Peer) -> None:
    for stream_id, method, target in [
        (1, b"GET", b"/"), (2, b"GET", b"/b"), (3, b"PUT", b"/b?c"), (4, b"GET", b"/"),
    ]:  # fmt: skip
        (event,) = peer.feed(b"%b %b HTTP/1.1\r\n%b" % (method, target, FIELDS))
        assert isinstance(event, RequestReceived)
        assert (event.method.encode(), event.target) == (method, target)
        assert event.headers == [(b"host", b"a.example"), (b"x-y", b"1")]
        peer.answer(stream_id)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /a#b HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET / HTTP/2.0",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"get / HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"GET http://b.example/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET /" + b"a" * 600 + b" HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
    ],
)
@pytest.mark.parametrize("coding", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_request_line_is_judged_as_if_the_fields_were_new(
    connect: Connect, line: bytes, coding: bytes
) -> None:
    fields = b"\r\n" + coding + FIELDS
    peer = connect(max_head_size=1024)
    peer.feed(b"GET / HTTP/1.1" + fields + (b"0\r\n\r\n" if coding else b""))
    peer.answer(1)
    peer.received()
    assert read(peer, line + fields) == read(connect(max_head_size=1024), line + fields)
    peer.answer(2)
    fresh = connect(max_head_size=1024)
    fresh.feed(line + fields)
    fresh.answer(1)
    assert peer.received() == fresh.received()


def test_head_may_grow_too_large_by_its_request_line(connect: Connect) -> None:
    peer = connect(max_head_size=1024)
    fields = b"Host: a\r\nX: " + b"x" * 700 + b"\r\n\r\n"
    peer.feed(b"GET / HTTP/1.1\r\n" + fields)
    peer.answer(1)
    (event,) = peer.feed(b"GET /" + b"a" * 400 + b" HTTP/1.1\r\n" + fields)
    assert isinstance(event, RequestRejected)
    assert event.status == 431


@pytest.mark.parametrize(("octets", "status"), MALFORMED_HEADS.values(), ids=MALFORMED_HEADS)
def test_malformed_head_is_not_kept(connect: Connect, octets: bytes, status: int) -> None:
    """Nor let through for its likeness to one that was kept."""
    peer = connect()
    peer.feed(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    peer.answer(1)
    (event,) = read(peer, octets)
    assert isinstance(event, RequestRejected)
    assert [event] == read(connect(), octets)
    assert event.status == status


@pytest.mark.parametrize("size", range(1, len(HEAD)))
def test_known_head_may_come_in_pieces(peer: Peer, size: int) -> None:
    (first,) = read(peer, HEAD)
    peer.answer(1)
    for stream_id in (2, 3):
        pieces = [HEAD[i : i + size] for i in range(0, len(HEAD), size)]
        events = [event for piece in pieces for event in read(peer, piece)]
        assert events == [first]
        peer.answer(stream_id)


def test_short_head_behind_a_known_one_in_pieces(peer: Peer) -> None:
    """How far the one was searched says nothing of the other."""
    assert len(GET) < len(HEAD)
    peer.feed(HEAD)
    peer.answer(1)
    assert peer.feed(HEAD[:-1]) == []
    assert len(peer.feed(HEAD[-1:])) == 1
    peer.answer(2)
    assert [event.stream_id for event in peer.feed(GET)] == [3]


def test_known_head_behind_an_empty_line(peer: Peer) -> None:
    """RFC 9112 section 2.2: one of them is ignored, each time."""
    for stream_id in (1, 2, 3):
        assert [event.stream_id for event in peer.feed(b"\r\n" + GET)] == [stream_id]
        peer.answer(stream_id)
    (event,) = peer.feed(b"\r\n\r\n" + GET)
    assert isinstance(event, RequestRejected)


def test_body_that_looks_like_the_known_head_is_a_body(peer: Peer) -> None:
    """Also where a body ends within a read that repeats the head octet by octet."""
    peer.feed(GET)
    peer.answer(1)
    peer.feed(post(len(GET)))
    assert peer.feed(GET) == [DataReceived(2, GET), RequestEnded(2)]
    peer.answer(2)
    peer.feed(post(5))
    assert peer.feed(post(5)) == [DataReceived(3, b"POST "), RequestEnded(3)]
    (rejected,) = peer.answer(3)
    assert isinstance(rejected, RequestRejected)


@pytest.mark.parametrize(
    "request_octets", [post(5, b"hello"), POST_CHUNKED + b"5\r\nhello\r\n0\r\nx: 1\r\n\r\n"]
)
@pytest.mark.parametrize("split", [False, True])
def test_known_head_with_a_body(peer: Peer, request_octets: bytes, split: bool) -> None:
    end = request_octets.index(b"\r\n\r\n") + 4
    reads = [request_octets[:end], request_octets[end:]] if split else [request_octets]
    expected: list[Event] | None = None
    for stream_id in (1, 2, 3):
        events = [event for octets in reads for event in read(peer, octets)]
        expected = expected or events
        assert [type(event) for event in events] == [RequestReceived, DataReceived, RequestEnded]
        assert events == expected
        assert peer.answer(stream_id) == []


def test_known_head_still_waits_for_its_turn(peer: Peer) -> None:
    (first,) = peer.feed(GET * 3)
    assert first.stream_id == 1
    for stream_id in (1, 2):
        assert [event.stream_id for event in peer.answer(stream_id)] == [stream_id + 1]
    assert peer.answer(3) == []


def test_known_head_is_not_served_on_a_connection_that_ends(peer: Peer) -> None:
    """What follows for the connection is decided each time."""
    peer.feed(GET)
    peer.engine.begin_shutdown(0.0)
    peer.respond(1, b"x")
    assert peer.feed(GET) == []
    assert isinstance(peer.leave()[-1], ConnectionTerminated)
    assert peer.feed(GET) == []


REQUESTS = [
    GET,
    HEAD,
    HEAD.replace(b"GET", b"HEAD"),
    b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /b HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://b.example/b HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    post(0),
    post(5, b"hello"),
    post(5, b"hello").replace(b"Content", b"Expect: 100-continue\r\nContent"),
    POST_CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
]


@settings(max_examples=200, deadline=None)
@given(requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=12))
def test_request_does_not_depend_on_those_before_it(
    engine_factory: EngineFactory, requests: list[bytes]
) -> None:
    def peer() -> Peer:
        return Peer(engine_factory(HTTP1Config(), Timeouts(), 0.0))

    one = peer()
    for stream_id, octets in zip(count(1), requests, strict=False):
        fresh = peer()
        events = read(one, octets)
        assert events == read(fresh, octets)
        end = one.answer(stream_id, b"answer", 200, [(b"x", b"y")])
        assert end == fresh.answer(1, b"answer", 200, [(b"x", b"y")])
        assert one.received() == fresh.received()
        if end:
            return


# What is remembered


def heads() -> Iterator[tuple[bytes, Head]]:
    """Heads whose fields all differ."""
    for number in count():
        octets = b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number
        fields = [(b"host", b"a"), (b"x", b"%d" % number)]
        yield octets, Head.of(RequestHead("GET", b"/", fields, None, False), "1.1")


def fields_of(octets: bytes) -> bytes:
    return octets.partition(b"\r\n")[2]


def test_number_of_what_is_remembered_is_bounded() -> None:
    known = KnownHeads(65_536, 32_768)
    kept = [octets for (octets, head), _ in zip(heads(), range(1000), strict=False)
            if known.keep(octets, head) is None]  # fmt: skip
    found = [octets for octets in kept if known.find(octets) is not None]
    assert found[-1] == kept[-1]
    assert len(found) <= MAX_KNOWN_SECTIONS


def test_octets_of_what_is_remembered_are_bounded() -> None:
    known = KnownHeads(65_536, 32_768)
    kept = []
    for (octets, head), _ in zip(heads(), range(20), strict=False):
        long = octets.replace(b"X: ", b"X: " + b"0" * (MAX_KNOWN_OCTETS // 3))
        known.keep(long, head)
        kept.append(long)
    found = [octets for octets in kept if known.find(octets) is not None]
    assert kept[-1] in found
    assert sum(len(octets) for octets in found) <= MAX_KNOWN_OCTETS


def test_large_head_is_not_remembered() -> None:
    known = KnownHeads(65_536, 32_768)
    octets, head = next(heads())
    large = octets.replace(b"X: ", b"X: " + b"0" * MAX_KNOWN_OCTETS)
    known.keep(large, head)
    assert known.find(large) is None


def test_nothing_is_known_of_another_connection(connect: Connect) -> None:
    """Neither by its events nor by an object that both hold."""
    (one,), (two,) = connect().feed(HEAD), connect().feed(HEAD)
    assert one == two
    assert one.headers is not two.headers
    assert all(a is not b for a, b in zip(one.headers, two.headers, strict=True))
