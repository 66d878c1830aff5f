"""Connections with the transports that they have, over pairs of sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
from clear_peer import unix_pair

from h2asgi import tally
from h2asgi.config import Config, HTTP1Config, HTTP2Config, Timeouts
from h2asgi.connection import Connection, ServerState
from h2asgi.outlet import SENDFILE
from h2asgi.shared_by_transports import READS_PER_TURN, SharedByTransports
from h2asgi.socket_transport import SocketTransport
from h2asgi.tally import SIZE, Tally

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
HTTP2_GET = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    b"\0\0\0\4\0\0\0\0\0"  # SETTINGS
    b"\0\0\6\1\5\0\0\0\1\x82\x84\x86\x41\1a"  # HEADERS, END_STREAM | END_HEADERS
)
KEEP_ALIVE = 0.5
HANG = 60


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


class Server:
    """Serves in the running loop; ``connect`` gives the client's end."""

    def __init__(self, app: Any, config: Config | None = None, row: Tally | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.shared = SharedByTransports(self.loop)
        self.state = ServerState(
            app=app,
            config=config or Config(),
            loop=self.loop,
            default_headers=SimpleNamespace(fields=[]),
            tally=row,
        )

    def connect(self) -> socket.socket:
        ours, theirs = unix_pair()
        connection = Connection(self.state, tls=False, server=("a", 80), lost=lambda: None)
        SocketTransport(self.loop, ours, self.shared).start(connection)
        return theirs


@pytest.mark.parametrize("count", [READS_PER_TURN, READS_PER_TURN * 10])
def test_requests_that_came_while_the_loop_was_blocked_are_in_time(count: int) -> None:
    """From more connections than are read in one turn of the loop."""

    async def main() -> list[bytes]:
        server = Server(hello, Config(timeouts=Timeouts(keep_alive=KEEP_ALIVE)))
        loop = server.loop
        clients = [server.connect() for _ in range(count)]
        for client in clients:
            client.send(GET)
        for client in clients:
            assert (await loop.sock_recv(client, 1000)).endswith(b"hello")
        for client in clients:
            client.send(GET)
        time.sleep(KEEP_ALIVE * 1.5)  # as applications should not
        answers = [await loop.sock_recv(client, 1000) for client in clients]
        for client in clients:
            client.close()
        while server.state.connections:
            await asyncio.sleep(0.01)
        return answers

    answers = asyncio.run(asyncio.wait_for(main(), HANG))
    assert [answer[-5:] for answer in answers] == [b"hello"] * count


@pytest.mark.skipif(not SENDFILE, reason="files go the way of bodies here")
def test_octets_of_a_file_that_go_past_the_transport_are_counted(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5_000_000))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(path)})

    async def download() -> tuple[int, int]:
        row = Tally(memoryview(bytearray(SIZE)))
        server = Server(app, row=row)
        with server.connect() as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            size = 0
            while data := await server.loop.sock_recv(client, 2**20):
                size += len(data)
        return size, row.words[tally.SENT_OCTETS]

    received, counted = asyncio.run(asyncio.wait_for(download(), HANG))
    assert received > 5_000_000
    assert counted == received


@pytest.mark.parametrize("engine", ["h11", "httptools", "h2", "ngh2"])
def test_a_connection_leaves_nothing_for_the_garbage_collector(engine: str) -> None:
    """Which comes seldom, while the connections of clients that come and go hold memory."""
    pytest.importorskip(engine)
    is_http1 = engine in ("h11", "httptools")
    request = GET if is_http1 else HTTP2_GET
    engines: dict[str, Any] = (
        {"http1": HTTP1Config(engine=engine)} if is_http1 else {"http2": HTTP2Config(engine=engine)}
    )

    async def main() -> set[str]:
        server = Server(hello, Config(timeouts=Timeouts(response=HANG), **engines))

        async def use() -> None:
            client = server.connect()
            client.send(request)
            answer = b""
            while b"hello" not in answer:
                answer += await server.loop.sock_recv(client, 1000)
            client.close()
            while server.state.connections:
                await asyncio.sleep(0.01)

        await use()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await use()
            gc.collect()
            kinds = {type(garbage) for garbage in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        return {kind.__name__ for kind in kinds if kind.__module__.startswith("h2asgi")}

    assert asyncio.run(asyncio.wait_for(main(), HANG)) == set()
