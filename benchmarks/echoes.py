"""WebSocket messages that come back: a client that costs little beside the server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from dataclasses import dataclass, field

from .processes import client_context
from .servers import HOST, Launch

TIMEOUT = 10.0
READ_SIZE = 256 * 1024

HANDSHAKE = (
    f"GET /echo HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()

MASK = b"\x37\xfa\x21\x3d"
TEXT = 0x81  # FIN, and the opcode of a text (RFC 6455 section 5.2)


def frame(size: int) -> bytes:
    """A masked text of ``size`` octets."""
    payload = bytes(0x78 ^ MASK[index % 4] for index in range(4)) * (size // 4)
    return _header(0x80, len(payload)) + MASK + payload


def answer_size(size: int) -> int:
    """Octets of the frame that brings it back: the same without the mask."""
    return len(_header(0, size)) + size


def _header(masked: int, length: int) -> bytes:
    if length < 126:
        return bytes((TEXT, masked | length))
    if length < 1 << 16:
        return bytes((TEXT, masked | 126)) + length.to_bytes(2, "big")
    return bytes((TEXT, masked | 127)) + length.to_bytes(8, "big")


@dataclass
class Echoes:
    """``connections`` with ``messages`` of ``size`` octets (a multiple of 4) on their way each.

    A connection sends its messages in one piece, and again when all have come back.
    """

    connections: int
    messages: int
    size: int
    done: int = 0
    failed: int = 0
    _missing: dict[socket.socket, int] = field(default_factory=dict)

    def run(self, launch: Launch, seconds: float) -> None:
        """Send for so long; ``done`` and ``failed`` count messages."""
        batch = frame(self.size) * self.messages
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            try:
                for _ in range(self.connections):
                    sock = stack.enter_context(_connect(launch))
                    selector.register(sock, selectors.EVENT_READ, sock)
                    self._missing[sock] = 0
                self._exchange(selector, batch, time.monotonic() + seconds)
            except OSError:
                self.failed += self.messages

    def _exchange(self, selector: selectors.BaseSelector, batch: bytes, end: float) -> None:
        for sock in self._missing:
            self._send(sock, batch)
        while any(self._missing.values()):
            ready = selector.select(TIMEOUT)
            if not ready:
                raise TimeoutError("no answer")
            for key, _ in ready:
                self._receive(key.data)
                if not self._missing[key.data] and time.monotonic() < end:
                    self._send(key.data, batch)

    def _send(self, sock: socket.socket, batch: bytes) -> None:
        sock.sendall(batch)
        self._missing[sock] = self.messages * answer_size(self.size)

    def _receive(self, sock: socket.socket) -> None:
        data = sock.recv(READ_SIZE)
        # TLS may hold more than it gave, of which the selector knows nothing.
        while data and len(data) < self._missing[sock] and getattr(sock, "pending", int)():
            data += sock.recv(READ_SIZE)
        if not data or len(data) > self._missing[sock]:
            raise ConnectionError("not what was sent")
        self._missing[sock] -= len(data)
        if not self._missing[sock]:
            self.done += self.messages


def _connect(launch: Launch) -> socket.socket:
    sock = socket.create_connection((HOST, launch.port), TIMEOUT)
    if launch.tls:
        sock = client_context("http/1.1").wrap_socket(sock, server_hostname="localhost")
    sock.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = sock.recv(1)
        if not octet:
            raise ConnectionError("no handshake")
        head += octet
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError("the handshake was refused")
    return sock
