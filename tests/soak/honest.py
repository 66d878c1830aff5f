"""Clients that do nothing wrong, each errand on connections of its own; what fails is told."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .soak_app import BLOCK
from .target import H2Client, Target

from wsclient import H1WebSocket, H2WebSocket  # isort: skip  # which target.py has found

UPLOAD = BLOCK * 10
DOWNLOAD = 400_000
SMALL_BUFFER = 16 * 1024


def _assert_digest(body: bytes, sent: bytes) -> None:
    expected = {"size": len(sent), "sha256": hashlib.sha256(sent).hexdigest()}
    assert json.loads(body) == expected


def _assert_download(body: bytes) -> None:
    assert len(body) == DOWNLOAD
    assert body == (BLOCK * (DOWNLOAD // len(BLOCK) + 1))[:DOWNLOAD]


@contextlib.contextmanager
def http1(target: Target) -> Iterator[Callable[..., bytes]]:
    """Requests over one connection: ``ask(method, path, body)``."""
    connection = http.client.HTTPSConnection(
        "localhost",
        target.port,
        timeout=60,
        context=target.certificate.client_context("http/1.1"),
    )

    def ask(method: str, path: str, body: bytes | None = None) -> bytes:
        connection.request(method, path, body)
        response = connection.getresponse()
        assert response.status == 200, response.status
        return response.read()

    with contextlib.closing(connection):
        yield ask


def http1_requests(target: Target) -> int:
    with http1(target) as ask:
        for _ in range(20):
            assert ask("GET", "/hello") == b"hello"
    return 20


def http1_bodies(target: Target) -> int:
    with http1(target) as ask:
        _assert_digest(ask("POST", "/digest", UPLOAD), UPLOAD)
        _assert_download(ask("GET", f"/download?size={DOWNLOAD}"))
    return 2


def http1_pipeline(target: Target) -> int:
    request = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n%s\r\n"
    with target.connect("http/1.1") as sock:
        sock.sendall(request % b"" * 9 + request % b"connection: close\r\n")
        answers = b""
        while piece := sock.recv(65_536):
            answers += piece
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"\r\n\r\nhello") == 10
    return 10


def http1_websocket(target: Target) -> int:
    with target.connect("http/1.1") as sock:
        return _echo(H1WebSocket(sock, compress=True))


def http2_requests(target: Target) -> int:
    """Many at once, some of which the client thinks better of."""
    with H2Client(target.connect("h2")) as client:
        for _ in range(4):
            streams = [client.start("/hello") for _ in range(10)]
            client.reset(client.start(f"/download?size={DOWNLOAD}"))
            for response in client.finish(*streams):
                assert (response.status, bytes(response.body)) == (200, b"hello")
        client.ping()
    return 44


def http2_bodies(target: Target) -> int:
    """An upload and a download beside each other; each half of the upload's stream ends alone."""
    with H2Client(target.connect("h2")) as client:
        download = client.start(f"/download?size={DOWNLOAD}")
        upload = client.start("/digest", "POST", end_stream=False)
        client.upload(upload, UPLOAD)
        down, up = client.finish(download, upload)
    _assert_digest(up.body, UPLOAD)
    _assert_download(bytes(down.body))
    return 2


def http2_slow_reader(target: Target) -> int:
    with H2Client(target.connect("h2", receive_buffer=SMALL_BUFFER)) as client:
        response = client.responses[client.start(f"/download?size={DOWNLOAD}")]
        while not response.over:
            time.sleep(0.01)
            assert not client.closed
            client.read()
    _assert_download(bytes(response.body))
    return 1


def http2_websocket(target: Target) -> int:
    with H2Client(target.connect("h2")) as client:
        websocket = H2WebSocket(client, compress=True)
        assert websocket.accepted()
        done = _echo(websocket)
        (response,) = client.finish(client.start("/hello"))
        assert response.body == b"hello"
    return done + 1


def _echo(websocket: Any) -> int:
    messages = ["text", b"binary", "x" * 40_000, BLOCK]
    for message in messages:
        websocket.send(message)
        assert websocket.receive() == message
    websocket.close()
    websocket.receive()
    return len(messages)


ERRANDS: list[Callable[[Target], int]] = [
    *(http1_requests, http1_bodies, http1_pipeline, http1_websocket),
    *(http2_requests, http2_bodies, http2_slow_reader, http2_websocket),
]
"""Each gives how many requests and messages were answered, as they should be."""


def run(target: Target, clients: int, stopped: Any, results: Any) -> None:
    """In a process of its own: so many clients at once, until ``stopped``.

    Puts (answered, failures) into ``results``.
    """
    counts: list[int] = []
    failures: list[str] = []

    def visit(seed: int) -> None:
        chance = random.Random(seed)
        while not stopped.is_set():
            errand = chance.choice(ERRANDS)
            try:
                counts.append(errand(target))
            except (OSError, AssertionError, http.client.HTTPException) as failure:
                failures.append(f"{errand.__name__}: {failure!r:.300}")

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((sum(counts), failures))


def hello_over_http1(sock: socket.socket) -> Callable[[], None]:
    """A client of one connection: what it gives makes a small request, and checks the answer."""

    def ask() -> None:
        sock.sendall(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nhello"):
            piece = sock.recv(65_536)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 OK"), answer

    return ask


def hello_over_http2(sock: socket.socket) -> Callable[[], None]:
    """The same over HTTP/2."""
    client = H2Client(sock)

    def ask() -> None:
        stream_id = client.start("/hello")
        (response,) = client.finish(stream_id)
        del client.responses[stream_id]
        assert (response.status, bytes(response.body)) == (200, b"hello"), response

    return ask
