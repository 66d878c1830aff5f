"""The far end of a WebSocket, over HTTP/1.1 or over a stream of HTTP/2: frames, and no library."""

from __future__ import annotations

from typing import Any

from hyperframe import frame as frames

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
VERSION = ("sec-websocket-version", "13")
HEAD = (
    "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    f"sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame masked with zeros (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([opcode | (0x80 if fin else 0)]) + length + bytes(4) + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class _FarEnd:
    """``take()`` gives the frames that came since the last call; ``ended`` is the server's half."""

    status = 0
    ended = False
    reset: int | None = None

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self._buffer = bytearray()

    def send(self, opcode: int, payload: bytes = b"", **options: bool) -> None:
        self.send_octets(frame(opcode, payload, **options))

    def close(self, code: int = 1000, reason: bytes = b"") -> None:
        self.send_octets(close_frame(code, reason))

    def send_octets(self, data: bytes) -> None:
        raise NotImplementedError

    def _read(self) -> None:
        raise NotImplementedError

    def take(self) -> list[tuple[int, bytes]]:
        self._read()
        data, got = self._buffer, []
        while len(data) >= 2:
            assert data[0] & 0x80, "fragmented"
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            if len(data) < start + size:
                break
            got.append((data[0] & 0x0F, bytes(data[start : start + size])))
            del data[: start + size]
        return got


class HTTP1WebSocket(_FarEnd):
    def __init__(self, driver: Any, path: str, behind: bytes = b"") -> None:
        super().__init__(driver.http1())
        self.peer.send(HEAD.format(path=path).encode() + behind)
        self.body = b""
        self._read()

    def send_octets(self, data: bytes) -> None:
        self.peer.send(data)

    def _read(self) -> None:
        self._buffer += self.peer.take()
        if not self.status and self._buffer:
            head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            self.status = int(head[9:12])
            self.head = head
            self._buffer[:] = rest
        if self.status != 101:
            self.body, self._buffer = self.body + self._buffer, bytearray()
        self.ended = self.peer.connection._closing
        self.reset = 8 if self.peer.transport.aborted else None

    def abort(self) -> None:
        self.peer.transport.lose(ConnectionResetError())
        self.peer.loop.settle()


class HTTP2WebSocket(_FarEnd):
    def __init__(self, driver: Any, path: str, behind: bytes = b"", **settings: int) -> None:
        super().__init__(driver.http2(**settings))
        self.stream_id, head = self.peer.head(
            "CONNECT", path, (":protocol", "websocket"), VERSION, end_stream=False
        )
        data = frames.DataFrame(self.stream_id, behind).serialize() if behind else b""
        self.peer.send(head + data)
        self._read()

    def send_octets(self, data: bytes) -> None:
        for start in range(0, len(data), 16_384):
            self.peer.body(self.stream_id, data[start : start + 16_384])

    def _read(self) -> None:
        response = self.peer.response(self.stream_id)
        self.status, self.ended, self.reset = response.status, response.ended, response.error_code
        if self.status == 200:
            self._buffer += response.body
            response.body.clear()
        else:
            self.body = bytes(response.body)

    def end(self) -> None:
        self.peer.body(self.stream_id, b"", end_stream=True)

    def abort(self) -> None:
        self.peer.reset(self.stream_id)
