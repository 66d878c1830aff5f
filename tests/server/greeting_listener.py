"""A listener whose connections say where they came in, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from h2asgi.listener import Listener
from h2asgi.protocol.proxy import ProxyHeader
from h2asgi.sockets import ListeningSocket, TCPAddress, listen
from h2asgi.trust import Trusted


class Greeter(asyncio.BufferedProtocol):
    """Says where the connection came in, and keeps it."""

    def __init__(self, server: tuple[str, int | None], on_lost: Callable[[], None]) -> None:
        self.server = server
        self.on_lost = on_lost
        self.lost = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(repr(self.server).encode() + b"\n")

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(1024)

    def connection_lost(self, error: Exception | None) -> None:
        self.on_lost()
        self.lost.set()


class Served:
    """A started listener on 127.0.0.1, and the protocols it made."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        handshake_timeout: float = 10,
        sockets: list[ListeningSocket] | None = None,
        limit: int = 1000,
        per_address: int | None = None,
        proxies: Trusted | None = None,
    ) -> None:
        self.sockets = sockets or listen([TCPAddress(("127.0.0.1",), 0)], 100)
        self.address = self.sockets[0].address
        self.made: list[Greeter] = []
        self.proxied: list[ProxyHeader | None] = []
        self.listener = Listener(
            self.sockets,
            self._make,
            ssl_context=context,
            handshake_timeout=handshake_timeout,
            limit=limit,
            per_address=per_address,
            on_full=lambda: None,
            proxies=proxies,
        )

    def _make(
        self,
        server: tuple[str, int | None],
        lost: Callable[[], None],
        proxied: ProxyHeader | None,
    ) -> Greeter:
        self.proxied.append(proxied)
        self.made.append(Greeter(server, lost))
        return self.made[-1]

    async def __aenter__(self) -> Served:
        self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.stop()
        self.listener.end_handshakes()
        for greeter in self.made:
            if greeter.transport is not None:
                greeter.transport.abort()
                await greeter.lost.wait()


async def greeting(served: Served, **options: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*served.address, **options)
    line = await reader.readline()
    writer.transport.abort()
    return line


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def nothing_above_debug(caplog) -> bool:
    return all(record.levelno <= logging.DEBUG for record in caplog.records)
