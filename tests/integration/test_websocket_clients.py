"""The clients that people use for WebSockets, over both protocols: right to the octet."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
from typing import Any, Protocol

import aiohttp
import pytest
import websockets.exceptions
import websockets.sync.client
from apps import websocket_app
from apps.letters import HANG
from h2client import H2Client
from serving import BackgroundServer
from test_browser import chromium
from wsclient import H1WebSocket, H2WebSocket, WebSocketClient
from wsproto.events import CloseConnection

KIB = 1024
MIB = 1024 * KIB
Serve = Callable[..., BackgroundServer]
Message = str | bytes

TEXT = "WebSocket ✓ — "
"""Characters of one, two and three octets."""


def message(number: int, size: int) -> Message:
    """Text and binary in turns, partly compressible; about ``size`` octets, no two alike."""
    head = f"{number} "
    if number % 2:
        return head + TEXT * (size // len(TEXT.encode()))
    return head.encode() + os.urandom(min(size, 64 * KIB)) + bytes(max(0, size - 64 * KIB))


class Echo(Protocol):
    """Sends a message and gives what comes back."""

    def __call__(self, message: Message) -> Message: ...


class AiohttpClient:
    """aiohttp in an event loop on a thread of its own."""

    def __init__(self, server: BackgroundServer, compress: bool) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self._connect(server, compress))

    def _run(self, coro: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(HANG)

    async def _connect(self, server: BackgroundServer, compress: bool) -> None:
        assert server.certificate is not None
        self._session = aiohttp.ClientSession()
        self._websocket = await self._session.ws_connect(
            server.url, ssl=server.certificate.client_context(), compress=15 if compress else 0,
            max_msg_size=0,
        )  # fmt: skip
        assert bool(self._websocket.compress) is compress

    def echo(self, message: Message) -> Message:
        return self._run(self._echo(message))  # type: ignore[no-any-return]

    async def _echo(self, message: Message) -> Message:
        if isinstance(message, str):
            await self._websocket.send_str(message)
            return await self._websocket.receive_str()
        await self._websocket.send_bytes(message)
        return await self._websocket.receive_bytes()

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG)
        self._loop.close()

    async def _close(self) -> None:
        sock = self._websocket.get_extra_info("socket")
        await self._websocket.close()
        assert self._websocket.close_code == 1000
        await self._session.close()
        while sock.fileno() != -1:  # aiohttp does not tell when the end of TLS is over
            await asyncio.sleep(0.01)


@contextmanager
def aiohttp_client(server: BackgroundServer, compress: bool) -> Iterator[Echo]:
    with closing(AiohttpClient(server, compress)) as client:
        yield client.echo


@contextmanager
def websockets_client(server: BackgroundServer, compress: bool) -> Iterator[Echo]:
    assert server.certificate is not None
    with websockets.sync.client.connect(
        server.url.replace("https", "wss"), ssl=server.certificate.client_context(),
        compression="deflate" if compress else None, max_size=None, proxy=None,
    ) as websocket:  # fmt: skip
        assert bool(websocket.protocol.extensions) is compress

        def echo(message: Message) -> Message:
            websocket.send(message)
            return websocket.recv(HANG)

        yield echo
    assert websocket.close_code == 1000


@contextmanager
def wsproto_client(server: BackgroundServer, compress: bool) -> Iterator[Echo]:
    with server.connect("http/1.1") as sock:
        websocket = H1WebSocket(sock, compress=compress)
        assert websocket.compressed is compress
        yield echo_of(websocket)
        assert_closes(websocket)
        websocket.wait_until_closed()


@contextmanager
def http2_client(server: BackgroundServer, compress: bool) -> Iterator[Echo]:
    with connect_http2(server) as client:
        websocket = H2WebSocket(client, compress=compress)
        assert websocket.accepted()
        assert websocket.compressed is compress
        yield echo_of(websocket)
        assert_closes(websocket)
        client.finish(websocket.stream_id)


def connect_http2(server: BackgroundServer) -> H2Client:
    return H2Client(server.connect("h2"), stream_window=MIB, connection_window=4 * MIB)


def echo_of(websocket: WebSocketClient) -> Echo:
    def echo(message: Message) -> Message:
        websocket.send(message)
        answer = websocket.receive()
        assert not isinstance(answer, CloseConnection), answer
        return answer

    return echo


def assert_closes(websocket: WebSocketClient, code: int = 1000) -> None:
    websocket.close(code)
    answer = websocket.receive()
    assert isinstance(answer, CloseConnection)
    assert answer.code == code


CLIENTS = {
    "websockets": websockets_client,
    "aiohttp": aiohttp_client,
    "wsproto": wsproto_client,
    "HTTP/2": http2_client,
}


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize(
    ("client", "ws_engine"),
    [
        ("websockets", "wsproto"),
        ("aiohttp", "websockets"),
        *product(["wsproto", "HTTP/2"], ["wsproto", "websockets"]),
    ],
)
def test_echoes_are_right_to_the_octet(
    serve: Serve, client: str, compress: bool, ws_engine: str
) -> None:
    server = serve(websocket_app.app, ws_engine=ws_engine)
    with CLIENTS[client](server, compress) as echo:
        for count, size in [(1000, 64), (100, MIB), (1, 16 * MIB - 32)]:
            for number in range(count):
                sent = message(number, size)
                assert echo(sent) == sent, f"message {number} of {size} octets"


@pytest.mark.parametrize("connect", CLIENTS.values(), ids=CLIENTS)
def test_the_smallest_and_the_largest_message(serve: Serve, connect: Any) -> None:
    server = serve(websocket_app.app)
    with connect(server, True) as echo:
        for sent in ("", b"", "x" * 16 * MIB, bytes(16 * MIB)):
            assert echo(sent) == sent


# Over HTTP/2


def test_fifty_websockets_on_one_connection_beside_ordinary_requests(serve: Serve) -> None:
    server = serve(websocket_app.app)
    with connect_http2(server) as client:
        websockets = [H2WebSocket(client, compress=n % 2 == 0) for n in range(50)]
        assert all(websocket.accepted() for websocket in websockets)
        for size in (10, 20 * KIB):
            messages = [message(n, size) for n in range(50)]
            requests = []
            for n, (websocket, sent) in enumerate(zip(websockets, messages, strict=True)):
                websocket.send(sent)
                requests.append(client.start(f"/{n}"))
            assert [websocket.receive() for websocket in websockets] == messages
            responses = client.finish(*requests)
            assert [response.body for response in responses] == [b"/%d" % n for n in range(50)]
        for n, websocket in enumerate(websockets):
            assert_closes(websocket, 3000 + n)
        ended = client.finish(*[websocket.stream_id for websocket in websockets])
        assert all(response.reset is None for response in ended)
        (response,) = client.finish(client.start("/still"))
        assert response.body == b"/still"


def test_the_scope_tells_the_protocol(serve: Serve, protocol: str) -> None:
    server = serve(websocket_app.app)
    with server.connect("h2" if protocol == "HTTP/2" else "http/1.1") as sock:
        websocket: H1WebSocket | H2WebSocket
        if protocol == "HTTP/2":
            websocket = H2WebSocket(H2Client(sock), "/scope", subprotocols=["chat", "superchat"])
            assert websocket.accepted()
        else:
            websocket = H1WebSocket(sock, "/scope", subprotocols=["chat", "superchat"])
        assert websocket.subprotocol == "chat"
        told = websocket.receive()
        assert isinstance(told, str)
        assert json.loads(told) == {
            "http_version": protocol.removeprefix("HTTP/"),
            "scheme": "wss",
            "path": "/scope",
            "subprotocols": ["chat", "superchat"],
        }
        websocket.send("close")
        close = websocket.receive()
        assert isinstance(close, CloseConnection)
        assert (close.code, close.reason) == (4000, "as asked")


def test_a_refusal_costs_one_stream(serve: Serve) -> None:
    server = serve(websocket_app.app)
    with connect_http2(server) as client:
        refused = H2WebSocket(client, "/refused")
        assert not refused.accepted()
        (response,) = client.finish(refused.stream_id)
        assert response.status == 403
        accepted = H2WebSocket(client)
        assert accepted.accepted()
        assert echo_of(accepted)("still") == "still"
        assert_closes(accepted)


def test_a_refusal_over_http1_is_seen_by_its_client(serve: Serve) -> None:
    server = serve(websocket_app.app)
    assert server.certificate is not None
    with pytest.raises(websockets.exceptions.InvalidStatus) as raised:
        websockets.sync.client.connect(
            server.url.replace("https", "wss") + "/refused", proxy=None,
            ssl=server.certificate.client_context(),
        )  # fmt: skip
    assert raised.value.response.status_code == 403


# A browser

PAGE = b"""<!doctype html><title>h2asgi</title><pre id="result">waiting</pre><script>
const [page] = performance.getEntriesByType("navigation");
const show = text => {
  document.getElementById("result").textContent = page.nextHopProtocol + " " + text;
};
const socket = new WebSocket("wss://" + location.host + "/", ["chat"]);
socket.onopen = () => socket.send("x".repeat(100000));
socket.onmessage = event => socket.close(3000, String(event.data.length));
</script><script src="/end" async></script>
"""
"""The page is loaded when its second script is, which the server sends at the WebSocket's end."""


class BrowserApp:
    """Serves the page; what the WebSocket saw is the answer to its last request."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._seen = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            try:
                await self._websocket(scope, receive, send)
            finally:
                self._ended.set()
        elif scope["type"] == "http":
            content_type, body = b"text/html", PAGE
            if scope["path"] == "/end":
                await self._ended.wait()
                content_type, body = b"text/javascript", b"show(%a)" % self._seen
            headers = [(b"content-type", content_type)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            raise NotImplementedError(scope["type"])

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        received = await receive()
        await send({"type": "websocket.send", "text": received["text"]})
        end = await receive()
        self._seen = "{} {} {} {}".format(
            scope["http_version"], scope["scheme"], end["code"], end["reason"]
        )


@pytest.mark.tool("chromium")
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "h2 2 wss 3000 100000"), ({"http2": False}, "http/1.1 1.1 wss 3000 100000")],
    ids=["HTTP/2", "HTTP/1.1"],
)
def test_chromium(serve: Serve, tmp_path: Any, options: Any, expected: str) -> None:
    """By extended CONNECT where the page came over HTTP/2: the application sees the version."""
    server = serve(BrowserApp(), **options)
    assert f'<pre id="result">{expected}</pre>' in chromium(server, tmp_path)
