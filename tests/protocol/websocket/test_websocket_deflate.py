"""permessage-deflate once it is agreed on (RFC 7692 sections 6 and 7.2)."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from websocket_peer import (
    BINARY,
    CONTINUATION,
    PING,
    RSV1,
    RSV2,
    TAIL,
    TEXT,
    Deflater,
    Inflater,
    failed_with,
    frame,
    frames,
    header,
)

from h2asgi.protocol.websocket.codec import Codec
from h2asgi.protocol.websocket.deflate import MAX_FINAL_BLOCKS, Agreement

HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
BOMB = Deflater().compress(bytes(1 << 22))


@pytest.fixture
def codec(connect: Callable[..., Codec]) -> Codec:
    return connect(deflate=Agreement())


def test_the_example_of_one_block(codec: Codec) -> None:
    assert codec.receive_data(frame(TEXT, HELLO, reserved=RSV1)) == ["Hello"]


def test_the_example_in_two_fragments(codec: Codec) -> None:
    octets = frame(TEXT, HELLO[:3], fin=False, reserved=RSV1) + frame(CONTINUATION, HELLO[3:])
    assert codec.receive_data(octets) == ["Hello"]


def test_the_example_that_uses_the_window_of_the_message_before(codec: Codec) -> None:
    again = bytes.fromhex("f200110000")  # section 7.2.3.2
    octets = frame(TEXT, HELLO, reserved=RSV1) + frame(TEXT, again, reserved=RSV1)
    assert codec.receive_data(octets) == ["Hello"] * 2


def test_the_example_without_compression(codec: Codec) -> None:
    stored = bytes.fromhex("000500faff48656c6c6f00")  # section 7.2.3.3
    assert codec.receive_data(frame(TEXT, stored, reserved=RSV1)) == ["Hello"]


def test_the_example_with_a_final_block(codec: Codec) -> None:
    final = bytes.fromhex("f348cdc9c9070000")  # section 7.2.3.4
    octets = frame(TEXT, final, reserved=RSV1)
    assert codec.receive_data(octets + octets) == ["Hello"] * 2


def test_the_example_of_two_blocks(codec: Codec) -> None:
    two = bytes.fromhex("f248050000 00ffff cac9c90700".replace(" ", ""))  # section 7.2.3.5
    assert codec.receive_data(frame(TEXT, two, reserved=RSV1)) == ["Hello"]


def test_the_window_reaches_back_over_a_final_block_of_the_same_message(codec: Codec) -> None:
    data = os.urandom(200)
    first = zlib.compressobj(wbits=-15)
    octets = first.compress(data) + first.flush()
    second = zlib.compressobj(wbits=-15, zdict=data)
    octets += second.compress(data) + second.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]
    assert len(octets) < 2 * len(data)
    assert codec.receive_data(frame(BINARY, octets, reserved=RSV1)) == [data * 2]


def test_final_blocks_are_bounded(codec: Codec) -> None:
    final = b"\x03\x00"  # an empty stream
    octets = frame(BINARY, final * MAX_FINAL_BLOCKS + b"\x00", reserved=RSV1)
    assert codec.receive_data(octets * 2) == [b""] * 2
    octets = frame(BINARY, final * (MAX_FINAL_BLOCKS + 1) + b"\x00", reserved=RSV1)
    assert failed_with(codec, codec.receive_data(octets)) == 1007


def test_a_message_need_not_be_compressed(codec: Codec) -> None:
    octets = frame(TEXT, HELLO, reserved=RSV1) + frame(TEXT, b"plain")
    octets += frame(BINARY, fin=False) + frame(CONTINUATION, b"too")
    assert codec.receive_data(octets) == [
        "Hello",
        "plain",
        b"too",
    ]


def test_an_empty_message_may_be_compressed(codec: Codec) -> None:
    assert codec.receive_data(frame(TEXT, b"\x00", reserved=RSV1)) == [""]


def test_an_empty_message_goes_out_uncompressed(codec: Codec) -> None:
    assert [sent.reserved for sent in frames(codec.send_message("") * 2)] == [0, 0]


@pytest.mark.parametrize("opcode", [CONTINUATION, PING])
def test_only_the_first_frame_of_a_message_says_that_it_is_compressed(
    codec: Codec, opcode: int
) -> None:
    codec.receive_data(frame(TEXT, HELLO[:3], fin=False, reserved=RSV1))
    assert failed_with(codec, codec.receive_data(frame(opcode, HELLO[3:], reserved=RSV1))) == 1002


def test_the_other_bits_stay_reserved(codec: Codec) -> None:
    assert failed_with(codec, codec.receive_data(frame(TEXT, HELLO, reserved=RSV1 | RSV2))) == 1002


def test_what_is_not_deflate_fails_the_connection(codec: Codec) -> None:
    assert failed_with(codec, codec.receive_data(frame(TEXT, b"\x07", reserved=RSV1))) == 1007


def test_compressed_text_must_be_utf_8(codec: Codec) -> None:
    octets = frame(TEXT, Deflater().compress(b"a\xffb"), reserved=RSV1)
    assert failed_with(codec, codec.receive_data(octets)) == 1007


def test_broken_text_is_seen_inside_a_compressed_frame(codec: Codec) -> None:
    stored = b"\x00\x64\x00\x9b\xff" + b"ab\xff"  # the beginning of a block of 100 octets
    octets = frame(TEXT, stored.ljust(200, b"x"), reserved=RSV1)
    assert failed_with(codec, codec.receive_data(octets[:16])) == 1007


def test_what_inflates_to_too_much_fails_the_connection(connect: Callable[..., Codec]) -> None:
    codec = connect(1 << 16, Agreement())
    tracemalloc.start()
    try:
        assert failed_with(codec, codec.receive_data(frame(TEXT, BOMB, reserved=RSV1))) == 1009
        assert tracemalloc.get_traced_memory()[1] < 3 << 16
    finally:
        tracemalloc.stop()


def test_fragments_that_inflate_to_too_much(connect: Callable[..., Codec]) -> None:
    codec = connect(1000, Agreement())
    deflater = Deflater()
    first = deflater.compress(b"a" * 600) + TAIL
    assert codec.receive_data(frame(TEXT, first, fin=False, reserved=RSV1)) == []
    second = deflater.compress(b"a" * 401)
    assert failed_with(codec, codec.receive_data(frame(CONTINUATION, second))) == 1009


def test_what_inflates_to_just_the_largest_size_is_taken(connect: Callable[..., Codec]) -> None:
    data = os.urandom(1000)
    octets = Deflater().compress(data)
    assert len(octets) > 1000
    codec = connect(1000, Agreement())
    assert codec.receive_data(frame(BINARY, octets, reserved=RSV1)) == [data]


def test_a_compressed_frame_is_inflated_as_it_comes(connect: Callable[..., Codec]) -> None:
    codec = connect(1000, Agreement())
    octets = header(BINARY, 1 << 40, reserved=RSV1) + bytes(4) + BOMB[:100]
    assert failed_with(codec, codec.receive_data(octets)) == 1009


def test_compression_is_kept_up_between_messages(codec: Codec) -> None:
    data = os.urandom(500)
    first, second = frames(codec.send_message(data) + codec.send_message(data))
    assert first.reserved == second.reserved == RSV1
    assert len(second.payload) < 50
    inflater = Inflater()
    assert inflater.inflate(first.payload) == inflater.inflate(second.payload) == data


def test_server_no_context_takeover_is_kept(connect: Callable[..., Codec]) -> None:
    codec = connect(deflate=Agreement(server_no_context_takeover=True))
    for sent in frames(codec.send_message("Hello" * 50) + codec.send_message("Hello" * 50)):
        assert Inflater().inflate(sent.payload) == b"Hello" * 50


def test_client_no_context_takeover_forgets_the_window(connect: Callable[..., Codec]) -> None:
    codec = connect(deflate=Agreement(client_no_context_takeover=True))
    for _ in range(2):
        octets = frame(TEXT, Deflater().compress(b"Hello"), reserved=RSV1)
        assert codec.receive_data(octets) == ["Hello"]


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_window_of_the_server_is_kept(connect: Callable[..., Codec], bits: int) -> None:
    codec = connect(deflate=Agreement(server_max_window_bits=min(bits, 12)))
    data = os.urandom(1 << 13) * 2
    (sent,) = frames(codec.send_message(data))
    assert Inflater(bits).inflate(sent.payload) == data


@pytest.mark.parametrize("bits", [None, *range(8, 13)])
def test_the_window_of_the_client_is_enough(
    connect: Callable[..., Codec], bits: int | None
) -> None:
    codec = connect(deflate=Agreement(client_max_window_bits=bits))
    data = os.urandom(400) * 100
    octets = Deflater(max(9, bits or 15)).compress(data)  # zlib makes 9 of 8
    assert codec.receive_data(frame(BINARY, octets, reserved=RSV1)) == [data]
