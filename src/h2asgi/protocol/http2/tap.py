"""Frames as they pass by, for those who watch: headers, and the first octets of payloads.

Field blocks are not decoded: what they mean is known to whoever sends or takes them.
"""

from __future__ import annotations

from typing import Final

from .frames import HEADER, HEADER_SIZE, Flag, FrameType

KEPT: Final = 128
"""Octets of a payload: all there is of most SETTINGS, and the beginning of what GOAWAY says."""


class PassedFrame:
    """The header of a frame, and the first ``KEPT`` octets of its payload."""

    __slots__ = ("flags", "kind", "length", "payload", "stream_id")

    def __init__(self, kind: int, flags: int, stream_id: int, length: int, payload: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.stream_id = stream_id
        self.length = length
        self.payload = payload

    @property
    def ends_stream(self) -> bool:
        """Whether its sender has nothing more to say on the stream."""
        return self.kind <= FrameType.HEADERS and bool(self.flags & Flag.END_STREAM)

    @property
    def block_size(self) -> int:
        """Octets of field block in HEADERS or CONTINUATION, without padding and priority."""
        if self.kind == FrameType.CONTINUATION:
            return self.length
        if self.kind != FrameType.HEADERS:
            return 0
        size = self.length
        if self.flags & Flag.PADDED and self.payload:
            size -= 1 + self.payload[0]
        if self.flags & Flag.PRIORITY:
            size -= 5
        return max(size, 0)


class FrameTap:
    """Cuts octets of one direction into frames, where they begin with one.

    ``skip`` octets come before the first frame. It holds ``KEPT`` octets at the most.
    """

    __slots__ = ("_head", "_kept", "_left", "_skip")

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._head = b""  # of a frame, until it is whole
        self._kept = b""  # of the payload of the frame under way
        self._left = 0  # octets of that payload that are to come

    def feed(self, data: bytes | bytearray | memoryview) -> list[PassedFrame]:
        """Take octets; give the frames that end in them."""
        passed: list[PassedFrame] = []
        view = memoryview(data)
        offset = min(self._skip, len(view))
        self._skip -= offset
        end = len(view)
        while offset < end:
            if len(self._head) < HEADER_SIZE:
                taken = min(HEADER_SIZE - len(self._head), end - offset)
                stop = offset + taken
                self._head += bytes(view[offset:stop])
                offset = stop
                if len(self._head) < HEADER_SIZE:
                    break
                self._left = int.from_bytes(self._head[:3], "big")
                self._kept = b""
            taken = min(self._left, end - offset)
            stop = offset + min(taken, KEPT - len(self._kept))
            self._kept += bytes(view[offset:stop])
            offset += taken
            self._left -= taken
            if not self._left:
                high, low, kind, flags, stream_id = HEADER.unpack(self._head)
                passed.append(
                    PassedFrame(kind, flags, stream_id & 0x7FFFFFFF, high << 8 | low, self._kept)
                )
                self._head = b""
        return passed
