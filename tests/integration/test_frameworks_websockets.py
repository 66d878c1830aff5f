"""FastAPI, Starlette, Django Channels and Quart: WebSockets over both protocols."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator

import pytest
from apps import letters
from h2client import H2Client
from serving import BackgroundServer
from wsclient import H1WebSocket, H2WebSocket, WebSocketClient
from wsproto.events import CloseConnection

WITHOUT_WEBSOCKETS = "Litestar"


@pytest.fixture(autouse=True)
def _has_websockets(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["framework"] == WITHOUT_WEBSOCKETS:
        pytest.skip("its application here has none")


@contextlib.contextmanager
def _open(server: BackgroundServer, protocol: str, path: str) -> Iterator[WebSocketClient]:
    if protocol == "HTTP/2":
        with H2Client(server.connect("h2")) as client:
            websocket = H2WebSocket(client, path, subprotocols=["chat", "other"])
            assert websocket.accepted()
            assert websocket.subprotocol == "chat"
            yield websocket
    else:
        with server.connect("http/1.1") as sock:
            opened = H1WebSocket(sock, path, subprotocols=["chat", "other"])
            assert opened.subprotocol == "chat"
            yield opened


def test_echo_and_close(framework: BackgroundServer, protocol: str) -> None:
    key = uuid.uuid4().hex
    with _open(framework, protocol, f"/ws?key={key}") as websocket:
        greeting = websocket.receive()
        assert isinstance(greeting, str)
        assert json.loads(greeting) == {"http_version": protocol.removeprefix("HTTP/")}
        for message in ("é", "", "x" * 100_000):
            websocket.send(message)
            assert websocket.receive() == message
        websocket.close(3000, "bye")
        answer = websocket.receive()
        assert isinstance(answer, CloseConnection)
        assert answer.code == 3000
        assert letters.wait(f"{key} ended") in (3000, None)


def test_leaving_is_noticed(framework: BackgroundServer, protocol: str) -> None:
    key = uuid.uuid4().hex
    with _open(framework, protocol, f"/ws?key={key}") as websocket:
        websocket.receive()
    assert letters.wait(f"{key} ended") in (1006, None)


def test_denial(framework: BackgroundServer) -> None:
    with H2Client(framework.connect("h2")) as client:
        websocket = H2WebSocket(client, "/ws-denied")
        assert not websocket.accepted()
        assert websocket.response.status == 403
