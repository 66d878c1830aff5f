"""Both ends of a connection in one loop: the transport under test, and its client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any

from h2asgi.shared_by_transports import SharedByTransports
from h2asgi.socket_transport import SocketTransport
from h2asgi.tls_context import ServerContext
from h2asgi.tls_handshake import Handshake
from h2asgi.tls_object import TLSObject
from h2asgi.tls_transport import TLSTransport

HANG = 10

MIB = 1024 * 1024
LARGE = bytes(range(256)) * 4 * 4096  # 4 MiB, far more than the sockets hold


class Recorder(asyncio.BufferedProtocol):
    """Notes what the transport tells; ``pausing`` pauses reading at each piece, and ``keeping``
    keeps the connection open when the peer has ended its side."""

    def __init__(
        self, buffer_size: int = 256 * 1024, *, pausing: bool = False, keeping: bool = False
    ) -> None:
        self.buffer = memoryview(bytearray(buffer_size))
        self.pausing = pausing
        self.keeping = keeping
        self.received = bytearray()
        self.events: list[str] = []
        self.error: Exception | None = None
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: SocketTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        assert 0 < size <= len(self.buffer)
        self.received += self.buffer[:size]
        if self.pausing:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeping

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")
        self.error = error
        self.lost.set()

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.writable.set()


class TLSClient:
    """A client whose TLS records are in the test's hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def handshake(self, piece: int = 65_536, last: bytes = b"") -> None:
        """``last`` goes out together with the client's last message."""
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush(piece)
                await self._take()
            else:
                if last:
                    self.ssl.write(last)
                await self.flush(piece)
                return

    async def flush(self, piece: int = 65_536) -> None:
        data = self.outgoing.read()
        for start in range(0, len(data), piece):
            await self.loop.sock_sendall(self.sock, data[start : start + piece])
            if piece < len(data):
                await asyncio.sleep(0)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.ssl.write(view) :]
        await self.flush()

    async def read(self, size: int = 65_536) -> bytes:
        """Some octets; none at close_notify. TCP's end without it raises SSLEOFError."""
        while True:
            try:
                return self.ssl.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._take()

    async def read_all(self) -> bytes:
        data = bytearray()
        while more := await self.read():
            data += more
        return bytes(data)

    async def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self.ssl.unwrap()
        await self.flush()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        reset(self.sock)

    async def _take(self) -> None:
        async with asyncio.timeout(HANG):
            data = await self.loop.sock_recv(self.sock, 65_536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Client and server, not blocking, with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(listening.getsockname())
        server = listening.accept()[0]
    for sock in (client, server):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def reset(sock: socket.socket) -> None:
    """Close a TCP connection by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Ends:
    """What a test works with; at its end, nothing of the transport may be left."""

    def __init__(self, sock: socket.socket, protocol: Any) -> None:
        self.transport: Any = None
        self.protocol = protocol
        self.sock = sock
        self.fd = sock.fileno()

    async def lost(self) -> None:
        """Wait for the end, and see that it left nothing behind."""
        async with asyncio.timeout(HANG):
            await self.protocol.lost.wait()
        assert self.protocol.events.count("lost") == 1
        assert self.sock.fileno() == -1
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(self.fd)
        assert not loop.remove_writer(self.fd)


class Pair(Ends):
    """The ends of a TLS connection."""

    def __init__(self, contexts: tuple[ServerContext, ssl.SSLContext], protocol: Any) -> None:
        self._context, theirs = contexts
        client_sock, sock = tcp_pair()
        self.client = TLSClient(client_sock, theirs)
        self.shared = SharedByTransports(asyncio.get_running_loop())
        super().__init__(sock, protocol)

    async def connect(self, piece: int = 65_536, last: bytes = b"") -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client.handshake(piece, last))
            group.create_task(self.serve())

    async def serve(self) -> None:
        tls = await self.handshake()
        self.transport = TLSTransport(self.client.loop, self.sock, tls, self.shared)
        self.transport.start(self.protocol)

    async def handshake(self) -> TLSObject:
        """Raises what the server's side fails by."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Exception | None] = loop.create_future()
        shaking = Handshake(loop, self.sock, self._context, self.shared, over.set_result)
        shaking.begin()
        try:
            async with asyncio.timeout(HANG):
                error = await over
        finally:
            shaking.abandon()
        if error is not None:
            raise error
        return shaking.tls

    async def read_tickets(self) -> None:
        """See that closing the client sends FIN: with unread session tickets it sends RST."""
        self.transport.write(b"!")
        assert await self.client.read() == b"!"


@contextlib.asynccontextmanager
async def connected(
    contexts: tuple[ServerContext, ssl.SSLContext], protocol: Any = None, **options: Any
) -> AsyncIterator[Pair]:
    """A connection after its handshake."""
    pair = Pair(contexts, protocol or Recorder())
    try:
        await pair.connect(**options)
        yield pair
    finally:
        pair.client.close()
        if pair.transport is None:
            pair.sock.close()
        else:
            if not pair.protocol.lost.is_set():
                pair.transport.abort()
            await pair.lost()


async def turns(count: int = 20) -> None:
    """Let the loop do what it can do."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(HANG):
        while not condition():
            await asyncio.sleep(0.001)
