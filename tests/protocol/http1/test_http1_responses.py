"""What goes out: heads, framing, trailers, to the octet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import GET, Peer, post, termination

from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import Engine

GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
GET_1_0_KEPT = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"


def test_declared_length_frames_the_body(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"5"), (b"x", b"\xff")], False)
    assert peer.engine.send_data(1, b"he", False) > 0
    peer.engine.send_data(1, b"llo", True)
    assert peer.received() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: \xff\r\n\r\nhello"


def test_undeclared_length_is_chunked(peer: Peer) -> None:
    """RFC 9112 section 7.1; an empty piece must not end the body."""
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"hello", False)
    peer.engine.send_data(1, b"", False)
    peer.engine.send_data(1, b"0123456789abcdef", False)
    peer.engine.send_data(1, b"", True)
    assert peer.received() == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )


def test_last_piece_may_come_with_the_end(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"hello", True)
    assert peer.received().endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


def test_response_without_body_says_so(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 404, [], True)
    assert peer.received() == b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def test_space_stays_where_there_is_no_reason_phrase(peer: Peer) -> None:
    """RFC 9112 section 4."""
    peer.feed(GET)
    peer.engine.send_headers(1, 599, [], True)
    assert peer.received().startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (GET, 204),
        (GET, 304),
    ],
)
def test_response_that_has_no_body_drops_what_is_sent(
    connect: Callable[..., Peer], request_head: bytes, status: int
) -> None:
    """RFC 9112 section 6.3, rule 1; no chunked framing either (section 6.1)."""
    peer = connect()
    peer.feed(request_head)
    peer.engine.send_headers(1, status, [(b"etag", b'"x"')], False)
    peer.engine.send_data(1, b"body", False)
    peer.engine.send_data(1, b"body", True)
    head, end, body = peer.received().partition(b'etag: "x"\r\n\r\n')
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert head.count(b"\r\n") == 1
    assert (end, body) == (b'etag: "x"\r\n\r\n', b"")
    assert peer.feed(GET)[0].stream_id == 2


def test_head_keeps_the_declared_length(peer: Peer) -> None:
    """RFC 9110 section 9.3.2: the fields are those of a GET."""
    peer.feed(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    (following,) = peer.answer(1, b"hello")
    assert following.stream_id == 2
    assert peer.received() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


def test_204_has_no_content_length(peer: Peer) -> None:
    """RFC 9110 section 8.6; RFC 9112 section 6.1 forbids transfer-encoding as well."""
    peer.feed(GET)
    peer.engine.send_headers(1, 204, [(b"content-length", b"0")], True)
    assert peer.received() == b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "fields", "option"),
    [
        (GET, [(b"upgrade", b"a/2")], b"connection: upgrade\r\n"),
        (GET, [(b"upgrade", b"a/2"), (b"connection", b"Upgrade")], b"connection: upgrade\r\n"),
        (GET, [(b"upgrade", b"a"), (b"connection", b"close")], b"connection: upgrade, close\r\n"),
        (GET_1_0_KEPT, [(b"upgrade", b"a")], b"connection: upgrade, keep-alive\r\n"),
        (GET, [(b"keep-alive", b"timeout=5"), (b"connection", b"keep-alive")], b""),
    ],
)
def test_fields_about_the_connection_are_named_as_its_options(
    peer: Peer, head: bytes, fields: list[tuple[bytes, bytes]], option: bytes
) -> None:
    """RFC 9110 sections 7.6.1 and 7.8. How long it stays is not the application's to say."""
    peer.feed(head)
    peer.engine.send_headers(1, 426, fields, True)
    told = b"".join(b"upgrade: %b\r\n" % value for name, value in fields if name == b"upgrade")
    expected = b"HTTP/1.1 426 Upgrade Required\r\n%bcontent-length: 0\r\n%b\r\n" % (told, option)
    assert peer.received() == expected


def test_trailers_end_a_chunked_response(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"hi", False)
    peer.engine.send_trailers(1, [(b"x-sum", b"7"), (b"y", b"")])
    assert peer.received().endswith(b"2\r\nhi\r\n0\r\nx-sum: 7\r\ny: \r\n\r\n")
    assert peer.feed(GET)[0].stream_id == 2


@pytest.mark.parametrize(("head", "fields"), [(GET, [(b"content-length", b"2")]), (GET_1_0, [])])
def test_trailers_without_chunks_are_dropped_and_end_the_response(
    peer: Peer, head: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    peer.feed(head)
    peer.engine.send_headers(1, 200, fields, False)
    peer.engine.send_data(1, b"hi", False)
    peer.engine.send_trailers(1, [(b"x-sum", b"7")])
    assert peer.received().endswith(b"\r\n\r\nhi")
    assert peer.engine.send_data(1, b"more", False) == 0


# HTTP/1.0


def test_1_0_response_of_unknown_length_ends_with_the_connection(peer: Peer) -> None:
    """RFC 9112 section 6.1: no transfer-encoding unless the request was HTTP/1.1."""
    peer.feed(GET_1_0_KEPT)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"hello", False)
    peer.engine.send_data(1, b" world", True)
    assert peer.received() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello world"
    end = termination(peer.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)


def test_1_0_connection_closes_unless_asked_to_stay(peer: Peer) -> None:
    """RFC 9112 section 9.3."""
    peer.feed(GET_1_0)
    termination(peer.answer(1, b"hello"))
    assert peer.received().startswith(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
    )


def test_1_0_keep_alive_is_granted_and_said(peer: Peer) -> None:
    for stream_id in (1, 2):
        assert peer.feed(GET_1_0_KEPT)[0].stream_id == stream_id
        assert peer.answer(stream_id, b"hello") == []
        assert peer.received() == (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello"
        )


def test_1_0_client_never_sees_1xx(peer: Peer) -> None:
    """RFC 9110 section 15.2."""
    peer.feed(GET_1_0)
    peer.engine.send_informational(1, 103, [(b"link", b"</a>")])
    assert peer.received() == b""


# Heads that repeat


def answers(
    peer: Peer, requests: list[bytes], status: int, fields: list[tuple[bytes, bytes]]
) -> list[bytes]:
    """The heads of answers with the same fields to different requests."""
    heads = []
    for stream_id, octets in enumerate(requests, 1):
        peer.feed(octets)
        peer.engine.send_headers(stream_id, status, fields, False)
        peer.engine.send_data(stream_id, b"hello", True)
        heads.append(peer.received().partition(b"\r\n\r\n")[0])
    return heads


def test_repeated_head_depends_on_its_request(peer: Peer) -> None:
    close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    plain = b"HTTP/1.1 200 OK\r\nx: y"
    assert (
        answers(
            peer,
            [GET, GET, GET.replace(b"GET", b"HEAD"), GET, GET_1_0_KEPT, GET, close],
            200,
            [(b"x", b"y")],
        )
        == [
            plain + b"\r\ntransfer-encoding: chunked",
            plain + b"\r\ntransfer-encoding: chunked",
            plain,
            plain + b"\r\ntransfer-encoding: chunked",
            plain + b"\r\nconnection: close",
        ]
        + [b""] * 2
    )


def test_repeated_head_depends_on_its_connection(peer: Peer) -> None:
    """A head that was said on a connection that went on is not said on one that ends."""
    fields = [(b"content-length", b"5")]
    assert answers(peer, [GET, GET], 200, fields) == [b"HTTP/1.1 200 OK\r\ncontent-length: 5"] * 2
    peer.feed(GET)
    peer.engine.begin_shutdown(0.0)
    peer.engine.send_headers(3, 200, fields, False)
    assert peer.received().endswith(b"content-length: 5\r\nconnection: close\r\n\r\n")


def test_repeated_head_counts_its_body_anew(peer: Peer) -> None:
    for stream_id in (1, 2, 3):
        peer.feed(GET)
        peer.engine.send_headers(stream_id, 200, [(b"content-length", b"5")], False)
        peer.engine.send_data(stream_id, b"hello world", True)
        assert peer.received().endswith(b"\r\n\r\nhello")


def test_change_in_a_head_is_seen(peer: Peer) -> None:
    """Also when the application goes on with the same list."""
    fields = [(b"x", b"1")]
    seen = []
    for stream_id, (status, end_stream) in enumerate(
        [(200, False), (200, True), (201, True), (204, True), (200, False), (200, False)], 1
    ):
        peer.feed(GET)
        if stream_id == 6:
            fields[0] = (b"x", b"2")
        peer.engine.send_headers(stream_id, status, fields, end_stream)
        if not end_stream:
            peer.engine.send_data(stream_id, b"", True)
        seen.append(peer.received())
    chunked = b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    assert seen == [
        b"HTTP/1.1 200 OK\r\nx: 1\r\n" + chunked,
        b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nx: 1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: 1\r\n" + chunked,
        b"HTTP/1.1 200 OK\r\nx: 2\r\n" + chunked,
    ]


# Informational responses


def test_informational_response_goes_out_at_once(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_informational(1, 103, [(b"link", b"</a.css>; rel=preload")])
    assert peer.received() == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    assert peer.answer(1) == []


def test_100_goes_to_whoever_waits_for_it_and_once(peer: Peer) -> None:
    """RFC 9110 section 10.1.1."""
    peer.feed(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    peer.engine.send_informational(1, 100, [])
    peer.engine.send_informational(1, 100, [])
    assert peer.received() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert len(peer.feed(b"hi")) == 2
    assert peer.answer(1) == []
    assert b"close" not in peer.received()


def test_100_is_left_out_once_the_body_has_begun(peer: Peer) -> None:
    """RFC 9110 section 10.1.1 allows it; a client that did not wait needs none."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    peer.feed(head + b"h")
    peer.engine.send_informational(1, 100, [])
    assert peer.received() == b""


def test_no_informational_response_behind_the_final_one(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    sent = peer.received()
    peer.engine.send_informational(1, 103, [])
    assert peer.received() == b""
    assert sent


# A body that does not match its declared length


def test_body_beyond_the_declared_length_is_dropped(peer: Peer) -> None:
    """What an application sends too much must not look like the next response."""
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"5")], False)
    peer.engine.send_data(1, b"hello world", False)
    peer.engine.send_data(1, b"!", True)
    assert peer.received().endswith(b"\r\n\r\nhello")
    assert peer.feed(GET)[0].stream_id == 2


def test_body_short_of_the_declared_length_cuts_the_connection(peer: Peer) -> None:
    """RFC 9112 section 8: only the close tells the client that the response is incomplete."""
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"5")], False)
    peer.engine.send_data(1, b"hell", True)
    assert termination(peer.engine.take_events()).error_code == ErrorCode.INTERNAL_ERROR


# Calls that come at the wrong time


def calls(engine: Engine, stream_id: int) -> None:
    engine.send_informational(stream_id, 103, [])
    engine.send_headers(stream_id, 500, [], True)
    assert engine.send_data(stream_id, b"late", True) == 0
    engine.send_trailers(stream_id, [(b"late", b"1")])
    engine.acknowledge_received_data(stream_id, 10)
    engine.reset_stream(stream_id, ErrorCode.CANCEL)


@pytest.mark.parametrize("stream_id", [0, 1, 3])
def test_calls_on_finished_or_unknown_requests_do_nothing(peer: Peer, stream_id: int) -> None:
    """A late task of one request cannot touch the next."""
    peer.feed(GET)
    peer.answer(1)
    peer.feed(GET)
    peer.received()
    calls(peer.engine, stream_id)
    assert peer.received() == b""
    assert peer.engine.take_events() == []
    assert peer.answer(2) == []
    assert peer.received().startswith(b"HTTP/1.1 200 OK\r\n")


def test_calls_on_a_closed_connection_do_nothing(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.terminate(ErrorCode.ENHANCE_YOUR_CALM, "enough")
    (end,) = peer.engine.take_events()
    assert (end.error_code, end.reason) == (ErrorCode.ENHANCE_YOUR_CALM, "enough")
    calls(peer.engine, 1)
    peer.engine.terminate(ErrorCode.NO_ERROR, "again")
    peer.engine.begin_shutdown(0.0)
    assert peer.feed(GET) == []
    assert peer.eof() == []
    assert peer.wait(1000) == []
    assert peer.received() == b""
    assert peer.engine.next_deadline() is None


def test_data_without_a_head_is_not_sent(peer: Peer) -> None:
    peer.feed(GET)
    assert peer.engine.send_data(1, b"x", True) == 0
    peer.engine.send_trailers(1, [])
    assert peer.received() == b""
    assert peer.answer(1) == []


def test_second_head_is_not_sent(peer: Peer) -> None:
    peer.feed(post(0))
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_headers(1, 500, [], True)
    assert peer.received().count(b"HTTP/1.1") == 1
