"""Frames on the wire: cutting the input into frames, and writing the simple ones.

The checks here need no state but the frame's own header: its length, and
whether its type belongs on a stream or on the connection (RFC 9113 sections
4.2 and 6). What a frame means is the engine's business.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from ...errors import ErrorCode, PeerConnectionError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""

HEADER: Final = Struct(">HBBBL")
"""Length in two parts, type, flags, stream id (RFC 9113 section 4.1)."""

HEADER_SIZE: Final = 9
_STREAM_ID_MASK: Final = 0x7FFFFFFF
_UINT32: Final = Struct(">L")
_GOAWAY: Final = Struct(">LL")


class FrameType:
    """RFC 9113 section 6. Plain integers, since every frame is compared with some of them."""

    DATA: Final = 0x0
    HEADERS: Final = 0x1
    PRIORITY: Final = 0x2
    RST_STREAM: Final = 0x3
    SETTINGS: Final = 0x4
    PUSH_PROMISE: Final = 0x5
    PING: Final = 0x6
    GOAWAY: Final = 0x7
    WINDOW_UPDATE: Final = 0x8
    CONTINUATION: Final = 0x9
    PRIORITY_UPDATE: Final = 0x10  # RFC 9218 section 7.1


class Flag:
    """RFC 9113 section 6; ACK and END_STREAM share a bit on different types."""

    ACK: Final = 0x1
    END_STREAM: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


_FIXED_SIZE: Final = {FrameType.RST_STREAM: 4, FrameType.PING: 8, FrameType.WINDOW_UPDATE: 4}
_ON_CONNECTION: Final = frozenset((FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY))
_ON_STREAM: Final = frozenset(
    (
        FrameType.DATA,
        FrameType.HEADERS,
        FrameType.PRIORITY,
        FrameType.RST_STREAM,
        FrameType.CONTINUATION,
    )
)


_NOTHING: Final = memoryview(b"")


class FrameReader:
    """Cuts what arrives into frames, keeping at most one that is incomplete.

    ``max_frame_size`` is what our SETTINGS allow; a longer frame is a
    connection error as soon as its header is seen, so no more than that is
    ever kept.
    """

    __slots__ = (
        *("_end", "_max_frame_size", "_offset", "_partial", "_preface", "_view"),
        *("flags", "kind", "payload", "stream_id"),
    )

    def __init__(self, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self._partial = bytearray()
        self._preface = PREFACE
        # What is being cut.
        self._view = _NOTHING
        self._offset = 0
        self._end = 0
        # The frame that ``next`` found.
        self.kind = 0
        self.flags = 0
        self.stream_id = 0
        self.payload = _NOTHING

    @property
    def awaited(self) -> int | None:
        """Octets of the preface that are to come before the next frame; None within a frame."""
        return None if self._partial else len(self._preface)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take input, all of which ``next`` is to be called for; raises PeerConnectionError."""
        view = memoryview(data)
        self._view = self._strip_preface(view) if self._preface else view
        self._offset = 0
        self._end = len(self._view)

    def next(self) -> bool:
        """Cut the next frame that is there whole, if there is one; raises PeerConnectionError.

        ``kind``, ``flags``, ``stream_id`` and ``payload`` are its. The payload is a view, good
        until the next call.
        """
        if self._partial:
            return self._complete()
        view, offset, end = self._view, self._offset, self._end
        if end - offset >= HEADER_SIZE:
            length = self._read_header(view, offset)
            start = offset + HEADER_SIZE
            if start + length <= end:
                self._offset = start + length
                self.payload = view[start : start + length]
                return True
        if offset < end:
            self._partial = bytearray(view[offset:])
        self._view = self.payload = _NOTHING  # the buffer is not ours
        self._offset = self._end = 0
        return False

    def _read_header(self, view: memoryview, offset: int) -> int:
        """Read the header of a frame and check what it says; gives the length of the payload."""
        high: int
        low: int
        stream_id: int
        high, low, self.kind, self.flags, stream_id = HEADER.unpack_from(view, offset)
        length = high << 8 | low
        if length > self._max_frame_size:
            raise _too_long()
        self.stream_id = stream_id & _STREAM_ID_MASK  # section 4.1: the reserved bit is ignored
        return length

    def check(self) -> None:
        """Raise PeerConnectionError for a frame in the wrong place or of the wrong size."""
        _check(self.kind, self.stream_id, len(self.payload))

    def _complete(self) -> bool:
        """Complete the frame of which a part came before, if that is possible now."""
        partial, view = self._partial, self._view[self._offset :]
        missing = self._missing(partial)
        while missing and view:
            partial += view[:missing]
            view = view[missing:]
            missing = self._missing(partial)
        self._offset = self._end - len(view)
        if missing:
            self._view = _NOTHING
            return False
        self._partial = bytearray()
        whole = memoryview(partial)
        self._read_header(whole, 0)
        self.payload = whole[HEADER_SIZE:]
        return True

    def _strip_preface(self, view: memoryview) -> memoryview:
        size = min(len(self._preface), len(view))
        if view[:size] != self._preface[:size]:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "invalid connection preface")
        self._preface = self._preface[size:]
        return view[size:]

    def _missing(self, partial: bytearray) -> int:
        if len(partial) < HEADER_SIZE:
            return HEADER_SIZE - len(partial)
        length = int.from_bytes(partial[:3], "big")
        if length > self._max_frame_size:
            raise _too_long()
        return HEADER_SIZE + length - len(partial)


def _too_long() -> PeerConnectionError:
    # Section 4.2.
    return PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame exceeds the maximum size")


def _check(kind: int, stream_id: int, length: int) -> None:
    """Raise PeerConnectionError for a frame in the wrong place or of the wrong size."""
    if kind in _ON_STREAM:
        if not stream_id:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame needs a stream")
    elif stream_id and kind in _ON_CONNECTION:
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame is not for a stream")
    if length != _FIXED_SIZE.get(kind, length):
        raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame has the wrong size")


def strip_padding(flags: int, payload: memoryview) -> memoryview:
    """Take the padding off a DATA or HEADERS payload (RFC 9113 section 6.1)."""
    if not flags & Flag.PADDED:
        return payload
    if not payload:
        raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "padding length is missing")
    if payload[0] >= len(payload):
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
    return payload[1 : len(payload) - payload[0]]


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The 9 octets in front of a payload (RFC 9113 section 4.1)."""
    start = length << 16 | kind << 8 | flags
    # Compiled, this takes less than ``HEADER.pack``.
    return start.to_bytes(5, "big") + stream_id.to_bytes(4, "big")


def rst_stream(stream_id: int, error_code: int) -> bytes:
    """A RST_STREAM frame (section 6.4)."""
    return frame_header(4, FrameType.RST_STREAM, 0, stream_id) + _UINT32.pack(error_code)


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame (section 6.9)."""
    return frame_header(4, FrameType.WINDOW_UPDATE, 0, stream_id) + _UINT32.pack(increment)


def ping(payload: bytes, *, ack: bool) -> bytes:
    """A PING frame (section 6.7)."""
    return frame_header(8, FrameType.PING, Flag.ACK if ack else 0, 0) + payload


def goaway(last_stream_id: int, error_code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame (section 6.8)."""
    header = frame_header(8 + len(debug), FrameType.GOAWAY, 0, 0)
    return header + _GOAWAY.pack(last_stream_id, error_code) + debug


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame (section 6.5)."""
    pairs = b"".join(
        [key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items()]
    )
    return frame_header(len(pairs), FrameType.SETTINGS, 0, 0) + pairs


SETTINGS_ACK: Final = frame_header(0, FrameType.SETTINGS, Flag.ACK, 0)


def header_block(stream_id: int, block: bytes, max_frame_size: int, end_stream: bool) -> bytes:
    """A field block as HEADERS and as many CONTINUATION frames as it takes (section 4.3)."""
    flags = Flag.END_STREAM if end_stream else 0
    size = len(block)
    if size <= max_frame_size:
        flags |= Flag.END_HEADERS
        return frame_header(size, FrameType.HEADERS, flags, stream_id) + block
    pieces = []
    kind = FrameType.HEADERS
    for start in range(0, len(block), max_frame_size):
        piece = block[start : start + max_frame_size]
        if start + max_frame_size >= len(block):
            flags |= Flag.END_HEADERS
        pieces += [frame_header(len(piece), kind, flags, stream_id), piece]
        kind, flags = FrameType.CONTINUATION, 0
    return b"".join(pieces)
