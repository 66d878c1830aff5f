"""Every deadline, with plain numbers as the clock. Defaults: 10, 30 and 75 s, and 1 s."""

from __future__ import annotations

import pytest
from http1_peer import GET, POST_CHUNKED, EngineFactory, Peer, post, termination

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import RequestRejected


def quiet_end(peer: Peer, events: list[object]) -> None:
    assert len(events) == 1
    assert termination(events).error_code == ErrorCode.NO_ERROR
    assert peer.received() == b""
    assert peer.engine.next_deadline() is None


def test_first_bytes(peer: Peer) -> None:
    assert peer.engine.next_deadline() == 10.0
    assert peer.wait(9.9) == []
    quiet_end(peer, peer.wait(0.1))


def test_request_head_runs_from_its_first_octet(peer: Peer) -> None:
    """Slowloris: octets that trickle in do not extend it."""
    peer.now = 5.0
    peer.feed(b"G")
    assert peer.engine.next_deadline() == 35.0
    peer.now = 34.0
    assert peer.feed(b"ET / HTTP/1.1\r\n") == []
    assert peer.engine.next_deadline() == 35.0
    (rejected,) = peer.wait(1.0)
    assert isinstance(rejected, RequestRejected)
    assert (rejected.stream_id, rejected.status) == (1, 408)
    assert (rejected.method, rejected.target) == ("GET", b"/")
    assert peer.engine.next_deadline() is None
    end = termination(peer.answer(1, b"too slow", 408))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)
    assert peer.received().startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_request_head_counts_an_empty_line_before_it(peer: Peer) -> None:
    peer.feed(b"\r\n")
    assert peer.engine.next_deadline() == 30.0
    (rejected,) = peer.wait(30.0)
    assert (rejected.status, rejected.method) == (408, "")


def test_no_deadline_while_a_request_is_served(engine_factory: EngineFactory) -> None:
    """However slow body, application and client are, when nothing is asked of them."""
    unlimited = Timeouts(request_body=0, min_transfer_rate=0)
    peer = Peer(engine_factory(HTTP1Config(), unlimited, 0.0))
    peer.feed(post(10, b"hello"))
    assert peer.engine.next_deadline() is None
    assert peer.wait(1000.0) == []
    peer.feed(b"world")
    peer.engine.send_headers(1, 200, [], False)
    peer.received()
    assert peer.engine.next_deadline() is None
    assert peer.wait(1000.0) == []
    peer.engine.send_data(1, b"", True)
    assert peer.engine.take_events() == []


def test_keep_alive_runs_from_when_the_response_has_left(peer: Peer) -> None:
    peer.feed(GET)
    peer.now = 100.0
    peer.answer(1)
    peer.received()
    assert peer.engine.next_deadline() == 175.0
    assert peer.wait(74.9) == []
    quiet_end(peer, peer.wait(0.1))


def test_keep_alive_begins_anew_with_each_request(peer: Peer) -> None:
    for stream_id in range(1, 4):
        peer.now += 70.0
        peer.feed(GET)
        peer.answer(stream_id)
        peer.received()
        assert peer.engine.next_deadline() == peer.now + 75.0


def test_head_behind_a_response_has_its_own_deadline(peer: Peer) -> None:
    peer.feed(GET + b"GET")
    peer.now = 50.0
    peer.answer(1)
    peer.received()
    assert peer.engine.next_deadline() == 80.0
    assert isinstance(peer.wait(30.0)[0], RequestRejected)


def test_discarding_takes_a_second_at_most(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.now = 20.0
    peer.answer(1, b"early")
    peer.received()
    assert peer.engine.next_deadline() == 21.0
    peer.now = 20.9
    assert peer.feed(b"5\r\nhello\r\n") == []
    assert peer.engine.next_deadline() == 21.0
    end = termination(peer.wait(0.1))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)


def test_discarding_that_succeeds_leads_back_to_keep_alive(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.answer(1, b"early")
    peer.received()
    peer.now = 0.5
    assert peer.feed(b"0\r\n\r\n") == []
    assert peer.engine.next_deadline() == 75.5


def test_discarding_does_not_hurry_a_response_that_is_leaving(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.respond(1, b"x" * 100_000)
    peer.engine.data_to_send(10_000, 0.0)
    assert peer.engine.next_deadline() is None
    peer.now = 9.0
    peer.received()
    assert peer.engine.next_deadline() == 10.0


@pytest.mark.parametrize("octets", [b"", b"GET", GET])
def test_early_call_is_harmless(peer: Peer, octets: bytes) -> None:
    peer.feed(octets)
    before = peer.engine.next_deadline()
    assert peer.wait(0.0) == []
    assert peer.engine.next_deadline() == before
