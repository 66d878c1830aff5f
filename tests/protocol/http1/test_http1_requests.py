"""Requests that keep the rules: what the application is told of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import GET, POST_CHUNKED, Peer, post

from h2asgi.protocol.events import DataReceived, RequestEnded, RequestReceived

HOST = (b"host", b"a.example")


def test_request_without_body_is_one_event(peer: Peer) -> None:
    """RFC 9112 section 6.3, rule 7: neither length nor coding means no body."""
    octets = b"GET /a?b=%20 HTTP/1.1\r\nHost: a.example\r\nX-Y:  one \t two\t \r\nx-y:\r\n\r\n"
    headers = [HOST, (b"x-y", b"one \t two"), (b"x-y", b"")]
    assert peer.feed(octets) == [
        RequestReceived(1, "1.1", "GET", b"/a?b=%20", headers, True, accepts_trailers=False)
    ]
    assert peer.received() == b""


def test_content_length_zero_means_no_body(peer: Peer) -> None:
    (event,) = peer.feed(post(0))
    assert event.end_stream


def test_content_length_delimits_the_body(peer: Peer) -> None:
    """RFC 9112 section 6.3, rule 6."""
    headers = [HOST, (b"content-length", b"11")]
    assert peer.feed(post(11, b"hello ")) == [
        RequestReceived(1, "1.1", "POST", b"/", headers, False, accepts_trailers=False),
        DataReceived(1, b"hello "),
    ]
    assert peer.feed(b"world" + GET) == [DataReceived(1, b"world"), RequestEnded(1)]
    (following,) = peer.answer(1)
    assert (following.stream_id, following.method) == (2, "GET")


def test_length_with_leading_zeros_is_decimal(peer: Peer) -> None:
    peer.feed(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0010\r\n\r\n")
    assert peer.feed(b"0123456789") == [DataReceived(1, b"0123456789"), RequestEnded(1)]


def test_chunked_body_is_decoded(peer: Peer) -> None:
    """RFC 9112 section 7.1: sizes in either case, leading zeros, extensions ignored."""
    chunks = b'5\r\nhello\r\n1;\r\n \r\n00A;a=b; c="d e"\r\n0123456789\r\n0;last\r\n\r\n'
    request, *rest = peer.feed(POST_CHUNKED + chunks)
    fields = [HOST, (b"transfer-encoding", b"chunked")]
    assert request == RequestReceived(1, "1.1", "POST", b"/", fields, False, accepts_trailers=False)
    assert rest == [DataReceived(1, b"hello 0123456789"), RequestEnded(1)]


def test_large_chunk_size_is_no_overflow(peer: Peer) -> None:
    """RFC 9112 section 7.1: anticipate large numerals; 2^32 + 5 is not 5."""
    events = peer.feed(POST_CHUNKED + b"100000005\r\nhello")
    assert events[1:] == [DataReceived(1, b"hello")]
    assert peer.feed(b"\r\n0\r\n\r\n") == [DataReceived(1, b"\r\n0\r\n\r\n")]
    events = peer.feed(b"x" * 10)
    assert events == [DataReceived(1, b"x" * 10)]


def test_trailers_come_with_the_end_and_apart_from_the_headers(peer: Peer) -> None:
    """RFC 9112 section 7.1.2: trailers are not merged into the header section."""
    request, _, end = peer.feed(POST_CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 7\r\nHost: b\r\n\r\n")
    assert end == RequestEnded(1, [(b"x-sum", b"7"), (b"host", b"b")])
    assert request.headers == [HOST, (b"transfer-encoding", b"chunked")]


def test_coding_name_is_case_insensitive(peer: Peer) -> None:
    """RFC 9112 section 7."""
    octets = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChunKed\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    assert peer.feed(octets)[1:] == [DataReceived(1, b"x"), RequestEnded(1)]


def test_one_empty_line_before_a_request_is_ignored(peer: Peer) -> None:
    """RFC 9112 section 2.2: also behind a request, where old clients sent one too many."""
    assert [event.stream_id for event in peer.feed(b"\r\n" + GET)] == [1]
    peer.answer(1)
    assert peer.feed(b"\r") == []
    assert peer.feed(b"\n") == []
    assert [event.stream_id for event in peer.feed(GET)] == [2]


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"http://b.example/x?y", b"a.example", (b"/x?y", b"b.example")),
        (b"HTTPS://b.example:8443", b"a.example", (b"/", b"b.example:8443")),
        (b"http://b.example?y", b"a.example", (b"/?y", b"b.example")),
        (b"http://[::1]:80/", b"a.example", (b"/", b"[::1]:80")),
        (b"//b.example/x", b"a.example", (b"//b.example/x", b"a.example")),
        (b"/http://b.example/", b"a.example", (b"/http://b.example/", b"a.example")),
    ],
)
def test_authority_of_the_target_replaces_host(
    peer: Peer, target: bytes, host: bytes, expected: tuple[bytes, bytes]
) -> None:
    """RFC 9112 section 3.2.2: absolute-form is accepted, and Host then ignored."""
    (event,) = peer.feed(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert (event.target, event.headers) == (expected[0], [(b"host", expected[1])])


@pytest.mark.parametrize("target", [b"*", b"http://a.example"])
def test_asterisk_form_of_options(peer: Peer, target: bytes) -> None:
    """RFC 9112 section 3.2.4; an empty path in absolute-form means the same."""
    (event,) = peer.feed(b"OPTIONS %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % target)
    assert (event.method, event.target, event.headers) == ("OPTIONS", b"*", [HOST])


def test_http_1_0_needs_no_host(peer: Peer) -> None:
    (event,) = peer.feed(b"GET / HTTP/1.0\r\n\r\n")
    assert (event.http_version, event.headers) == ("1.0", [])


def test_octets_beyond_ascii_in_values_are_opaque(peer: Peer) -> None:
    """RFC 9112 section 2.2: a message is octets, not text."""
    (event,) = peer.feed(b"GET / HTTP/1.1\r\nHost: a.example\r\nX: \xc3\xa4\xff\r\n\r\n")
    assert event.headers[1] == (b"x", b"\xc3\xa4\xff")


def test_cookies_are_joined(peer: Peer) -> None:
    """Field note 16."""
    octets = b"GET / HTTP/1.1\r\nCookie: a=1\r\nHost: a.example\r\nCookie: b=2\r\n\r\n"
    (event,) = peer.feed(octets)
    assert event.headers == [HOST, (b"cookie", b"a=1; b=2")]


def test_expectation_is_passed_on_with_a_body_only(connect: Callable[..., Peer]) -> None:
    """RFC 9110 section 10.1.1: to be ignored in HTTP/1.0, and without a body."""

    def expect_continue(version: bytes, length: bytes) -> bool:
        head = b"POST / HTTP/%b\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: %b\r\n\r\n"
        (event,) = connect().feed(head % (version, length))
        return event.expect_continue

    assert expect_continue(b"1.1", b"5")
    assert not expect_continue(b"1.1", b"0")
    assert not expect_continue(b"1.0", b"5")


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"h2c, foo/2", b"TLS/1.3"])
def test_upgrade_is_ignored(peer: Peer, upgrade: bytes) -> None:
    """Field note 14: Java's client asks for h2c with a body and reuses the connection."""
    head = (
        b"POST /up HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 5\r\n"
        b"Host: a.example\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: %b\r\n\r\n" % upgrade
    )
    request, *rest = peer.feed(head + b"hello" + GET)
    assert (request.method, request.target, request.end_stream) == ("POST", b"/up", False)
    assert rest == [DataReceived(1, b"hello"), RequestEnded(1)]
    (following,) = peer.answer(1, b"ok")
    assert (following.stream_id, following.method) == (2, "GET")
    assert peer.answer(2, b"ok") == []
    assert peer.received().count(b"HTTP/1.1 200 OK\r\n") == 2
    assert peer.engine.next_deadline() is not None


def test_upgrade_without_body_is_ignored(peer: Peer) -> None:
    peer.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert peer.answer(1) == []
    (following,) = peer.feed(GET)
    assert following.stream_id == 2


def test_many_small_chunks_are_one_event_per_read(peer: Peer) -> None:
    """A client that sends an octet per chunk does not cost an event per octet."""
    events = peer.feed(POST_CHUNKED + b"1\r\nx\r\n" * 5000)
    assert events[1:] == [DataReceived(1, b"x" * 5000)]


def test_empty_read_changes_nothing(peer: Peer) -> None:
    assert peer.feed(b"") == []
    assert peer.feed(GET)[0].stream_id == 1


def test_engine_names_itself(peer: Peer) -> None:
    assert peer.engine.http_version == "1.1"
    assert peer.engine.name
    peer.engine.ping(b"12345678")
    assert peer.received() == b""
