"""WebSockets over real sockets: both protocols, codecs and loops, with TLS and in the clear."""

from __future__ import annotations

import ast
import contextlib
import random
import uuid
from collections.abc import Callable, Iterator

import pytest
from apps import letters, websockets
from h2client import H2Client
from serving import BackgroundServer, Command
from wsclient import H1WebSocket, H2WebSocket, WebSocketClient
from wsproto.events import CloseConnection

MIB = 1024 * 1024
Serve = Callable[..., BackgroundServer]


@contextlib.contextmanager
def _open(
    server: BackgroundServer | Command, protocol: str, path: str, **options: bool
) -> Iterator[WebSocketClient]:
    if protocol == "HTTP/2":
        with H2Client(server.connect("h2")) as client:
            websocket = H2WebSocket(client, path, subprotocols=["chat"], **options)
            assert websocket.accepted()
            yield websocket
    else:
        with server.connect("http/1.1") as sock:
            yield H1WebSocket(sock, path, subprotocols=["chat"], **options)


def _close(websocket: WebSocketClient) -> tuple[int, str]:
    end = websocket.receive()
    assert isinstance(end, CloseConnection), end
    return end.code, end.reason or ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("engine", ["wsproto", "websockets"])
def test_echo(command: Callable[..., Command], protocol: str, loop: str, engine: str) -> None:
    for library in {loop, engine} - {"asyncio", "wsproto"}:
        pytest.importorskip(library)
    server = command("apps.websockets:app", "--loop", loop, "--ws-engine", engine)
    data = random.Random(1).randbytes(MIB)
    for compress in (False, True):
        with _open(server, protocol, "/echo", compress=compress) as websocket:
            for number in range(100):
                websocket.send(f"{number:064}")
                assert websocket.receive() == f"{number:064}"
            websocket.send(data)
            assert websocket.receive() == data
            websocket.close(3000, "bye")
            assert _close(websocket)[0] == 3000


def test_what_send_took_arrives_while_the_application_blocks_the_loop(
    serve: Serve, tls: bool, protocol: str
) -> None:
    """ASGI; also when further messages wait, the answers to which would have gone along."""
    server = serve(websockets.app, tls=tls)
    key = uuid.uuid4().hex
    with _open(server, protocol, f"/block?{key}") as websocket:
        websocket.send("one", "two", "three")
        for message in ("one", "two", "three"):
            assert websocket.receive() == message
            assert not letters.posted(f"{key} {message} unblocked")
            letters.post(f"{key} {message} go on")
        websocket.close()


def test_scope(serve: Serve, tls: bool, protocol: str) -> None:
    server = serve(websockets.app, tls=tls)
    with _open(server, protocol, "/scope?a=1") as websocket:
        text = websocket.receive()
        assert isinstance(text, str)
        scope = ast.literal_eval(text)
        assert scope["type"] == "websocket"
        assert scope["scheme"] == ("wss" if tls else "ws")
        assert scope["http_version"] == protocol.removeprefix("HTTP/")
        assert scope["subprotocols"] == ["chat"]
        assert scope["query_string"] == b"a=1"
        assert set(scope["extensions"]) == {"websocket.http.response", *(["tls"] if tls else [])}
        assert scope["headers"][0] == (b"host", b"localhost")
        websocket.close()


def test_lost_peer_is_1006(serve: Serve, tls: bool, protocol: str) -> None:
    server = serve(websockets.app, tls=tls)
    key = uuid.uuid4().hex
    with _open(server, protocol, f"/listen?{key}"):
        letters.wait(f"{key} accepted")
    assert letters.wait(f"{key} ended") == (1006, "")


def test_end_of_the_tunnel_is_1006(serve: Serve) -> None:
    server = serve(websockets.app)
    key = uuid.uuid4().hex
    with H2Client(server.connect("h2")) as client:
        websocket = H2WebSocket(client, f"/listen?{key}")
        assert websocket.accepted()
        client.h2.end_stream(websocket.stream_id)
        client.flush()
        (response,) = client.finish(websocket.stream_id)
        assert (response.ended, response.reset) == (True, None)
    assert letters.wait(f"{key} ended") == (1006, "")


def test_exception_is_1011_and_is_logged_once(serve: Serve, protocol: str) -> None:
    server = serve(websockets.app)
    with _open(server, protocol, "/raises") as websocket:
        assert _close(websocket)[0] == 1011
    assert len(server.errors) == 1
    server.errors.clear()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/denied", 403, b"Forbidden"),
        ("/denied-with-a-body", 401, b"not you"),
        ("/raises-at-once", 500, b"Internal Server Error"),
    ],
)
def test_denial(serve: Serve, path: str, status: int, body: bytes) -> None:
    server = serve(websockets.app)
    with H2Client(server.connect("h2")) as client:
        websocket = H2WebSocket(client, path)
        assert not websocket.accepted()
        (response,) = client.finish(websocket.stream_id)
        assert (response.status, bytes(response.body)) == (status, body)
        client.ping()
    assert len(server.errors) == (status == 500)
    server.errors.clear()


def test_fifty_websockets_and_requests_share_a_connection(serve: Serve) -> None:
    server = serve(websockets.app)
    with H2Client(server.connect("h2")) as client:
        opened = [H2WebSocket(client, "/echo") for _ in range(50)]
        for websocket in opened:
            assert websocket.accepted()
        for turn in range(3):
            for number, websocket in enumerate(opened):
                websocket.send(f"{turn} {number}")
            (response,) = client.finish(client.start("/taken"))
            assert response.status == 200
            for number, websocket in enumerate(opened):
                assert websocket.receive() == f"{turn} {number}"


def test_shutdown_closes_with_1012(command: Callable[..., Command], protocol: str) -> None:
    server = command("apps.websockets:app")
    with _open(server, protocol, "/echo") as websocket:
        websocket.send("x")
        assert websocket.receive() == "x"
        server.terminate()
        assert _close(websocket)[0] == 1012
    assert server.wait() == 0
