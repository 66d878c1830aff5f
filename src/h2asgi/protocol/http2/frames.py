"""Frames on the wire: cutting the input into frames, and writing the simple ones.

The checks here need no state but the frame's own header: its length, and
whether its type belongs on a stream or on the connection (RFC 9113 sections
4.2 and 6). What a frame means is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from ...errors import ErrorCode, PeerConnectionError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""

HEADER = Struct(">HBBBL")
"""Length in two parts, type, flags, stream id (RFC 9113 section 4.1)."""

HEADER_SIZE = 9
_STREAM_ID_MASK = 0x7FFFFFFF
_UINT32 = Struct(">L")
_GOAWAY = Struct(">LL")


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


Frame = tuple[int, int, int, memoryview]
"""Type, flags, stream id and payload. The payload is a view, good until the reader goes on."""


_FIXED_SIZE = {FrameType.RST_STREAM: 4, FrameType.PING: 8, FrameType.WINDOW_UPDATE: 4}
_ON_CONNECTION = frozenset((FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY))
_ON_STREAM = frozenset(
    (
        FrameType.DATA,
        FrameType.HEADERS,
        FrameType.PRIORITY,
        FrameType.RST_STREAM,
        FrameType.CONTINUATION,
    )
)


class FrameReader:
    """Cuts what arrives into frames, keeping at most one that is incomplete.

    ``max_frame_size`` is what our SETTINGS allow; a longer frame is a
    connection error as soon as its header is seen, so no more than that is
    ever kept.
    """

    __slots__ = ("_max_frame_size", "_partial", "_preface")

    def __init__(self, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self._partial = bytearray()
        self._preface = PREFACE

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Give the frames that ``data`` completes; raises PeerConnectionError."""
        view = memoryview(data)
        if self._preface:
            view = self._strip_preface(view)
        partial = self._partial
        if partial:
            missing = self._missing(partial)
            while missing and view:
                partial += view[:missing]
                view = view[missing:]
                missing = self._missing(partial)
            if missing:
                return
            self._partial = bytearray()
            yield from self._cut(memoryview(partial))
        yield from self._cut(view)

    def _cut(self, view: memoryview) -> Iterator[Frame]:
        """Give the frames that are there whole, and keep the rest."""
        offset, end = 0, len(view)
        while end - offset >= HEADER_SIZE:
            high, low, kind, flags, stream_id = HEADER.unpack_from(view, offset)
            length = high << 8 | low
            if length > self._max_frame_size:
                raise _too_long()
            start = offset + HEADER_SIZE
            if start + length > end:
                break
            offset = start + length
            stream_id &= _STREAM_ID_MASK  # section 4.1: the reserved bit is ignored
            if kind > FrameType.HEADERS or not stream_id:
                _check(kind, stream_id, length)
            yield kind, flags, stream_id, view[start:offset]
        if offset < end:
            self._partial = bytearray(view[offset:])

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
    return HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


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


SETTINGS_ACK = frame_header(0, FrameType.SETTINGS, Flag.ACK, 0)


def header_block(stream_id: int, block: bytes, max_frame_size: int, end_stream: bool) -> bytes:
    """A field block as HEADERS and as many CONTINUATION frames as it takes (section 4.3)."""
    flags = Flag.END_STREAM if end_stream else 0
    size = len(block)
    if size <= max_frame_size:
        flags |= Flag.END_HEADERS
        return HEADER.pack(size >> 8, size & 0xFF, FrameType.HEADERS, flags, stream_id) + block
    pieces = []
    kind = FrameType.HEADERS
    for start in range(0, len(block), max_frame_size):
        piece = block[start : start + max_frame_size]
        if start + max_frame_size >= len(block):
            flags |= Flag.END_HEADERS
        pieces += [frame_header(len(piece), kind, flags, stream_id), piece]
        kind, flags = FrameType.CONTINUATION, 0
    return b"".join(pieces)
