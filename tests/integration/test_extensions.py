"""The extensions of HTTP responses over real sockets, on every engine."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from h2client import H2Client
from serving import BackgroundServer

from h2asgi.protocol.engines import ENGINES

Serve = Callable[..., BackgroundServer]

CHECKSUM = (b"x-checksum", b"1")
STYLE = (b"link", b"</style.css>; rel=preload; as=style")
FILE_SIZE = 5 * 1024 * 1024 + 7


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await globals()["_" + scope["path"].strip("/")](scope, receive, send)


async def _start(send: Any, *headers: Any, status: int = 200, **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def _body(send: Any, data: bytes, more_body: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more_body})


async def _offered(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await _body(send, " ".join(sorted(scope["extensions"].keys() - {"tls"})).encode())


async def _trailers(scope: Any, receive: Any, send: Any) -> None:
    await _start(send, trailers=True)
    for piece in (b"a" * 100_000, b"b"):
        await _body(send, piece, True)
    await _body(send, b"")
    trailers = {"type": "http.response.trailers", "headers": [CHECKSUM]}
    await send({**trailers, "more_trailers": True})
    await send({**trailers, "headers": [(b"second", b"2")]})


async def _echo_trailers(scope: Any, receive: Any, send: Any) -> None:
    message = {"more_body": True}
    while message["more_body"]:
        message = await receive()
    await _start(send)
    await _body(send, repr(message.get("trailers")).encode())


async def _hint(scope: Any, receive: Any, send: Any) -> None:
    hint = {"type": "http.response.early_hint", "links": [STYLE[1]]}
    await send(hint)
    await _start(send)
    await send(hint)
    await receive()
    await _body(send, b"styled")


def _query(scope: Any) -> dict[str, str]:
    return {key: value[0] for key, value in parse_qs(scope["query_string"].decode()).items()}


async def _path(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.pathsend", "path": _query(scope)["path"]})


async def _file(scope: Any, receive: Any, send: Any) -> None:
    query = _query(scope)
    message = {"type": "http.response.zerocopysend"}
    with open(query["path"], "rb") as file:
        await _start(send, status=206)
        await _body(send, b"<", True)
        part = {"offset": int(query["offset"]), "count": int(query["count"])}
        await send({**message, "file": file, **part, "more_body": True})
        await _body(send, b">")


@dataclass
class Answer:
    """A response as both protocols have it."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    hints: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    whole: bool = False


class Client:
    """Sends one request at a time, each on a connection of its own."""

    def __init__(self, server: BackgroundServer, protocol: str) -> None:
        self.server = server
        self.protocol = protocol

    def get(
        self,
        path: str,
        *fields: tuple[str, str],
        method: str = "GET",
        midway: Callable[[], None] = lambda: None,
    ) -> Answer:
        """``midway`` is called when something has arrived, and before more is read."""
        if self.protocol == "http2":
            return self._get_http2(path, fields, method, midway)
        return _http1(self.server.connect("http/1.1"), path, fields, method, midway=midway)

    def _get_http2(self, path: str, fields: Any, method: str, midway: Callable[[], None]) -> Answer:
        with H2Client(self.server.connect("h2"), connection_window=1024 * 1024) as client:
            stream_id = client.start(path, method, headers=fields)
            client.read_until(lambda: client.responses[stream_id].status)
            midway()
            (response,) = client.finish(stream_id)
        return Answer(
            response.status,
            dict(response.headers),
            response.hints,
            bytes(response.body),
            response.trailers,
            response.ended,
        )


def _http1(
    sock: socket.socket,
    path: str,
    fields: Any,
    method: str,
    version: str = "1.1",
    midway: Callable[[], None] = lambda: None,
) -> Answer:
    lines = [f"{method} {path} HTTP/{version}", "host: localhost", "connection: close"]
    lines += map(": ".join, fields)
    with sock:
        sock.sendall("\r\n".join([*lines, "\r\n"]).encode())
        received = bytearray(sock.recv(262_144))
        midway()
        try:
            while data := sock.recv(262_144):
                received += data
        except ConnectionError:
            pass  # cut off
    answer = Answer()
    while not answer.status:
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        status, *lines_received = head.split(b"\r\n")
        pairs = [tuple(line.split(b": ", 1)) for line in lines_received]
        if status.startswith(b"HTTP/1.1 1"):
            answer.hints += pairs  # type: ignore[arg-type]
            received = bytearray(rest)
        else:
            answer.status = int(status.split()[1])
            answer.headers = dict(pairs)  # type: ignore[arg-type]
    _read_http1_body(answer, rest, method)
    return answer


def _read_http1_body(answer: Answer, rest: bytes, method: str) -> None:
    if answer.headers.get(b"transfer-encoding") == b"chunked":
        while not answer.whole and b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            if int(size, 16):
                answer.body += rest[: int(size, 16)]
                rest = rest[int(size, 16) + 2 :]
            else:
                assert rest.endswith(b"\r\n")
                lines = rest[:-2].split(b"\r\n")[:-1]
                answer.trailers = [tuple(line.split(b": ", 1)) for line in lines]  # type: ignore[misc]
                answer.whole = True
    else:
        answer.body = rest
        expected = int(answer.headers.get(b"content-length", len(rest)))
        answer.whole = method == "HEAD" or len(rest) == expected


@pytest.fixture(
    params=[(name, engine) for name in ("http1", "http2") for engine in ENGINES[name]],
    ids=lambda param: param[1],
)
def client(request: pytest.FixtureRequest, serve: Serve, tls: bool) -> Client:
    protocol, engine = request.param
    try:
        ENGINES[protocol][engine]()
    except ImportError as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            pytest.fail(f"{error}, and H2ASGI_REQUIRE_NATIVE is set")
        pytest.skip(str(error))
    return Client(serve(app, tls=tls, **{f"{protocol}_engine": engine}), protocol)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"".join(b"%08d" % i for i in range(FILE_SIZE // 8 + 1))[:FILE_SIZE])
    return path


TE = ("te", "trailers")


def test_what_is_offered(client: Client) -> None:
    always = "http.response.early_hint http.response.pathsend"
    trailers = "http.response.trailers"
    files = "http.response.zerocopysend"
    with_trailers = f"{always} {trailers} {files}".encode()
    assert client.get("/offered", TE).body == with_trailers
    if client.protocol == "http2":
        assert client.get("/offered").body == with_trailers
    else:
        assert client.get("/offered").body == f"{always} {files}".encode()
        sock = client.server.connect("http/1.1")
        assert _http1(sock, "/offered", [TE], "GET", "1.0").body == (
            b"http.response.pathsend http.response.zerocopysend"
        )


def test_trailers_follow_the_body(client: Client) -> None:
    answer = client.get("/trailers", TE)
    assert answer.body == b"a" * 100_000 + b"b"
    assert answer.trailers == [CHECKSUM, (b"second", b"2")]
    assert answer.whole


def test_http1_clients_get_trailers_where_they_say_so(client: Client) -> None:
    answer = client.get("/trailers")
    assert answer.whole
    assert bool(answer.trailers) is (client.protocol == "http2")


def test_head_has_no_trailers(client: Client) -> None:
    answer = client.get("/trailers", TE, method="HEAD")
    assert (answer.status, answer.body, answer.trailers) == (200, b"", [])
    assert answer.whole


def test_trailers_of_a_request_reach_the_application(client: Client) -> None:
    if client.protocol == "http2":
        with H2Client(client.server.connect("h2")) as http2:
            stream_id = http2.start("/echo_trailers", "POST", end_stream=False)
            http2.send(stream_id, b"x")
            http2.h2.send_headers(stream_id, [CHECKSUM], end_stream=True)
            http2.flush()
            (response,) = http2.finish(stream_id)
            body = bytes(response.body)
    else:
        sock = client.server.connect("http/1.1")
        sock.sendall(
            b"POST /echo_trailers HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Checksum: 1\r\n\r\n"
        )
        body = _received(sock)
    assert body == repr([CHECKSUM]).encode()


def _received(sock: socket.socket) -> bytes:
    with sock:
        received = b""
        while data := sock.recv(65_536):
            received += data
    return received.partition(b"\r\n\r\n")[2]


def test_early_hints_come_ahead_of_the_head(client: Client) -> None:
    answer = client.get("/hint")
    assert answer.hints == [STYLE, STYLE]
    assert (answer.status, answer.body) == (200, b"styled")


def test_http10_clients_get_no_early_hints(client: Client) -> None:
    """RFC 9110 section 15.2."""
    sock = client.server.connect("http/1.1")
    answer = _http1(sock, "/hint", [], "GET", "1.0")
    assert (answer.hints, answer.status, answer.body) == ([], 200, b"styled")


def test_a_file_by_its_path(client: Client, path: Path) -> None:
    answer = client.get(f"/path?path={path}")
    assert answer.headers[b"content-length"] == b"%d" % FILE_SIZE
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert answer.whole
    answer = client.get(f"/path?path={path}", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.whole


def test_a_part_of_an_open_file_between_pieces_of_a_body(client: Client, path: Path) -> None:
    answer = client.get(f"/file?path={path}&offset=1000001&count=2000000")
    assert answer.status == 206
    assert answer.body == b"<" + path.read_bytes()[1_000_001:3_000_001] + b">"
    assert answer.whole


def test_a_file_that_is_not_there_is_a_500(client: Client, path: Path) -> None:
    answer = client.get(f"/path?path={path}x")
    assert answer.status == 500
    assert answer.whole
    assert "No such file" in client.server.errors.pop()


def test_a_file_that_shrinks_does_not_look_whole(client: Client, path: Path) -> None:
    os.truncate(path, 64 * 1024 * 1024)
    shrink = partial(os.truncate, path, 1024 * 1024)
    answer = client.get(f"/path?path={path}", midway=shrink)
    assert not answer.whole
    os.truncate(path, 1000)
    assert client.get(f"/path?path={path}").whole
    client.server.stop()
    assert "has become shorter" in client.server.errors.pop()
