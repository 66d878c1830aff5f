"""WebSockets whose far end, or whose application, stops taking: nothing grows."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2client import H2Client
from serving import Command

KIB = 1024
MIB = 1024 * KIB
MOST_GROWTH = 4 * MIB
LARGE = b"\x82\xff" + (64 * KIB).to_bytes(8, "big") + bytes(4 + 64 * KIB)
EMPTY = b"\x82\x80\0\0\0\0" * 10_000
"""Frames with a mask of zeros (RFC 6455 section 5.2)."""

Start = Callable[..., Command]
Measured = Callable[[str], None]

HEAD = (
    b"GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FIELDS = [(":protocol", "websocket"), ("sec-websocket-version", "13")]


@pytest.fixture(params=["wsproto", "websockets", "wsproto in the clear"])
def server(request: pytest.FixtureRequest, command: Start) -> Command:
    engine, _, clear = request.param.partition(" ")
    if engine == "websockets":
        pytest.importorskip("websockets")
    # What is never received from is not waited for at the end.
    options = ["--ws-engine", engine, "--graceful-timeout", "0", "--no-access-log"]
    return command("apps.websockets:app", *options, tls=not clear)


class HTTP1Tunnel:
    """A WebSocket's octets over HTTP/1.1. Writing gives up when the kernel takes no more."""

    def __init__(self, server: Command, path: str) -> None:
        self.sock = server.connect("http/1.1", receive_buffer=64 * KIB)
        self.sock.sendall(HEAD % path.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")

    def push(self, data: bytes) -> bool:
        """Write ``data``; give whether it could be."""
        self.sock.settimeout(0.5)  # in this time a server that reads takes it many times over
        try:
            self.sock.sendall(data)
        except (TimeoutError, ssl.SSLWantWriteError):
            return False
        return True

    def __enter__(self) -> HTTP1Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class HTTP2Tunnel:
    """The same over HTTP/2, without acknowledging what comes. The window says when to stop."""

    def __init__(self, server: Command, path: str) -> None:
        self.client = H2Client(server.connect("h2"), acknowledge=False, connection_window=16 * MIB)
        self.client.ping()
        self.stream_id = self.client.start(path, "CONNECT", headers=FIELDS, end_stream=False)
        response = self.client.responses[self.stream_id]
        self.client.read_until(lambda: response.status)
        assert response.status == 200

    def push(self, data: bytes) -> bool:
        client = self.client
        while data:
            sent = client.send(self.stream_id, data)
            data = data[sent:]
            if data and not sent:
                client.ping()
                client.ping()
                if client.room(self.stream_id) <= 0:
                    return False
        return True

    def __enter__(self) -> HTTP2Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.sock.close()


Tunnel = type[HTTP1Tunnel] | type[HTTP2Tunnel]


@pytest.fixture(params=[HTTP1Tunnel, HTTP2Tunnel], ids=["http1", "http2"])
def tunnel(request: pytest.FixtureRequest) -> Tunnel:
    kind: Tunnel = request.param
    return kind


def _warm_up(server: Command, tunnel: Tunnel, watcher: H2Client) -> int:
    """Have what is allocated once be allocated; give the memory held then."""
    for _ in range(3):
        with tunnel(server, "/echo") as websocket:
            websocket.push(LARGE)
            websocket.push(EMPTY)
    for _ in range(1000):
        _taken(watcher)
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
    return server.memory()


@pytest.fixture
def watcher(server: Command) -> Iterator[H2Client]:
    """One other connection, since many would leave work for the garbage collector."""
    with H2Client(server.connect("h2")) as client:
        yield client


def _taken(watcher: H2Client) -> int:
    (response,) = watcher.finish(watcher.start("/taken"))
    return int(response.body)


@pytest.mark.parametrize("path", ["/flood", "/flood-empty"])
def test_peer_that_never_reads(
    server: Command, watcher: H2Client, tunnel: Tunnel, path: str, measured: Measured
) -> None:
    before = _warm_up(server, tunnel, watcher)
    with tunnel(server, path):
        sent = -1
        while sent != (taken := [_taken(watcher) for _ in range(200)][-1]) or not taken:
            sent = taken
        growth = server.peak_memory() - before
    measured(f"{growth / MIB:.1f} MiB more at the peak, {sent} messages taken")
    assert growth < MOST_GROWTH


@pytest.mark.parametrize(
    ("messages", "count"), [(LARGE, 16 * KIB), (EMPTY, 100)], ids=["64 KiB", "empty"]
)
def test_application_that_never_receives(
    server: Command,
    watcher: H2Client,
    tunnel: Tunnel,
    messages: bytes,
    count: int,
    measured: Measured,
) -> None:
    before = _warm_up(server, tunnel, watcher)
    with tunnel(server, "/deaf") as websocket:
        pushed = 0
        while pushed < count and websocket.push(messages):
            pushed += 1
        assert _taken(watcher) == 0  # it serves on
        growth = server.peak_memory() - before
    measured(f"{growth / MIB:.1f} MiB more at the peak, {pushed} of {count} pieces sent")
    assert growth < MOST_GROWTH


def test_idle_websockets(
    server: Command, watcher: H2Client, tunnel: Tunnel, measured: Measured
) -> None:
    _warm_up(server, tunnel, watcher)
    count = 500
    if tunnel is HTTP1Tunnel:
        before = server.memory()
        open_ones: list[HTTP1Tunnel | socket.socket] = [
            HTTP1Tunnel(server, "/echo") for _ in range(count)
        ]
    else:
        open_ones = []
        clients = []
        before = server.memory()
        for _ in range(count // 100):
            client = H2Client(server.connect("h2"))
            client.ping()
            clients.append(client)
            open_ones.append(client.sock)
            streams = [
                client.start("/echo", "CONNECT", headers=FIELDS, end_stream=False)
                for _ in range(100)
            ]
            responses = [client.responses[stream_id] for stream_id in streams]
            client.read_until(lambda got=responses: all(response.status for response in got))
    each = (server.memory() - before) / count
    measured(f"{each / KIB:.1f} KiB each, for {count}")
    for websocket in open_ones:
        (websocket.sock if isinstance(websocket, HTTP1Tunnel) else websocket).close()
    assert each < 64 * KIB
