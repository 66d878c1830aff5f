from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fake_transport import FakeLoop, FakeTransport
from peers import HTTP2Peer, Peer
from tunnel_peers import HTTP1WebSocket, HTTP2WebSocket
from websocket_app import CONNECT, App

from h2asgi.config import Config
from h2asgi.connection import Connection, ServerState
from h2asgi.trace import RequestRecord


class Driver:
    """Connections of one server, under test. ``records`` is what the trace was told."""

    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.records: list[RequestRecord] = []
        self.idle_calls = 0
        self.state: ServerState

    def serve(self, app: Any, *, traced: bool = True, lifespan_state: Any = None, **config: Any):
        """Serve ``app``; the rest are fields of ``Config``."""

        def note_idle() -> None:
            self.idle_calls += 1

        self.state = ServerState(
            app=app,
            config=replace(Config(), **config),
            loop=self.loop,
            default_headers=SimpleNamespace(fields=[(b"server", b"h2asgi")]),
            trace=self if traced else None,
            lifespan_state=lifespan_state,
            on_idle=note_idle,
        )

    def request_finished(self, record: RequestRecord) -> None:
        self.records.append(record)

    def connect(
        self,
        alpn: str | bool | None = False,
        *,
        peername: Any = ("192.0.2.1", 5000),
        **options: Any,
    ):
        """Accept a connection: in the clear, or over TLS with what ALPN selected."""
        return self._accept(Peer, alpn, peername, **options)

    def http1(self, **options: Any) -> Peer:
        return self._accept(Peer, "http/1.1", **options)

    def http2(self, **settings: int) -> HTTP2Peer:
        return self._accept(HTTP2Peer, "h2").start(**settings)

    def _accept(
        self, kind: Any, alpn: Any, peername: Any = ("192.0.2.1", 5000), **options: Any
    ) -> Any:
        connection = Connection(
            self.state, tls=alpn is not False, server=("192.0.2.9", 443), lost=lambda: None,
            **options,
        )  # fmt: skip
        transport = FakeTransport(self.loop, connection, peername, alpn)
        connection.connection_made(transport)
        peer = kind(self.loop, connection, transport)
        self.loop.settle()
        return peer


@pytest.fixture
def driver() -> Iterator[Driver]:
    """A driver whose loop must not have seen an exception by the end."""
    loop = FakeLoop()
    try:
        yield Driver(loop)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.settle()
        assert loop.errors == []
    finally:
        loop.close()


@pytest.fixture(params=[HTTP1WebSocket, HTTP2WebSocket], ids=["http1", "http2"])
def far_end(request):
    return request.param


@pytest.fixture
def quiet(caplog):
    """Nothing is logged above debug."""
    caplog.set_level(logging.DEBUG)
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []


@pytest.fixture
def opened(driver, far_end, quiet):
    """Open a WebSocket: ``opened(**config)`` gives the application and its peer."""

    def open_one(path="/ws", *, behind=b"", **config):
        app = App()
        app.loop = driver.loop
        driver.serve(app, **config)
        websocket = far_end(driver, path, behind)
        assert websocket.status in (101, 200)
        assert app.done[:2] == [CONNECT, None]
        return app, websocket

    return open_one
