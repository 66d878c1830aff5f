"""The client's side of a WebSocket, in octets: frames as they should be, and as they should not."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from h2asgi.protocol.websocket.codec import Codec, ConnectionFailed, WebSocketEvent

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
MASK = b"\x37\xfa\x21\x3d"
TAIL = b"\x00\x00\xff\xff"


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """RFC 6455 section 5.3, in numbers: not by the code under test."""
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return mixed.to_bytes(size, "big")


def header(
    opcode: int, length: int, *, fin: bool = True, reserved: int = 0, form: int | None = None
) -> bytes:
    """A masked frame's header without its mask; ``form`` is 7, 16 or 64 bits of length."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 1 << 16 else 64
    first = (0x80 if fin else 0) | reserved | opcode
    if form == 7:
        return struct.pack("!BB", first, 0x80 | length)
    if form == 16:
        return struct.pack("!BBH", first, 0xFE, length)
    return struct.pack("!BBQ", first, 0xFF, length)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    form: int | None = None,
    mask: bytes = MASK,
) -> bytes:
    head = header(opcode, len(payload), fin=fin, reserved=reserved, form=form)
    return head + mask + masked(payload, mask)


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


@dataclass(frozen=True)
class Sent:
    """A frame that the server has sent."""

    opcode: int
    payload: bytes
    fin: bool = True
    reserved: int = 0


def frames(octets: bytes) -> list[Sent]:
    """Read what the server has sent, which is never masked and always in its shortest form."""
    found = []
    while octets:
        first, length = octets[0], octets[1]
        assert length < 0x80, "a server masks no frame"
        start = 2
        if length == 126:
            (length,) = struct.unpack("!H", octets[2:4])
            start = 4
            assert length > 125
        elif length == 127:
            (length,) = struct.unpack("!Q", octets[2:10])
            start = 10
            assert length > 0xFFFF
        payload = octets[start : start + length]
        assert len(payload) == length
        found.append(Sent(first & 0x0F, payload, first & 0x80 != 0, first & 0x70))
        octets = octets[start + length :]
    return found


def closing(code: int | None, reason: str = "") -> Sent:
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return Sent(CLOSE, payload)


def failed_with(codec: Codec, events: list[WebSocketEvent]) -> int:
    """The code of the failure that is the last event, and that the peer is told as well."""
    failure = events[-1]
    assert isinstance(failure, ConnectionFailed), events
    (sent,) = frames(codec.take_answers())
    assert sent == closing(failure.code, failure.reason)
    assert codec.over
    assert codec.close_sent
    assert codec.receive_data(frame(TEXT, b"ignored")) == []
    assert codec.take_answers() == b""
    return failure.code


class Deflater:
    """A client that compresses."""

    def __init__(self, bits: int = 15) -> None:
        self._zlib = zlib.compressobj(wbits=-bits)

    def compress(self, data: bytes) -> bytes:
        octets = self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return octets.removesuffix(TAIL) or b"\x00"  # RFC 7692 section 7.2.3.6


class Inflater:
    """A client that reads what is compressed."""

    def __init__(self, bits: int = 15) -> None:
        self._zlib = zlib.decompressobj(-bits)

    def inflate(self, data: bytes) -> bytes:
        return self._zlib.decompress(data + TAIL)
