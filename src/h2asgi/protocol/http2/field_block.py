"""Field blocks from HEADERS and CONTINUATION: put together, and bounded (RFC 9113 section 4.3)."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorCode, PeerConnectionError
from .codec import DECODED_SIZE_FACTOR
from .frames import Flag, strip_padding

MAX_CONTINUATIONS: Final = 64
"""CONTINUATION frames in one block. 64 frames of the default size are 1 MiB, far beyond any honest
block; the limit is for blocks that never end (CVE-2024-27316)."""

_STREAM_ID_MASK: Final = 0x7FFFFFFF


class FieldBlock:
    """The field block that is under way, if one is."""

    __slots__ = ("_frames", "_limit", "_octets", "_stream_id", "end_stream", "since")

    def __init__(self, max_header_list_size: int) -> None:
        self._limit = max_header_list_size * DECODED_SIZE_FACTOR
        self._stream_id = 0
        self._octets = bytearray()
        self._frames = 0
        self.end_stream = False
        self.since: float | None = None  # when it began; None while there is none

    def begin(
        self, flags: int, stream_id: int, payload: memoryview, now: float
    ) -> memoryview | None:
        """Take a HEADERS frame; give the block if that is the whole of it."""
        if flags & (Flag.PADDED | Flag.PRIORITY):
            payload = strip_padding(flags, payload)
            if flags & Flag.PRIORITY:
                payload = _strip_priority(stream_id, payload)
        self.end_stream = bool(flags & Flag.END_STREAM)
        if flags & Flag.END_HEADERS:
            return payload
        self._stream_id = stream_id
        self._octets = bytearray(payload)
        self._frames = 0
        self.since = now
        return None

    def go_on(self, flags: int, stream_id: int, payload: memoryview) -> bytearray | None:
        """Take a CONTINUATION frame; give the block if it is complete."""
        if self.since is None or self._stream_id != stream_id:
            # Section 6.10.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "unexpected CONTINUATION")
        self._octets += payload
        self._frames += 1
        if self._frames > MAX_CONTINUATIONS or len(self._octets) > self._limit:
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "field block is too large")
        if not flags & Flag.END_HEADERS:
            return None
        self.since = None
        block, self._octets = self._octets, bytearray()
        return block


def _strip_priority(stream_id: int, payload: memoryview) -> memoryview:
    """Section 5.3.2: priority in HEADERS is deprecated, so only its form is looked at."""
    if len(payload) < 5:
        raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "priority fields are missing")
    check_dependency(stream_id, payload)
    return payload[5:]


def check_dependency(stream_id: int, payload: memoryview) -> None:
    """RFC 7540 section 5.3.1, which older peers are tested against: no stream depends on itself."""
    if int.from_bytes(payload[:4], "big") & _STREAM_ID_MASK == stream_id:
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")
