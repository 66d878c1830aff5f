"""RFC 9113 section 6.5: SETTINGS from the peer."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest
from http2_peer import (
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    SETTINGS,
    Data,
    Headers,
    Peer,
    SettingsAck,
    frame,
    settings,
)

from h2asgi.errors import ErrorCode

Connect = Callable[..., Peer]

OK = [(b":status", b"200")]

ALLOWED = {
    "nothing": [],
    "ENABLE_PUSH 0": [(ENABLE_PUSH, 0)],
    "ENABLE_PUSH 1": [(ENABLE_PUSH, 1)],
    "ENABLE_CONNECT_PROTOCOL 0": [(ENABLE_CONNECT_PROTOCOL, 0)],
    "ENABLE_CONNECT_PROTOCOL 1": [(ENABLE_CONNECT_PROTOCOL, 1)],
    "NO_RFC7540_PRIORITIES 0": [(NO_RFC7540_PRIORITIES, 0)],
    "NO_RFC7540_PRIORITIES 1": [(NO_RFC7540_PRIORITIES, 1)],
    "MAX_CONCURRENT_STREAMS 0": [(MAX_CONCURRENT_STREAMS, 0)],
    "INITIAL_WINDOW_SIZE at its maximum": [(INITIAL_WINDOW_SIZE, 2**31 - 1)],
    "MAX_FRAME_SIZE at its minimum": [(MAX_FRAME_SIZE, 16_384)],
    "MAX_FRAME_SIZE at its maximum": [(MAX_FRAME_SIZE, 2**24 - 1)],
    "MAX_HEADER_LIST_SIZE 0": [(MAX_HEADER_LIST_SIZE, 0)],
    "HEADER_TABLE_SIZE 0": [(HEADER_TABLE_SIZE, 0)],
    "HEADER_TABLE_SIZE at its maximum": [(HEADER_TABLE_SIZE, 2**32 - 1)],
    "unknown": [(0, 1), (7, 2**32 - 1), (0xFFFF, 0)],
    "the same twice": [(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 65_535)],
}

FORBIDDEN = {
    "ENABLE_PUSH 2": (ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
    "ENABLE_CONNECT_PROTOCOL 2": (ENABLE_CONNECT_PROTOCOL, 2, ErrorCode.PROTOCOL_ERROR),
    "NO_RFC7540_PRIORITIES 2": (NO_RFC7540_PRIORITIES, 2, ErrorCode.PROTOCOL_ERROR),
    "INITIAL_WINDOW_SIZE": (INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
    "MAX_FRAME_SIZE too low": (MAX_FRAME_SIZE, 16_383, ErrorCode.PROTOCOL_ERROR),
    "MAX_FRAME_SIZE 0": (MAX_FRAME_SIZE, 0, ErrorCode.PROTOCOL_ERROR),
    "MAX_FRAME_SIZE too high": (MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("pairs", ALLOWED.values(), ids=ALLOWED)
def test_allowed_settings_are_acknowledged(peer: Peer, pairs: list[tuple[int, int]]) -> None:
    """Section 6.5.3; unknown ones are ignored (section 6.5.2)."""
    assert peer.exchange(settings(*pairs)) == [SettingsAck()]
    peer.assert_serves()


@pytest.mark.parametrize(("code", "value", "error"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_settings_are_a_connection_error(
    peer: Peer, code: int, value: int, error: ErrorCode
) -> None:
    """Section 6.5.2."""
    peer.assert_connection_error(error, settings((code, value)))


@pytest.mark.parametrize(("code", "value", "error"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_forbidden_value_is_not_made_good_by_a_later_one(
    peer: Peer, code: int, value: int, error: ErrorCode
) -> None:
    """Section 6.5.3: values are processed in the order they come."""
    good = {
        ENABLE_PUSH: 0,
        ENABLE_CONNECT_PROTOCOL: 1,
        NO_RFC7540_PRIORITIES: 1,
        INITIAL_WINDOW_SIZE: 65_535,
        MAX_FRAME_SIZE: 16_384,
    }[code]
    peer.assert_connection_error(error, settings((code, value), (code, good)))


def test_every_settings_frame_is_acknowledged(peer: Peer) -> None:
    assert peer.exchange(settings(), settings((3, 1)), settings()) == [SettingsAck()] * 3


def test_the_last_of_several_values_counts(peer: Peer) -> None:
    peer.send(settings((INITIAL_WINDOW_SIZE, 5), (INITIAL_WINDOW_SIZE, 3)))
    peer.get(1)
    peer.respond(1, b"12345")
    assert peer.received()[-1] == Data(1, b"123", False)


def test_a_smaller_compression_table_is_announced(peer: Peer) -> None:
    """Section 4.3.1 and RFC 7541 section 4.2: the next block begins with the new size."""
    peer.get(1)
    peer.respond(1)
    peer.engine.send_headers(1, 200, [(b"x", b"y")], True)
    peer.received()
    peer.send(settings((HEADER_TABLE_SIZE, 0)))
    peer.log.decoder.max_allowed_table_size = 0
    peer.get(3)
    peer.engine.send_headers(3, 200, [(b"x", b"y")], True)
    assert peer.received() == [SettingsAck(), Headers(3, [*OK, (b"x", b"y")], True)]


@pytest.mark.parametrize(
    "sizes",
    [
        *([0, 0], [0, 4096], [100, 0, 4096], [2**32 - 1, 100], [100, 2**32 - 1, 100, 200], [4096]),
        *([2048, 1024], [2048, 0], [3000, 50, 100]),
    ],
    ids=str,
)
@pytest.mark.parametrize("at_once", [True, False], ids=["one frame", "a frame each"])
def test_compression_table_sizes_that_change_between_two_answers(
    peer: Peer, sizes: list[int], at_once: bool
) -> None:
    """RFC 7541 section 4.2: the smallest and the last are to be announced, and section 6.3: nothing
    above the limit by then."""
    peer.get(1)
    peer.engine.send_headers(1, 200, [(b"x", b"y")], True)
    peer.received()
    pairs = [(HEADER_TABLE_SIZE, size) for size in sizes]
    frames = [settings(*pairs)] if at_once else [settings(pair) for pair in pairs]
    peer.exchange(*frames)
    # A decoder of the peer's own: it has dropped what the smallest size does not hold.
    decoder = peer.log.decoder
    decoder.header_table.maxsize = min(*sizes, 4096)
    decoder.header_table.maxsize = 4096
    decoder.max_allowed_table_size = sizes[-1]
    for stream_id in (3, 5):
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, [(b"x", b"y")], True)
        assert peer.received() == [Headers(stream_id, [*OK, (b"x", b"y")], True)]
    assert decoder.header_table_size <= min(sizes[-1], 4096)


def test_a_huge_compression_table_is_not_filled(peer: Peer) -> None:
    """The memory would be ours; the default size is kept to."""
    peer.send(settings((HEADER_TABLE_SIZE, 2**32 - 1)))
    peer.log.decoder.max_allowed_table_size = 2**32 - 1
    for stream_id in range(1, 41, 2):
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, [(b"x-%d" % stream_id, b"v" * 1_000)], True)
        peer.received()
    assert peer.log.decoder.header_table_size == 4096


def test_changing_the_compression_table_for_ever_costs_nothing(peer: Peer) -> None:
    for _ in range(500):
        peer.exchange(settings((HEADER_TABLE_SIZE, 100)), settings((HEADER_TABLE_SIZE, 4096)))
    peer.get(1)
    peer.respond(1)
    peer.received()
    assert peer.log.sizes[-1][1] < 20


def test_unknown_settings_are_not_kept(peer: Peer) -> None:
    """A peer could name 65,536 of them."""
    payload = b"".join(struct.pack(">HL", code, 1) for code in range(0x100, 0xFFFF))
    frames = [
        frame(SETTINGS, 0, 0, payload[start : start + 16_380])
        for start in range(0, len(payload), 16_380)
    ]
    tracemalloc.start()
    try:
        for one in frames:
            peer.exchange(one)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000
