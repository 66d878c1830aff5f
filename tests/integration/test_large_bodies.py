"""A gibibyte each way on each engine: every octet right, and no memory for it.

64 MiB of it unless H2ASGI_LARGE_BODIES=1 asks for all.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable

import h2.events
import pytest
from apps import large
from h2client import H2Client
from serving import Command

from h2asgi.protocol.engines import ENGINES

MIB = 1024 * 1024
SIZE = 1024 * MIB if os.environ.get("H2ASGI_LARGE_BODIES") == "1" else 64 * MIB
WARM_UP = 8 * MIB
MOST_GROWTH = 32 * MIB

HTTP1_HEAD = b"%s %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"

Transfer = Callable[[socket.socket, int], None]


@pytest.fixture(
    params=[(protocol, engine) for protocol in ENGINES for engine in ENGINES[protocol]],
    ids=lambda param: param[1],
)
def server(request: pytest.FixtureRequest, command: Callable[..., Command]) -> tuple[str, Command]:
    """The protocol's name in ALPN, and a process that serves it on one engine."""
    protocol, engine = request.param
    if engine != list(ENGINES[protocol])[-1]:
        try:
            ENGINES[protocol][engine]()
        except ImportError as error:
            if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
                pytest.fail(f"{error}, and H2ASGI_REQUIRE_NATIVE is set")
            pytest.skip(str(error))
    running = command("apps.large:app", f"--{protocol}-engine", engine, "--no-access-log")
    return "h2" if protocol == "http2" else "http/1.1", running


def _check_memory(
    server: tuple[str, Command], transfer: Transfer, measured: Callable[[str], None]
) -> None:
    """Transfer a little first: what is allocated once, whatever the size, is there after it."""
    alpn, running = server
    with running.connect(alpn) as sock:
        transfer(sock, WARM_UP)
    before = running.memory()
    with running.connect(alpn) as sock:
        transfer(sock, SIZE)
    growth = running.peak_memory() - before
    measured(f"{growth / MIB:.1f} MiB more at the peak, for {SIZE // MIB} MiB")
    assert growth < MOST_GROWTH


def test_upload(server: tuple[str, Command], measured: Callable[[str], None]) -> None:
    _check_memory(server, _upload_http2 if server[0] == "h2" else _upload_http1, measured)


def test_download(server: tuple[str, Command], measured: Callable[[str], None]) -> None:
    _check_memory(server, _download_http2 if server[0] == "h2" else _download_http1, measured)


class HashingClient(H2Client):
    """Hashes what arrives, and keeps none of it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, stream_window=MIB, connection_window=MIB)
        self.digest = hashlib.sha256()

    def _note(self, event: h2.events.Event) -> None:
        super()._note(event)
        if isinstance(event, h2.events.DataReceived):
            self.digest.update(event.data)
            self.responses[event.stream_id].body.clear()


def _upload_http2(sock: socket.socket, size: int) -> None:
    client = H2Client(sock)
    stream_id = client.start("/upload", "POST", end_stream=False)
    for block in large.blocks(size):
        left = memoryview(block)
        while left:
            sent = client.send(stream_id, left)
            left = left[sent:]
            if left:
                client.read()
    client.h2.end_stream(stream_id)
    client.flush()
    (response,) = client.finish(stream_id)
    assert json.loads(response.body) == {"size": size, "sha256": large.sha256(size)}


def _download_http2(sock: socket.socket, size: int) -> None:
    client = HashingClient(sock)
    (response,) = client.finish(client.start(f"/download?size={size}"))
    assert response.status == 200
    assert client.digest.hexdigest() == large.sha256(size)


def _upload_http1(sock: socket.socket, size: int) -> None:
    sock.sendall(HTTP1_HEAD % (b"POST", b"/upload", size))
    for block in large.blocks(size):
        sock.sendall(block)
    with sock.makefile("rb") as answer:
        length = _read_head(answer)
        body = json.loads(answer.read(length))
    assert body == {"size": size, "sha256": large.sha256(size)}


def _download_http1(sock: socket.socket, size: int) -> None:
    sock.sendall(HTTP1_HEAD % (b"GET", b"/download?size=%d" % size, 0))
    digest = hashlib.sha256()
    with sock.makefile("rb") as answer:
        assert _read_head(answer) == size
        left = size
        while left:
            piece = answer.read1(min(left, MIB))
            assert piece
            digest.update(piece)
            left -= len(piece)
    assert digest.hexdigest() == large.sha256(size)


def _read_head(answer: socket.SocketIO) -> int:
    """Read up to the end of the head; give its content-length."""
    assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
    length = -1
    while (line := answer.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    return length
