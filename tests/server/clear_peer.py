"""Both ends of a connection in the clear, TCP's or Unix's, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from tls_peer import HANG, LARGE, Ends, Recorder, tcp_pair

from h2asgi.shared_by_transports import SharedByTransports
from h2asgi.socket_transport import SocketTransport


def unix_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair(socket.AF_UNIX)
    for sock in pair:
        sock.setblocking(False)
    return pair


class Clear(Ends):
    """The ends of a connection in the clear, of which the client's is a socket."""

    def __init__(
        self,
        protocol: Any,
        make: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
        shared: SharedByTransports | None = None,
    ) -> None:
        self.client, sock = make()
        self.loop = asyncio.get_running_loop()
        shared = shared or SharedByTransports(self.loop)
        super().__init__(sock, protocol)
        self.transport = SocketTransport(self.loop, sock, shared)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(HANG):
            await self.loop.sock_sendall(self.client, data)

    async def receive(self, size: int = 65_536) -> bytes:
        async with asyncio.timeout(HANG):
            return await self.loop.sock_recv(self.client, size)

    async def receive_exactly(self, size: int, piece: int = 65_536) -> bytes:
        data = bytearray()
        while len(data) < size and (more := await self.receive(min(piece, size - len(data)))):
            data += more
        return bytes(data)

    async def receive_all(self) -> bytes:
        return await self.receive_exactly(2 * len(LARGE))


@contextlib.asynccontextmanager
async def connected(protocol: Any = None, *args: Any, start: bool = True) -> AsyncIterator[Clear]:
    pair = Clear(protocol or Recorder(), *args)
    try:
        if start:
            pair.transport.start(pair.protocol)
        yield pair
    finally:
        pair.client.close()
        if not pair.protocol.lost.is_set():
            pair.transport.abort()
        await pair.lost()
