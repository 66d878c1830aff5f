"""What clients have sent in time is served, also when an application has blocked the loop since."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from h2asgi.config import Config, Timeouts
from h2asgi.connection import Connection, ServerState
from h2asgi.shared_by_transports import READS_PER_TURN, SharedByTransports
from h2asgi.socket_transport import SocketTransport

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
KEEP_ALIVE = 0.5
HANG = 60


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("count", [READS_PER_TURN, READS_PER_TURN * 10])
def test_requests_that_came_before_the_end_of_the_idle_time_are_answered(count: int) -> None:
    """More connections than are read in one turn of the loop."""

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        state = ServerState(
            app=hello,
            config=Config(timeouts=Timeouts(keep_alive=KEEP_ALIVE)),
            loop=loop,
            default_headers=SimpleNamespace(fields=[]),
        )
        shared = SharedByTransports(loop)
        clients = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            clients.append(theirs)
            connection = Connection(state, tls=False, server=("a", 80), lost=lambda: None)
            SocketTransport(loop, ours, shared).start(connection)
            theirs.send(GET)
        for client in clients:
            assert (await loop.sock_recv(client, 1000)).endswith(b"hello")
        for client in clients:
            client.send(GET)
        time.sleep(KEEP_ALIVE * 1.5)  # as applications should not
        answers = [await loop.sock_recv(client, 1000) for client in clients]
        for client in clients:
            client.close()
        while state.connections:
            await asyncio.sleep(0.01)
        return answers

    answers = asyncio.run(asyncio.wait_for(main(), HANG))
    assert [answer[-5:] for answer in answers] == [b"hello"] * count
