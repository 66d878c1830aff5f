"""When a connection goes on, when it ends, and what is still answered before it does."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from http1_peer import GET, POST_CHUNKED, Peer, post, termination

from h2asgi.config import Limits
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import DataReceived, RequestEnded, RequestReceived, StreamReset

KIB = 1024
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def begin(peer: Peer, stream_id: int = 1) -> bytes:
    """Begin a chunked response, return its head."""
    peer.engine.send_headers(stream_id, 200, [], False)
    return peer.received()


# Keep-alive and close (RFC 9112 sections 9.3 and 9.6)


def test_connection_persists_by_default(peer: Peer) -> None:
    for stream_id in range(1, 6):
        (request,) = peer.feed(GET)
        assert request.stream_id == stream_id
        assert peer.answer(stream_id, b"x") == []
        assert b"connection" not in peer.received()


def test_last_request_of_a_limit_is_answered_with_close(connect: Callable[..., Peer]) -> None:
    peer = connect(limits=Limits(requests_per_connection=3))
    peer.feed(GET + GET)
    for stream_id in (1, 2):
        peer.answer(stream_id, b"x")
        assert b"connection" not in peer.received()
    peer.feed(GET + GET)
    assert termination(peer.answer(3, b"x")).error_code == ErrorCode.NO_ERROR
    assert peer.received().endswith(b"connection: close\r\n\r\nx")


@pytest.mark.parametrize(
    "value",
    [b"close", b"Close", b"keep-alive, close", b"x,\tCLOSE ,y", b"upgrade\r\nConnection: close"],
)
def test_close_option_of_the_request_is_obeyed(peer: Peer, value: bytes) -> None:
    """RFC 9112 section 9.6: close after the response, say so, process nothing further."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + value + b"\r\n\r\n"
    assert [event.stream_id for event in peer.feed(head + GET)] == [1]
    assert termination(peer.answer(1, b"x")).error_code == ErrorCode.NO_ERROR
    assert peer.received().endswith(b"connection: close\r\n\r\nx")
    assert peer.feed(GET) == []


def test_close_option_of_1_0_wins_over_keep_alive(peer: Peer) -> None:
    peer.feed(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")
    termination(peer.answer(1))


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, close"])
def test_close_option_of_the_application_is_obeyed(peer: Peer, value: bytes) -> None:
    peer.feed(GET + GET)
    end = termination(peer.answer(1, headers=[(b"connection", value)]))
    assert end.unread_input  # the second request, which is not processed
    assert peer.received() == (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def test_keep_alive_option_of_the_application_is_left_out(peer: Peer) -> None:
    """Libraries for server-sent events set it; on HTTP/1.1 it says nothing."""
    peer.feed(GET)
    assert peer.answer(1, headers=[(b"connection", b"keep-alive")]) == []
    assert b"connection" not in peer.received()


# Pipelining (RFC 9112 section 9.3.2)


def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(1, 4))
    events = peer.feed(requests)
    for n in (1, 2, 3):
        (request,) = events
        assert (request.stream_id, request.target) == (n, b"/%d" % n)
        assert peer.answer(n + 1, b"too early") == []
        events = peer.answer(n, b"answer %d" % n)
    assert events == []
    bodies = [part[-8:] for part in peer.received().split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3"]


def test_pipelined_request_waits_for_the_response_to_end(peer: Peer) -> None:
    peer.feed(GET + post(2, b"hi"))
    begin(peer)
    peer.engine.send_data(1, b"x", False)
    assert peer.engine.take_events() == []
    peer.engine.send_data(1, b"", True)
    request, data, end = peer.engine.take_events()
    assert (request.stream_id, data, end) == (2, DataReceived(2, b"hi"), RequestEnded(2))


def test_pipelined_request_waits_until_a_large_response_has_left(peer: Peer) -> None:
    """A client that pipelines and does not read cannot pile up responses."""
    peer.feed(GET * 3)
    peer.respond(1, b"x" * 300 * KIB)
    assert peer.engine.take_events() == []
    peer.engine.data_to_send(200 * KIB, 0.0)
    assert peer.engine.take_events() == []
    peer.engine.data_to_send(200 * KIB, 0.0)
    assert [event.stream_id for event in peer.engine.take_events()[1:]] == [2]


def test_pipelined_request_may_arrive_in_parts(peer: Peer) -> None:
    peer.feed(GET + GET[:10])
    assert peer.answer(1) == []
    assert [event.stream_id for event in peer.feed(GET[10:])] == [2]


# The end of input


def test_eof_before_a_request_is_a_quiet_end(peer: Peer) -> None:
    assert termination(peer.eof()).error_code == ErrorCode.NO_ERROR
    assert peer.received() == b""


def test_eof_between_requests_is_a_quiet_end(peer: Peer) -> None:
    peer.feed(GET)
    peer.answer(1)
    peer.received()
    end = termination(peer.eof())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)


@pytest.mark.parametrize("octets", [b"G", GET[:-2], b"\r\n"])
def test_eof_within_a_head_ends_without_an_answer(peer: Peer, octets: bytes) -> None:
    """RFC 9112 section 8: there is nobody left to tell."""
    peer.feed(octets)
    events = peer.eof()
    assert len(events) == 1
    assert termination(events).error_code == ErrorCode.NO_ERROR
    assert peer.received() == b""


@pytest.mark.parametrize(
    "octets",
    [post(10, b"hello"), POST_CHUNKED + b"5\r\nhello\r\n", POST_CHUNKED + b"0\r\nx: 1\r\n"],
)
def test_eof_within_a_body_is_no_end_of_it(peer: Peer, octets: bytes) -> None:
    """RFC 9112 section 8: incomplete without the declared length or the last chunk."""
    events = peer.feed(octets)
    assert not any(isinstance(event, RequestEnded) for event in events)
    reset, end = peer.eof()
    assert isinstance(reset, StreamReset)
    assert (reset.stream_id, reset.remote) == (1, True)
    assert end.error_code != ErrorCode.NO_ERROR
    assert not end.unread_input
    assert peer.answer(1) == []


def test_half_closed_client_gets_its_answer(peer: Peer) -> None:
    peer.feed(post(2, b"hi"))
    assert peer.eof() == []
    end = termination(peer.answer(1, b"answer"))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)
    assert peer.received().endswith(b"connection: close\r\n\r\nanswer")


def test_half_closed_client_gets_all_pipelined_answers(peer: Peer) -> None:
    peer.feed(GET * 2)
    assert peer.eof() == []
    (request,) = peer.answer(1, b"one")
    assert isinstance(request, RequestReceived)
    termination(peer.answer(2, b"two"))
    received = peer.received()
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"connection: close") == 1


def test_half_closed_client_with_half_a_request_behind(peer: Peer) -> None:
    peer.feed(GET + GET[:-1])
    peer.eof()
    assert termination(peer.answer(1, b"one")).error_code == ErrorCode.NO_ERROR


# A response that ends before its request (RFC 9112 section 9.3: read the body or close)


def test_rest_of_the_body_is_discarded_and_the_connection_lives(peer: Peer) -> None:
    """Field note 1."""
    peer.feed(post(200 * KIB, b"x" * KIB))
    assert peer.answer(1, b"early") == []
    assert b"close" not in peer.received()
    assert peer.feed(b"x" * 100 * KIB) == []
    (request,) = peer.feed(b"x" * 99 * KIB + GET)
    assert (request.stream_id, request.method) == (2, "GET")


def test_rest_of_a_chunked_body_is_discarded_too(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.answer(1, b"early")
    assert peer.feed(b"5\r\nhello\r\n") == []
    assert [event.stream_id for event in peer.feed(b"0\r\nx: 1\r\n\r\n" + GET)] == [2]


def test_connection_ends_when_too_much_is_outstanding(peer: Peer) -> None:
    peer.feed(post(300 * KIB, b"x" * KIB))
    end = termination(peer.answer(1, b"too large", 413))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)
    assert peer.received().endswith(b"\r\n\r\ntoo large")


def test_connection_ends_when_too_much_has_been_discarded(peer: Peer) -> None:
    peer.feed(POST_CHUNKED)
    peer.answer(1, b"early")
    chunk = b"8000\r\n" + b"x" * 32 * KIB + b"\r\n"
    assert peer.feed(chunk * 7) == []
    end = termination(peer.feed(chunk))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)


def test_connection_ends_when_the_rest_is_cut_off(peer: Peer) -> None:
    peer.feed(post(10))
    peer.answer(1, b"early")
    end = termination(peer.eof())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)


def test_body_is_read_while_the_response_is_under_way(peer: Peer) -> None:
    peer.feed(post(10, b"hello"))
    begin(peer)
    assert peer.feed(b"world") == [DataReceived(1, b"world"), RequestEnded(1)]
    peer.engine.send_data(1, b"done", True)
    assert peer.engine.take_events() == []


def test_final_response_instead_of_100_ends_the_connection(peer: Peer) -> None:
    """RFC 9110 section 10.1.1: say whether the connection closes; the client may not send on."""
    peer.feed(EXPECT)
    end = termination(peer.answer(1, b"no", 417))
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)
    assert b"connection: close\r\n" in peer.received()


def test_client_that_does_not_wait_for_100_keeps_its_connection(peer: Peer) -> None:
    peer.feed(EXPECT + b"h")
    assert peer.answer(1, b"no", 417) == []
    assert [event.stream_id for event in peer.feed(b"ello" + GET)] == [2]


# Resets


def test_reset_leaves_a_begun_response_visibly_truncated(peer: Peer) -> None:
    """RFC 9112 section 8: no last chunk, and an end that is not graceful."""
    peer.feed(GET + GET)
    begin(peer)
    peer.engine.send_data(1, b"half", False)
    peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
    events = peer.engine.take_events()
    assert len(events) == 1
    assert termination(events).error_code == ErrorCode.INTERNAL_ERROR
    assert peer.received() == b"4\r\nhalf\r\n"


@pytest.mark.parametrize("begun", [False, True])
def test_reset_without_an_error_is_no_graceful_end_either(peer: Peer, begun: bool) -> None:
    peer.feed(GET)
    if begun:
        begin(peer)
    peer.engine.reset_stream(1, ErrorCode.NO_ERROR)
    assert termination(peer.engine.take_events()).error_code != ErrorCode.NO_ERROR


def test_what_was_cut_off_does_not_end_like_a_whole_response(peer: Peer) -> None:
    """A body that ends with the connection: only an abort tells it from a complete one."""
    peer.feed(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n")
    begin(peer)
    peer.engine.send_data(1, b"half", False)
    peer.engine.reset_stream(1, ErrorCode.CANCEL)
    end = termination(peer.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.CANCEL, False)


# Shutdown


@pytest.mark.parametrize("octets", [b"", b"GET / HT", b"\r\n"])
def test_shutdown_without_a_request_ends_at_once(peer: Peer, octets: bytes) -> None:
    peer.feed(octets)
    peer.engine.begin_shutdown(0.0)
    assert termination(peer.engine.take_events()).error_code == ErrorCode.NO_ERROR
    assert peer.received() == b""


def test_shutdown_between_requests_ends_at_once(peer: Peer) -> None:
    peer.feed(GET)
    peer.answer(1)
    peer.received()
    peer.engine.begin_shutdown(0.0)
    end = termination(peer.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)


def test_a_shutdown_that_is_announced_makes_the_next_response_the_last(peer: Peer) -> None:
    peer.feed(GET)
    peer.answer(1)
    peer.received()
    assert peer.engine.announce_shutdown(peer.now + 2.0) == peer.now  # since when it is idle
    assert peer.engine.take_events() == []
    peer.feed(GET)
    assert peer.engine.announce_shutdown(peer.now) == -inf
    assert termination(peer.answer(2, b"ok")).error_code == ErrorCode.NO_ERROR
    assert peer.received().endswith(b"connection: close\r\n\r\nok")


def test_shutdown_lets_the_request_in_progress_finish(peer: Peer) -> None:
    peer.feed(post(2, b"h"))
    peer.engine.begin_shutdown(0.0)
    assert peer.engine.take_events() == []
    assert peer.feed(b"i" + GET) == [DataReceived(1, b"i"), RequestEnded(1)]
    assert termination(peer.answer(1, b"ok")).error_code == ErrorCode.NO_ERROR
    assert peer.received().endswith(b"connection: close\r\n\r\nok")


def test_shutdown_within_a_response_ends_behind_it(peer: Peer) -> None:
    peer.feed(GET + GET)
    begin(peer)
    peer.engine.begin_shutdown(0.0)
    assert peer.engine.take_events() == []
    peer.engine.send_data(1, b"ok", True)
    assert peer.engine.take_events() == []
    assert termination(peer.leave()).error_code == ErrorCode.NO_ERROR
    assert peer.received() == b"2\r\nok\r\n0\r\n\r\n"


def test_shutdown_while_discarding_ends_at_once(peer: Peer) -> None:
    peer.feed(post(10))
    peer.answer(1)
    peer.engine.begin_shutdown(0.0)
    assert termination(peer.engine.take_events()).unread_input


def test_shutdown_while_a_rejection_is_answered_ends_behind_it(peer: Peer) -> None:
    peer.feed(b"nonsense\r\n\r\n")
    peer.engine.begin_shutdown(0.0)
    assert peer.engine.take_events() == []
    termination(peer.answer(1, b"no", 400))


def test_shutdown_while_a_response_leaves_still_sends_it(peer: Peer) -> None:
    peer.feed(GET)
    peer.answer(1, b"x" * 100 * KIB)
    peer.engine.begin_shutdown(0.0)
    assert termination(peer.engine.take_events()).error_code == ErrorCode.NO_ERROR
    assert len(peer.received()) > 100 * KIB


def test_1_0_body_without_length_has_none(connect: Callable[..., Peer]) -> None:
    """RFC 9112 section 6.3, rule 7: a request body never extends to the end of the connection."""
    peer = connect()
    (request,) = peer.feed(b"POST / HTTP/1.0\r\n\r\nhello")
    assert request.end_stream
    assert termination(peer.answer(1)).unread_input
