"""How frames are told: names of types, flags, settings and error codes, and what they say."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ..errors import ErrorCode
from ..protocol.http2.frames import Flag, FrameType
from ..protocol.http2.tap import KEPT, PassedFrame
from .masking import shortened

KINDS: Final = {
    FrameType.DATA: "DATA",
    FrameType.HEADERS: "HEADERS",
    FrameType.PRIORITY: "PRIORITY",
    FrameType.RST_STREAM: "RST_STREAM",
    FrameType.SETTINGS: "SETTINGS",
    FrameType.PUSH_PROMISE: "PUSH_PROMISE",
    FrameType.PING: "PING",
    FrameType.GOAWAY: "GOAWAY",
    FrameType.WINDOW_UPDATE: "WINDOW_UPDATE",
    FrameType.CONTINUATION: "CONTINUATION",
    FrameType.PRIORITY_UPDATE: "PRIORITY_UPDATE",
}

SETTINGS: Final = {
    0x1: "HEADER_TABLE_SIZE",
    0x2: "ENABLE_PUSH",
    0x3: "MAX_CONCURRENT_STREAMS",
    0x4: "INITIAL_WINDOW_SIZE",
    0x5: "MAX_FRAME_SIZE",
    0x6: "MAX_HEADER_LIST_SIZE",
    0x8: "ENABLE_CONNECT_PROTOCOL",
    0x9: "NO_RFC7540_PRIORITIES",
}

_FLAGS: Final = {
    FrameType.DATA: ((Flag.END_STREAM, "END_STREAM"), (Flag.PADDED, "PADDED")),
    FrameType.HEADERS: (
        (Flag.END_STREAM, "END_STREAM"),
        (Flag.END_HEADERS, "END_HEADERS"),
        (Flag.PADDED, "PADDED"),
        (Flag.PRIORITY, "PRIORITY"),
    ),
    FrameType.SETTINGS: ((Flag.ACK, "ACK"),),
    FrameType.PING: ((Flag.ACK, "ACK"),),
    FrameType.CONTINUATION: ((Flag.END_HEADERS, "END_HEADERS"),),
}
_UINT32: Final = Struct(">L")
_PAIR: Final = Struct(">LL")
_SETTING: Final = Struct(">HL")


def kind(frame: PassedFrame) -> str:
    """Give the name of a frame's type, or its number."""
    return KINDS.get(frame.kind, f"0x{frame.kind:x}")


def flags(frame: PassedFrame) -> list[str]:
    """Give the names of the flags that are set."""
    return [name for flag, name in _FLAGS.get(frame.kind, ()) if frame.flags & flag]


def error(code: int) -> str:
    """Give the name of an error code, or its number."""
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"0x{code:x}"


def settings(payload: bytes) -> dict[str, int]:
    """Give the values of a SETTINGS frame, as far as its payload was kept."""
    whole = payload[: len(payload) // _SETTING.size * _SETTING.size]
    return {SETTINGS.get(code, f"0x{code:x}"): value for code, value in _SETTING.iter_unpack(whole)}


def goaway(payload: bytes) -> tuple[int, int, str]:
    """Give last stream id, error code and what is said besides; to be called with 8 octets."""
    last, code = _PAIR.unpack_from(payload)
    return last & 0x7FFFFFFF, code, payload[_PAIR.size : KEPT].decode("latin-1")


def detail(frame: PassedFrame) -> str:
    """Give what a control frame says; a frame of a wrong size says nothing."""
    payload = frame.payload
    if frame.kind == FrameType.SETTINGS:
        return ", ".join(f"{name} {value}" for name, value in settings(payload).items())
    if frame.kind == FrameType.GOAWAY and len(payload) >= _PAIR.size:
        last, code, text = goaway(payload)
        return shortened(f"last stream {last}, {error(code)} {text}".rstrip(), 256)
    if frame.kind == FrameType.PING:
        return payload.hex()
    if frame.kind == FrameType.PRIORITY_UPDATE and len(payload) >= _UINT32.size:
        (stream_id,) = _UINT32.unpack_from(payload)
        return f"stream {stream_id & 0x7FFFFFFF}: {payload[4:].decode('latin-1')}"
    if len(payload) == _UINT32.size:
        (value,) = _UINT32.unpack(payload)
        if frame.kind == FrameType.RST_STREAM:
            return error(value)
        if frame.kind == FrameType.WINDOW_UPDATE:
            return f"+{value & 0x7FFFFFFF}"
    return f"{frame.block_size} octets of field block" if frame.block_size else ""
