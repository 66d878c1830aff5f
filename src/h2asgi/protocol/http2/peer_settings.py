"""SETTINGS: the codes, and which values a peer may send (RFC 9113 section 6.5.2)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from ...errors import ErrorCode, PeerConnectionError

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8  # RFC 8441 section 3
NO_RFC7540_PRIORITIES: Final = 0x9  # RFC 9218 section 2.1

_BOOLEAN: Final = frozenset((ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES))

DEFAULT_WINDOW: Final = 65_535
"""Both windows before any SETTINGS or WINDOW_UPDATE (RFC 9113 section 6.9.2)."""

LARGEST_WINDOW: Final = 2**31 - 1
SMALLEST_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 2**24 - 1

_SETTING: Final = Struct(">HL")


def peer_settings(payload: memoryview) -> Iterator[tuple[int, int]]:
    """Give code and value one by one, in their order (section 6.5.3); raises PeerConnectionError.

    A server is told ENABLE_PUSH by old clients, with either value.
    """
    for code, value in _SETTING.iter_unpack(payload):
        if code == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise PeerConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "initial window is too large")
        if code == MAX_FRAME_SIZE and not SMALLEST_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "illegal maximum frame size")
        if value > 1 and code in _BOOLEAN:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "setting is neither 0 nor 1")
        yield code, value
