"""What was sent is on its way, and what was answered arrives."""

from __future__ import annotations

import contextlib
import http.client
import uuid
from collections.abc import Callable

import pytest
from apps import letters
from h2client import H2Client
from probe_app import app
from serving import BackgroundServer

MIB = 1024 * 1024
Serve = Callable[..., BackgroundServer]


def _read_answer(server: BackgroundServer, protocol: str, path: str, expected: bytes) -> None:
    """Ask for ``path`` and return once ``expected`` has arrived; leave the connection then."""
    if protocol == "HTTP/2":
        with H2Client(server.connect("h2")) as client:
            stream_id = client.start(path)
            client.read_until(lambda: client.responses[stream_id].body == expected)
        return
    with server.connect("http/1.1") as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
        received = b""
        while expected not in received:
            data = sock.recv(65_536)
            assert data, received
            received += data


@pytest.mark.parametrize(
    ("path", "expected"), [("/block", b"all of it"), ("/block-midway", b"the first part")]
)
def test_what_send_took_arrives_while_the_application_blocks_the_loop(
    serve: Serve, protocol: str, tls: bool, path: str, expected: bytes
) -> None:
    """ASGI: the loop stays blocked until this test lets go, which it does with the answer."""
    server = serve(app, tls=tls)
    key = uuid.uuid4().hex
    _read_answer(server, protocol, f"{path}?key={key}", expected)
    assert not letters.posted(f"{key} unblocked")
    letters.post(f"{key} go on")
    letters.wait(f"{key} unblocked")


def test_http1_rejection_arrives_at_a_client_that_sends_on_blindly(serve: Serve, tls: bool) -> None:
    """RFC 9112 section 9.6: 100 times of 100; closing at once would destroy the answer."""
    server = serve(app, tls=tls)
    head = b"POST /reject HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (8 * MIB)
    request = head + bytes(8 * MIB)
    for _ in range(100):
        with server.connect("http/1.1") as sock:
            with contextlib.suppress(OSError):  # the server may well stop reading
                sock.sendall(request)
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.status == 413
            assert response.read() == b"too much"


def test_http2_rejection_arrives_and_gives_the_credit_back(serve: Serve, tls: bool) -> None:
    """RFC 9113 section 8.1: an early answer, then RST_STREAM(NO_ERROR); 100 times on one
    connection, which is 25 times its window (field note 1)."""
    server = serve(app, tls=tls)
    with H2Client(server.connect("h2")) as client:
        client.ping()  # the server's SETTINGS are here, and with them its windows
        sent = 0
        for _ in range(100):
            stream_id = client.start("/reject", "POST", end_stream=False)
            sent += client.send(stream_id, bytes(8 * MIB))  # all that the windows allow
            (response,) = client.finish(stream_id)
            client.read_until(lambda response=response: response.reset is not None)
            assert (response.status, response.body, response.reset) == (413, b"too much", 0)
        assert sent >= 100 * 65_535
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200
