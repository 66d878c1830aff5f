"""Request bodies that do not come, or too slowly: 60 s and 100 octets a second by default."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import GET, POST_CHUNKED, EngineFactory, Peer, post, termination

from h2asgi.config import KIB, HTTP1Config, Timeouts
from h2asgi.protocol.events import Event, RequestEnded, RequestReceived, RequestTimedOut

LOOK = 15.0


def looks(peer: Peer, times: int) -> list[Event]:
    """Let time pass in the steps in which the engine wants it to."""
    events: list[Event] = []
    for _ in range(times):
        deadline = peer.engine.next_deadline()
        if deadline is None:
            return events
        events += peer.wait(deadline - peer.now)
    return events


@pytest.mark.parametrize(
    "request_", [post(10, b"hello"), POST_CHUNKED + b"5\r\nhello\r\n", post(9)]
)
def test_a_body_that_stops_is_answered_with_408(peer: Peer, request_: bytes) -> None:
    peer.feed(request_)
    assert looks(peer, 4) == []
    assert peer.now == 60.0
    (timed_out,) = looks(peer, 1)
    assert timed_out == RequestTimedOut(1, "request body: nothing moved for too long")
    assert peer.engine.next_deadline() is None
    end = termination(peer.answer(1, b"too slow", 408))
    assert end.error_code == 0
    assert end.unread_input
    answer = peer.received()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_what_comes_after_that_is_not_read(peer: Peer) -> None:
    peer.feed(post(10, b"hello"))
    assert len(looks(peer, 5)) == 1
    assert peer.feed(b"world" + GET) == []


def test_every_octet_starts_the_time_anew(connect: Callable[..., Peer]) -> None:
    peer = connect()
    peer.feed(POST_CHUNKED)
    for _ in range(20):
        assert looks(peer, 3) == []
        peer.feed(b"1\r\nx\r\n")
    assert peer.now == 900.0
    assert len(looks(peer, 5)) == 1


def test_the_framing_of_chunks_is_no_body(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    events = []
    for octet in b"00000000":
        events += looks(peer, 1)
        peer.feed(bytes([octet]))
    assert [type(event) for event in events] == [RequestTimedOut]


def test_a_declared_body_that_dribbles_is_too_slow(peer: Peer) -> None:
    peer.feed(post(1000))
    events: list[Event] = []
    while not events:
        peer.feed(b"x")
        events = looks(peer, 1)
        assert peer.now < 100
    assert events == [RequestTimedOut(1, "request body: slower than the minimum transfer rate")]


def test_a_declared_body_at_the_minimum_rate_is_fast_enough(peer: Peer) -> None:
    peer.feed(post(60 * 1500))
    for _ in range(59):
        peer.feed(bytes(1500))
        assert looks(peer, 1) == []
    assert isinstance(peer.feed(bytes(1500))[-1], RequestEnded)
    assert peer.engine.next_deadline() is None


def test_no_time_runs_while_the_application_does_not_read(connect: Callable[..., Peer]) -> None:
    peer = connect(receive_window=KIB)
    peer.feed(post(10 * KIB, bytes(2 * KIB)))
    assert peer.engine.reading_suspended
    assert looks(peer, 20) == []
    peer.engine.acknowledge_received_data(1, 2 * KIB)
    assert looks(peer, 4) == []
    assert len(looks(peer, 1)) == 1


def test_no_time_runs_while_the_client_waits_for_100(peer: Peer) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    peer.feed(head)
    assert looks(peer, 20) == []
    peer.engine.send_informational(1, 100, [])
    assert looks(peer, 4) == []
    assert len(looks(peer, 1)) == 1


def test_no_time_runs_once_the_response_has_begun(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.engine.send_headers(1, 200, [], False)
    assert peer.engine.next_deadline() is None
    assert peer.wait(10_000.0) == []


def test_no_look_is_due_when_the_body_has_come_with_its_head(peer: Peer) -> None:
    peer.feed(post(5, b"hello"))
    assert peer.engine.next_deadline() is None


def test_the_next_request_has_a_time_of_its_own(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    assert looks(peer, 4) == []
    peer.feed(b"0\r\n\r\n" + POST_CHUNKED)
    (received,) = peer.answer(1)
    assert isinstance(received, RequestReceived)
    assert looks(peer, 4) == []
    assert looks(peer, 1) == [RequestTimedOut(2, "request body: nothing moved for too long")]


def test_a_timeout_of_zero_waits_for_ever(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory(HTTP1Config(), Timeouts(request_body=0, min_transfer_rate=0), 0.0))
    peer.feed(post(10, b"hello"))
    assert peer.engine.next_deadline() is None
