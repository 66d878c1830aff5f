"""Field blocks that never end, inflate, or are made to be hard to decode (RFC 7541 section 7).

What must hold: the verdict is the same on both codecs, it is reached before much memory is spent,
and a connection whose compression state is lost ends.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hpack import Encoder
from http2_peer import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    Goaway,
    Peer,
    RstStream,
    frame,
)

from h2asgi.config import Limits
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import RequestReceived, RequestRejected

FRAME = 16_384
MUCH = 2 * 1024 * 1024
GET_BLOCK = Encoder().encode(GET)


def integer(value: int, prefix: int) -> bytes:
    """RFC 7541 section 5.1, with the bits in front of the prefix at 0."""
    most = 2**prefix - 1
    if value < most:
        return bytes([value])
    octets = bytearray([most])
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


def literal(name: bytes, value: bytes, first: int = 0) -> bytes:
    octets = bytes([first]) + integer(len(name), 7) + name
    return octets + integer(len(value), 7) + value


def block_frames(stream_id: int, block: bytes) -> bytes:
    pieces = [block[start : start + FRAME] for start in range(0, len(block), FRAME)]
    last = len(pieces) - 1
    return b"".join(
        frame(
            CONTINUATION if number else HEADERS,
            (0 if number else END_STREAM) | (END_HEADERS if number == last else 0),
            stream_id,
            piece,
        )
        for number, piece in enumerate(pieces)
    )


INFLATING = GET_BLOCK + literal(b"a", b"x" * 3_900, 0x40)

TOO_LARGE = {
    "references to one large field": INFLATING + b"\xbe" * 4_000,
    "many small fields": GET_BLOCK + literal(b"a", b"b") * 20_000,
    "one large field": GET_BLOCK + literal(b"a", b"b" * 200_000),
    "Huffman code": GET_BLOCK + b"\0\1a" + b"\xff" + integer(120_000, 7)[1:] + bytes(120_000),
    "insertions": GET_BLOCK + b"".join(literal(b"%05d" % n, b"", 0x40) for n in range(9_000)),
}

UNDECODABLE = {
    "three size updates": b"\x20\x20\x20" + GET_BLOCK,
    "100,000 size updates": b"\x20" * 100_000 + GET_BLOCK,
    "three long size updates": b"\x3f\xe1\x1f" * 3 + GET_BLOCK,
    "size update behind a field": GET_BLOCK + b"\x20",
    "size update beyond what is allowed": b"\x3f\xe2\x1f" + GET_BLOCK,
    "size update without an end": b"\x3f\x80\x80",
    "integer without an end": GET_BLOCK + b"\xff" * 2_000,
    "integer of zeros": GET_BLOCK + b"\xff" + b"\x80" * 2_000 + b"\0",
    "index 0": GET_BLOCK + b"\x80",
    "index of nothing": GET_BLOCK + b"\xfe",
    "string beyond the block": GET_BLOCK + b"\0\x7f",
    "Huffman code with EOS": GET_BLOCK + b"\0\1a\x84\xff\xff\xff\xff",
    "Huffman code with an octet of padding": GET_BLOCK + b"\0\1a\x82\x1f\xff",
    "Huffman code with padding of zeros": GET_BLOCK + b"\0\1a\x81\x00",
}


def peak_of(peer: Peer, octets: bytes) -> tuple[list[object], int]:
    tracemalloc.start()
    try:
        answers = peer.exchange(octets)
        return list(answers), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_blocks_that_become_too_large_end_the_connection(peer: Peer, name: str) -> None:
    answers, peak = peak_of(peer, block_frames(1, TOO_LARGE[name]))
    assert isinstance(answers[-1], Goaway)
    assert answers[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM
    assert peak < MUCH
    peer.assert_ended(ErrorCode.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("name", UNDECODABLE)
def test_blocks_that_cannot_be_decoded_end_the_connection(peer: Peer, name: str) -> None:
    answers, peak = peak_of(peer, block_frames(1, UNDECODABLE[name]))
    assert isinstance(answers[-1], Goaway)
    assert answers[-1].error_code == ErrorCode.COMPRESSION_ERROR
    assert peak < MUCH
    peer.assert_ended(ErrorCode.COMPRESSION_ERROR)


def test_two_size_updates_are_what_an_encoder_may_need(peer: Peer) -> None:
    peer.send(block_frames(1, b"\x20\x3f\xe1\x1f" + GET_BLOCK))
    assert isinstance(peer.events()[0], RequestReceived)


def test_lists_that_are_only_somewhat_too_large_are_answered_with_431(peer: Peer) -> None:
    """With 4 KiB on the wire; the compression state is whole, so the connection goes on."""
    peer.send(block_frames(1, INFLATING + b"\xbe" * 16))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert event.status == 431
    peer.respond(1)
    peer.encoder = Encoder()
    peer.assert_serves()


@pytest.mark.parametrize("size", [0, 1, FRAME])
def test_blocks_that_never_end_are_cut_off(peer: Peer, size: int) -> None:
    """CVE-2024-27316."""
    peer.send(frame(HEADERS, END_STREAM, 1, GET_BLOCK))
    tracemalloc.start()
    try:
        for frames in range(1, 1_000):  # noqa: B007
            peer.send(frame(CONTINUATION, 0, 1, bytes(size)))
            if peer.events():
                break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frames <= 65
    assert peak < MUCH
    answers = peer.received()
    assert isinstance(answers[-1], Goaway)
    assert answers[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.fixture
def few(connect: Callable[..., Peer]) -> Peer:
    return connect(limits=Limits(http2_max_header_fields=20))


def test_more_fields_than_are_allowed_are_answered_with_431(few: Peer) -> None:
    fields = [(b"x-%d" % number, b"v") for number in range(30)]
    few.send(few.headers(1, GET, *fields[:19]))  # and host
    few.send(few.headers(3, GET, *fields[:20]))
    first, second = few.events()
    assert isinstance(first, RequestReceived)
    assert isinstance(second, RequestRejected)
    assert (second.status, second.method, second.target) == (431, "GET", b"/")


def test_cookies_count_as_one_field(few: Peer) -> None:
    """Browsers cut them into pieces (RFC 9113 section 8.2.3)."""
    few.send(few.headers(1, GET, *[(b"cookie", b"c%d=v" % number) for number in range(100)]))
    (event,) = few.events()
    assert isinstance(event, RequestReceived)
    assert len(event.headers) == 2


def test_trailers_are_no_way_around(peer: Peer) -> None:
    peer.post(1)
    block = literal(b"x", b"v" * 100) * 5_000
    answers = peer.exchange(block_frames(1, block))
    assert isinstance(answers[-1], Goaway)
    peer.assert_ended(ErrorCode.ENHANCE_YOUR_CALM)


def test_malformed_trailers_cost_their_stream(peer: Peer) -> None:
    peer.post(1)
    peer.post(3)
    assert peer.exchange(peer.headers(3, [(b"X", b"v")])) == [
        RstStream(3, ErrorCode.PROTOCOL_ERROR)
    ]
