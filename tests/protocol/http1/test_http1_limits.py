"""Bounds on what a client may make the server hold: to the octet, whatever the reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import POST_CHUNKED, Peer

from h2asgi.protocol.events import DataReceived, RequestEnded, RequestReceived

KIB = 1024


def status(peer: Peer, octets: bytes, read_size: int) -> int:
    """The status of the rejection, or 200 for a request."""
    for start in range(0, len(octets), read_size):
        for event in peer.feed(octets[start : start + read_size]):
            return 200 if isinstance(event, RequestReceived) else event.status
    raise AssertionError("undecided")


def head_of(size: int) -> bytes:
    start, end = b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


def request_line_of(size: int) -> bytes:
    return b"GET /" + b"x" * (size - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("read_size", [1, 7, 100_000])
@pytest.mark.parametrize(("size", "expected"), [(4 * KIB, 200), (4 * KIB + 1, 431)])
def test_head_size(connect: Callable[..., Peer], size: int, expected: int, read_size: int) -> None:
    assert status(connect(max_head_size=4 * KIB), head_of(size), read_size) == expected


@pytest.mark.parametrize("read_size", [1, 7, 100_000])
@pytest.mark.parametrize(("size", "expected"), [(2 * KIB, 200), (2 * KIB + 1, 414)])
def test_request_line_size(
    connect: Callable[..., Peer], size: int, expected: int, read_size: int
) -> None:
    """RFC 9112 section 3: 414 for a target longer than the server wants to parse."""
    assert status(connect(max_head_size=4 * KIB), request_line_of(size), read_size) == expected


def test_default_allows_a_request_line_of_8000_octets(peer: Peer) -> None:
    """RFC 9112 section 3 recommends that much at least."""
    assert status(peer, request_line_of(8000), 100_000) == 200


@pytest.mark.parametrize("read_size", [1, 7, 100_000])
@pytest.mark.parametrize(("count", "expected"), [(256, 200), (257, 431)])
def test_number_of_fields(
    connect: Callable[..., Peer], count: int, expected: int, read_size: int
) -> None:
    octets = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x:1\r\n" * (count - 1) + b"\r\n"
    assert status(connect(), octets, read_size) == expected


@pytest.mark.parametrize("read_size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"GET /" + b"x" * 5000 + b"\0", 414),
        (b"GET /\0" + b"x" * 5000, 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 5000 + b"\0", 431),
        (b"GET / HTTP/1.1\r\nX: \0" + b"x" * 5000, 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"nonsense\r\n" * 1000, 431),
    ],
)
def test_first_wrong_octet_decides(
    connect: Callable[..., Peer], octets: bytes, expected: int, read_size: int
) -> None:
    assert status(connect(max_head_size=4 * KIB), octets, read_size) == expected


def test_endless_head_is_cut_off_at_the_bound(connect: Callable[..., Peer]) -> None:
    """Whatever the client goes on to send, no more than the bound and one read is held."""
    peer = connect(max_head_size=4 * KIB)
    peer.feed(b"GET / HTTP/1.1\r\n")
    fed = 16
    while not (events := peer.feed(b"x: y\r\n" * 10)):
        fed += 60
    assert events[0].status == 431
    assert fed <= 4 * KIB


@pytest.mark.parametrize("read_size", [1, 100_000])
def test_chunk_extensions_are_bounded_over_the_request(
    connect: Callable[..., Peer], read_size: int
) -> None:
    """RFC 9112 section 7.1.1: as many octets of them as a head may have, and not one more."""

    def last_event(total: int) -> object:
        peer = connect(max_head_size=1 * KIB)
        chunks = b"1;" + b"a" * 511 + b"\r\nx\r\n" + b"1;" + b"b" * (total - 513) + b"\r\ny\r\n"
        octets = POST_CHUNKED + chunks + b"0\r\n\r\n"
        events = []
        for start in range(0, len(octets), read_size):
            events += peer.feed(octets[start : start + read_size])
        return events[-1]

    assert last_event(1 * KIB) == RequestEnded(1)
    assert last_event(1 * KIB + 1).status == 431


def test_extension_bound_begins_anew_with_each_request(connect: Callable[..., Peer]) -> None:
    peer = connect(max_head_size=1 * KIB)
    for stream_id in (1, 2, 3):
        events = peer.feed(POST_CHUNKED + b"1;" + b"a" * 800 + b"\r\nx\r\n0\r\n\r\n")
        assert events[1:] == [DataReceived(stream_id, b"x"), RequestEnded(stream_id)]
        peer.answer(stream_id)
