"""Requests that break a rule: never a request for the application, always the same answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_malformed import HOST, LINE, MALFORMED_BODIES, MALFORMED_HEADS
from http1_peer import GET, POST_CHUNKED, Peer, termination

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import (
    DataReceived,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    StreamReset,
)


def cases(table: dict[str, tuple[bytes, int]]) -> list[object]:
    return [pytest.param(octets, status, id=name) for name, (octets, status) in table.items()]


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_HEADS))
def test_malformed_head_is_rejected_once(peer: Peer, octets: bytes, status: int) -> None:
    events = peer.feed(octets)
    assert [type(event) for event in events] == [RequestRejected]
    assert (events[0].stream_id, events[0].status) == (1, status)


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_HEADS))
def test_malformed_head_is_rejected_alike_octet_by_octet(
    connect: Callable[..., Peer], octets: bytes, status: int
) -> None:
    whole = connect().feed(octets)
    peer = connect()
    events = [event for octet in octets for event in peer.feed(bytes([octet]))]
    assert events == whole


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_HEADS))
def test_rejected_request_is_answered_and_ends_the_connection(
    peer: Peer, octets: bytes, status: int
) -> None:
    """RFC 9112 section 2.2: respond with 400 and close; what follows is never a request."""
    peer.feed(octets)
    assert peer.feed(GET) == []
    end = termination(peer.answer(1, b"no\n", status))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)
    head, _, body = peer.received().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert head.endswith(b"\r\nconnection: close")
    assert body == b"no\n"
    assert peer.feed(GET) == []


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_BODIES))
def test_malformed_body_breaks_off_the_request(peer: Peer, octets: bytes, status: int) -> None:
    """The application learns of it, and the client gets an answer while none has begun."""
    request, *events = peer.feed(POST_CHUNKED + octets)
    assert isinstance(request, RequestReceived)
    assert not any(isinstance(event, RequestEnded) for event in events)
    reset, rejected = (event for event in events if not isinstance(event, DataReceived))
    assert isinstance(reset, StreamReset)
    assert (reset.stream_id, reset.error_code, reset.remote) == (1, ErrorCode.PROTOCOL_ERROR, False)
    assert isinstance(rejected, RequestRejected)
    assert (rejected.stream_id, rejected.status, rejected.method) == (2, status, "POST")
    assert peer.answer(1, b"late") == []
    assert termination(peer.answer(2, b"no\n", status)).unread_input
    assert peer.received().startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_BODIES))
def test_malformed_body_cuts_off_a_response_that_has_begun(
    peer: Peer, octets: bytes, status: int
) -> None:
    peer.feed(POST_CHUNKED)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"half", False)
    events = peer.feed(octets)
    assert isinstance(events[-2], StreamReset)
    end = termination(events)
    assert (end.error_code, end.unread_input) == (ErrorCode.PROTOCOL_ERROR, False)
    assert peer.received().endswith(b"4\r\nhalf\r\n")  # and no last chunk


@pytest.mark.parametrize(("octets", "status"), cases(MALFORMED_BODIES))
def test_malformed_body_behind_a_finished_response_ends_the_connection(
    peer: Peer, octets: bytes, status: int
) -> None:
    peer.feed(POST_CHUNKED)
    assert peer.answer(1, b"early") == []
    events = peer.feed(octets)
    assert len(events) == 1
    end = termination(events)
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)


def test_data_before_a_mistake_is_delivered(peer: Peer) -> None:
    events = peer.feed(POST_CHUNKED + b"5\r\nhello\r\nz\r\n")
    assert events[1] == DataReceived(1, b"hello")
    assert isinstance(events[2], StreamReset)


def test_rejection_waits_for_the_response_before_it(peer: Peer) -> None:
    """RFC 9112 section 9.3.2: answers keep the order of the requests."""
    events = peer.feed(GET + b"nonsense\r\n\r\n")
    assert [type(event) for event in events] == [RequestReceived]
    (rejected,) = peer.answer(1, b"one")
    assert isinstance(rejected, RequestRejected)
    assert (rejected.stream_id, rejected.status) == (2, 400)
    assert termination(peer.answer(2, b"two", 400)).unread_input
    first, second = peer.received().split(b"one")
    assert b"connection: close" not in first
    assert second.startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("octets", "made_out"),
    [
        (b"PUT /x HTTP/1.0\r\nA B: 1\r\n\r\n", ("PUT", b"/x", "1.0")),
        (LINE + HOST + HOST + b"\r\n", ("GET", b"/", "1.1")),
        (b"\x16\x03\x01", ("", b"", "1.1")),
        (b"GET /a\0b HTTP/1.0\r\n\r\n", ("GET", b"/a", "1.1")),
        (b"hello\r\n\r\n", ("", b"", "1.1")),
        (b"G T / HTTP/1.1\r\n\r\n", ("G", b"T", "1.1")),
        (b"(GET / HTTP/1.1\r\n\r\n", ("", b"", "1.1")),
    ],
)
def test_rejection_says_what_could_be_made_out(
    peer: Peer, octets: bytes, made_out: tuple[str, bytes, str]
) -> None:
    (event,) = peer.feed(octets)
    assert isinstance(event, RequestRejected)
    assert (event.method, event.target, event.http_version) == made_out


def test_answer_to_a_rejected_head_request_has_no_body(peer: Peer) -> None:
    """RFC 9110 section 9.3.2."""
    peer.feed(b"HEAD / HTTP/1.1\r\n\r\n")
    peer.answer(1, b"no host\n", 400)
    assert peer.received().endswith(b"content-length: 8\r\nconnection: close\r\n\r\n")


def test_input_behind_a_rejected_request_is_not_kept(peer: Peer) -> None:
    peer.feed(b"hello\r\n\r\n")
    for _ in range(100):
        assert peer.feed(b"x" * 65_536) == []
    assert not peer.engine.reading_suspended
