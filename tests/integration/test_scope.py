"""What an application is told of a request that came through real sockets."""

from __future__ import annotations

import ast
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import probe_app
import pytest
from h2client import H2Client
from serving import BackgroundServer

Serve = Callable[..., BackgroundServer]
TARGET = "/scope/gr%C3%BC%C3%9Fe%2Fx?q=%C3%A9&q=2"


def _ask_http2(sock: socket.socket, target: str) -> dict[str, Any]:
    with H2Client(sock) as client:
        (response,) = client.finish(client.start(target, headers=[("x-name", "value")]))
    return ast.literal_eval(response.body.decode())


def _ask_http1(sock: socket.socket, target: str) -> dict[str, Any]:
    with sock:
        sock.sendall(
            b"GET %b HTTP/1.1\r\nX-Name: value\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            % target.encode()
        )
        received = b""
        while data := sock.recv(65_536):
            received += data
    return ast.literal_eval(received.partition(b"\r\n\r\n")[2].decode())


def test_the_scope_is_as_asgi_has_it(serve: Serve, protocol: str, tls: bool) -> None:
    """Field note 25: ports are integers, ``host`` is first, ``path`` is decoded."""
    server = serve(probe_app.app, tls=tls)
    name = "h2" if protocol == "HTTP/2" else "http/1.1"
    sock = server.connect(name)
    client = sock.getsockname()
    scope = (_ask_http2 if name == "h2" else _ask_http1)(sock, TARGET)
    expected = [(b"host", b"localhost"), (b"x-name", b"value")]
    if name == "http/1.1":
        expected.append((b"connection", b"close"))
    assert [tuple(field) for field in scope.pop("headers")] == expected
    assert ("tls" in scope.pop("extensions", {})) is tls
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": protocol.removeprefix("HTTP/"),
        "method": "GET",
        "scheme": "https" if tls else "http",
        "path": "/scope/grüße/x",
        "raw_path": b"/scope/gr%C3%BC%C3%9Fe%2Fx",
        "query_string": b"q=%C3%A9&q=2",
        "root_path": "",
        "client": client,
        "server": ("127.0.0.1", server.port),
        "state": {},
    }


def test_a_unix_socket_has_a_path_and_no_client(
    serve: Serve, protocol: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    serve(probe_app.app, tls=False, bind=[f"unix:{path}"])
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    scope = (_ask_http2 if protocol == "HTTP/2" else _ask_http1)(sock, "/scope")
    assert (scope["server"], scope["client"]) == ((path, None), None)


def test_root_path_is_in_front_of_path(serve: Serve, protocol: str) -> None:
    server = serve(probe_app.app, root_path="/scope")
    name = "h2" if protocol == "HTTP/2" else "http/1.1"
    scope = (_ask_http2 if name == "h2" else _ask_http1)(server.connect(name), "/x")
    assert (scope["root_path"], scope["path"]) == ("/scope", "/scope/x")


@pytest.mark.parametrize("ws", [True, False])
def test_extended_connect_is_advertised_where_it_is_served(serve: Serve, ws: bool) -> None:
    """Field note 10: browsers use what is advertised (RFC 8441 section 3)."""
    with H2Client(serve(probe_app.app, ws=ws).connect("h2")) as client:
        client.ping()
        assert client.h2.remote_settings.enable_connect_protocol == ws
