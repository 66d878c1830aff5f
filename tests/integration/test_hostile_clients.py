"""Clients that leave behind what would keep a connection, its task and its descriptor for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from apps.letters import HANG
from serving import BackgroundServer

PIPELINED = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 300000\r\n\r\n" + bytes(100_000)
"""More behind the request in progress than is read ahead: the server stops reading."""


async def _listen(receive: Any, send: Any) -> None:
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stream(receive: Any, send: Any) -> None:
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("wait", [_listen, _stream])
def test_client_that_leaves_while_it_is_not_read_from_is_noticed(
    serve: Callable[..., BackgroundServer], tls: bool, wait: Any
) -> None:
    """Nothing that arrives tells so, since reading is suspended; and TLS on asyncio drops what is
    sent from then on without a word."""
    noticed = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await wait(receive, send)
        noticed.set()

    server = serve(app, tls=tls, lifespan="off")
    sock = server.connect("http/1.1")
    sock.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" + PIPELINED)
    taken = b""
    while b"begun" not in taken:
        taken += sock.recv(65_536)
    sock.shutdown(socket.SHUT_WR)  # a FIN, and no RST: what the server sends is still read
    threading.Timer(0.2, sock.close).start()
    assert noticed.wait(HANG)
