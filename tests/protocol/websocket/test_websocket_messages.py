"""Text that must be UTF-8 (RFC 6455 section 8.1), and the bound on messages."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from websocket_peer import BINARY, CONTINUATION, MASK, TEXT, failed_with, frame, header, masked

from h2asgi.protocol.websocket.codec import Codec

TEXTS = ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\x7f\x80߿ࠀ\uffff", "\U00010000\U0010ffff"]
BROKEN = {
    "stray continuation": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong NUL": b"\xe0\x80\x80",
    "surrogate": b"\xed\xa0\x80",
    "beyond the last": b"\xf4\x90\x80\x80",
    "five octets": b"\xf8\x88\x80\x80\x80",
    "never used": b"\xff",
    "cut by another": b"\xce\xbaA\xce\xff",
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_may_be_cut_anywhere(codec: Codec, text: str) -> None:
    octets = text.encode()
    for cut in range(len(octets) + 1):
        first, last = octets[:cut], octets[cut:]
        fragments = frame(TEXT, first, fin=False) + frame(CONTINUATION, last)
        assert codec.receive_data(fragments) == [text]
        whole = frame(TEXT, octets)
        events = codec.receive_data(whole[: 6 + cut]) + codec.receive_data(whole[6 + cut :])
        assert events == [text]


def test_text_may_come_in_fragments_of_one_octet(codec: Codec) -> None:
    text = "".join(TEXTS)
    octets = frame(TEXT, fin=False)
    for octet in text.encode():
        octets += frame(CONTINUATION, bytes((octet,)), fin=False)
    assert codec.receive_data(octets + frame(CONTINUATION)) == [text]


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_text_that_is_not_utf_8_fails_the_connection(codec: Codec, broken: bytes) -> None:
    assert failed_with(codec, codec.receive_data(frame(TEXT, b"a" + broken + b"b"))) == 1007


def test_text_must_not_end_inside_a_character(codec: Codec) -> None:
    assert failed_with(codec, codec.receive_data(frame(TEXT, "€".encode()[:2]))) == 1007


def test_a_fragmented_text_must_not_end_inside_a_character(codec: Codec) -> None:
    assert codec.receive_data(frame(TEXT, "€".encode()[:2], fin=False)) == []
    assert failed_with(codec, codec.receive_data(frame(CONTINUATION))) == 1007


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_text_is_seen_before_the_message_ends(codec: Codec, broken: bytes) -> None:
    assert codec.receive_data(frame(TEXT, "µ".encode(), fin=False)) == []
    assert failed_with(codec, codec.receive_data(frame(CONTINUATION, broken, fin=False))) == 1007


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_text_is_seen_inside_a_frame_of_which_the_rest_never_comes(
    codec: Codec, broken: bytes
) -> None:
    before = b"a" * 997
    assert codec.receive_data(header(TEXT, 100_000) + MASK + masked(before)) == []
    turned = (MASK * 2)[1:5]  # 997 octets are one more than a number of whole masks
    assert failed_with(codec, codec.receive_data(masked(broken, turned))) == 1007


def test_a_character_is_broken_as_soon_as_no_octet_can_mend_it(codec: Codec) -> None:
    assert codec.receive_data(frame(TEXT, b"\xf4", fin=False)) == []
    assert failed_with(codec, codec.receive_data(frame(CONTINUATION, b"\x90", fin=False))) == 1007


def test_binary_messages_need_not_be_text(codec: Codec) -> None:
    assert codec.receive_data(frame(BINARY, b"\xff\xc0")) == [b"\xff\xc0"]


def test_a_message_may_have_just_the_largest_size(connect: Callable[..., Codec]) -> None:
    codec = connect(1000)
    assert codec.receive_data(frame(BINARY, bytes(1000))) == [bytes(1000)]
    parts = frame(BINARY, bytes(999), fin=False) + frame(CONTINUATION, bytes(1))
    assert codec.receive_data(parts) == [bytes(1000)]


@pytest.mark.parametrize("length", [1001, 65_536, (1 << 63) - 1])
def test_a_header_that_announces_too_much_is_enough(
    connect: Callable[..., Codec], length: int
) -> None:
    codec = connect(1000)
    assert failed_with(codec, codec.receive_data(header(BINARY, length))) == 1009


def test_fragments_that_sum_up_to_too_much(connect: Callable[..., Codec]) -> None:
    codec = connect(1000)
    assert codec.receive_data(frame(TEXT, b"a" * 600, fin=False)) == []
    assert failed_with(codec, codec.receive_data(header(CONTINUATION, 401))) == 1009


def test_the_size_counts_octets_and_not_characters(connect: Callable[..., Codec]) -> None:
    codec = connect(1000)
    assert failed_with(codec, codec.receive_data(frame(TEXT, "é".encode() * 501))) == 1009


def test_nothing_is_set_aside_for_what_is_only_announced(connect: Callable[..., Codec]) -> None:
    codec = connect(1 << 30)
    tracemalloc.start()
    try:
        codec.receive_data(header(BINARY, 1 << 30) + MASK + b"x")
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_a_message_in_many_small_fragments_takes_the_memory_of_its_octets(
    connect: Callable[..., Codec],
) -> None:
    codec = connect(1 << 20)
    codec.receive_data(frame(TEXT, fin=False))
    piece = frame(CONTINUATION, b"ab", fin=False) * 256
    tracemalloc.start()
    try:
        for _ in range(64):
            codec.receive_data(piece)
        assert tracemalloc.get_traced_memory()[0] < 4 * 64 * 512
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("cut", [1, 3, 13, 14, 40_000, 70_010, 70_014])
def test_octets_are_borrowed(codec: Codec, size: int, cut: int) -> None:
    """Also those of large frames, which are not copied as a whole."""
    text, data = "é" * (size // 2), bytes(range(256)) * 300
    octets = frame(TEXT, text.encode()) + frame(BINARY, data) + frame(TEXT, b"last")
    events = []
    for piece in (octets[:cut], octets[cut:]):
        buffer = bytearray(piece)
        with memoryview(buffer) as view:
            events += codec.receive_data(view)
        buffer[:] = b"\xff" * len(buffer)
    assert events == [text, data, "last"]


def test_no_frame_is_begun_behind_the_limit(codec: Codec) -> None:
    octets = frame(BINARY, b"a" * 50) * 5
    whole = len(octets) // 5
    events = codec.receive_data(octets, whole + 1)
    assert codec.taken in (whole + 1, 2 * whole)  # within a frame, or to its end
    assert events in ([b"a" * 50], [b"a" * 50] * 2)
    assert len(codec.receive_data(octets[codec.taken :])) == 5 - len(events)
