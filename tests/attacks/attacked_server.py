"""A server under attack, in the loop of the test, and honest clients beside the attack."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from h2asgi.config import BindConfig, Config, TLSConfig
from h2asgi.server import Server

HANG = 10
"""Seconds after which something that should have come will not come any more."""

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serving(
    app: Any = hello, *, certfile: str | None = None, **slices: Any
) -> AsyncIterator[Server]:
    """Serve; ``slices`` are fields of ``Config``. Nothing may be open or running at the end."""
    config = Config(
        bind=BindConfig(bind=("127.0.0.1:0",)),
        tls=TLSConfig(certfile=certfile),
        lifespan="off",
        **slices,
    )
    async with Server(app, config) as server:
        await until_idle(server)
        before = open_sockets()
        yield server
        await until_idle(server)
        await until(lambda: open_sockets() <= before)


async def until_idle(server: Server) -> None:
    """Connect, since an event loop opens files of its own then, and wait for the end."""
    with socket.create_connection(server.addresses[0]):
        await until(lambda: bool(server._state.connections or server._listener._arrivals))
    await until(lambda: not server._state.connections and not server._listener._arrivals)
    await until(lambda: not server._state.tasks)


async def connect(server: Server, **options: Any) -> Streams:
    host, port = server.addresses[0]
    return await asyncio.open_connection(host, port, **options)


async def ask(streams: Streams) -> bytes:
    """An honest request on a connection that lives on; gives the status line."""
    reader, writer = streams
    writer.write(GET)
    async with asyncio.timeout(HANG):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"hello"))
    return head.partition(b"\r\n")[0]


async def visit(server: Server, context: ssl.SSLContext | None = None) -> bytes:
    """An honest client with one request; gives the status line."""
    name = "localhost" if context else None
    async with asyncio.timeout(HANG):
        streams = await connect(server, ssl=context, server_hostname=name)
        status = await ask(streams)
    leave(streams)
    return status


def leave(*clients: Streams) -> None:
    """Reset the connections of clients."""
    for _, writer in clients:
        writer.transport.abort()


def open_sockets() -> int:
    """Sockets of this process, of both ends; event loops open other files when they like."""
    folder = Path("/proc/self/fd")
    count = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            count += os.readlink(path).startswith("socket:")
    return count


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(HANG):
        while not condition():
            await asyncio.sleep(0.001)
