"""SIGTERM: what is in flight completes, what is idle does not hold the process up."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from collections.abc import Callable

import pytest
from apps import letters
from h2client import H2Client
from serving import Command

Start = Callable[..., Command]
Measured = Callable[[str], None]

PROMPT = 5.0
"""Seconds for what takes one or two; the graceful time-out is five times as long."""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return f"--loop={request.param}"


def _wait_for_output(server: Command, text: str) -> None:
    deadline = time.monotonic() + letters.HANG
    while not any(text in line for line in list(server.output)):
        assert time.monotonic() < deadline, server.output
        time.sleep(0.01)


def _begin_http1_echo(server: Command) -> socket.socket:
    """Begin an upload of ten octets and return when five have been echoed."""
    sock = server.connect("http/1.1")
    sock.sendall(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345")
    received = b""
    while not received.endswith(b"5\r\n12345\r\n"):
        data = sock.recv(65_536)
        assert data
        received += data
    assert received.startswith(b"HTTP/1.1 200 ")
    return sock


def _end_http1_echo(sock: socket.socket) -> None:
    with sock:
        sock.sendall(b"67890")
        received = b""
        while data := sock.recv(65_536):
            received += data
        assert received == b"5\r\n67890\r\n0\r\n\r\n"  # and then the connection's end


def test_fifty_requests_in_flight_all_complete(command: Start, loop: str) -> None:
    """Nine on each of five HTTP/2 connections, one on each of five HTTP/1.1 connections."""
    server = command("probe_app:app", loop)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(H2Client(server.connect("h2"))) for _ in range(5)]
        uploads = []
        for client in clients:
            for _ in range(9):
                stream_id = client.start("/echo", "POST", end_stream=False)
                client.send(stream_id, b"12345")
                uploads.append((client, stream_id))
        for client, stream_id in uploads:
            client.read_until(lambda c=client, s=stream_id: c.responses[s].body == b"12345")
        socks = [_begin_http1_echo(server) for _ in range(5)]

        server.terminate()
        for client in clients:
            client.read_until(lambda client=client: client.goaways)

        for client, stream_id in uploads:
            client.send(stream_id, b"67890", end_stream=True)
        for sock in socks:
            _end_http1_echo(sock)
        for client, stream_id in uploads:
            (response,) = client.finish(stream_id)
            assert (response.status, response.body, response.reset) == (200, b"1234567890", None)
        for client in clients:
            _read_to_the_end(client)
            # Field note 24: 2^31-1 first, then the last stream that was served.
            assert client.goaways == [(2**31 - 1, 0), (17, 0)]
    assert server.wait() == 0


def _read_to_the_end(client: H2Client) -> None:
    while not client.closed:
        client.read()


def test_idle_connections_do_not_hold_it_up(command: Start, loop: str, measured: Measured) -> None:
    """Field note 4: 50 of each protocol, whose clients neither read nor close."""
    server = command("probe_app:app", loop)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(H2Client(server.connect("h2")))
            client.finish(client.start("/hello"))
            sock = stack.enter_context(server.connect("http/1.1"))
            sock.sendall(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.read() == b'{"http_version": "1.1"}'
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        seconds = time.monotonic() - began
    measured(f"{seconds:.2f} s from SIGTERM to the end")
    assert seconds < PROMPT


def test_health_checks_that_stay_connected_do_not_hold_it_up(
    command: Start, tls: bool, measured: Measured
) -> None:
    """Field note 17: a preface, then nothing; SETTINGS and PING are never acknowledged."""
    server = command("probe_app:app", tls=tls)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            checker = stack.enter_context(H2Client(server.connect("h2")))
            silent = stack.enter_context(server.connect("h2"))
            silent.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            assert silent.recv(9)  # the server's SETTINGS
            checker.ping()
        stack.enter_context(server.connect("h2"))  # not even a preface
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        seconds = time.monotonic() - began
    measured(f"{seconds:.2f} s from SIGTERM to the end")
    assert seconds < PROMPT


def test_second_signal_ends_it_at_once(command: Start, loop: str) -> None:
    server = command("probe_app:app", loop)
    with H2Client(server.connect("h2")) as client:
        stream_id = client.start("/forever")
        client.read_until(lambda: client.responses[stream_id].body == b"begun")
        server.terminate()
        client.read_until(lambda: client.goaways)
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 128 + 15
        assert time.monotonic() - began < PROMPT


@pytest.mark.parametrize("path", ["/listen", "/forever"])
def test_what_outlives_the_graceful_timeout_is_reset(command: Start, loop: str, path: str) -> None:
    """Whether the application listens for it or not, the process ends with exit code 0."""
    server = command("probe_app:app", loop, "--graceful-timeout=0.2")
    with H2Client(server.connect("h2")) as client, server.connect("http/1.1") as sock:
        stream_id = client.start(path)
        client.read_until(lambda: client.responses[stream_id].body == b"begun")
        sock.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
        received = b""
        while not received.endswith(b"5\r\nbegun\r\n"):
            received += sock.recv(65_536)
        server.terminate()
        (response,) = client.finish(stream_id)
        assert (response.ended, response.reset) == (False, 8)
        # RFC 9112 section 8: HTTP/1.1 has only the end of the connection to say so.
        with contextlib.suppress(OSError):
            assert sock.recv(65_536) == b""
        assert server.wait() == 0
    assert any("2 requests and 2 connections did not finish" in line for line in server.output)


def test_new_connections_are_refused_while_requests_finish(command: Start) -> None:
    server = command("probe_app:app")
    sock = _begin_http1_echo(server)
    server.terminate()
    _wait_for_output(server, "stopping")
    with pytest.raises(OSError):
        _connect_repeatedly(server)
    _end_http1_echo(sock)
    assert server.wait() == 0


def _connect_repeatedly(server: Command) -> None:
    for _ in range(1000):  # the first may still be in the kernel's queue
        server.connect("http/1.1").close()


def test_a_file_descriptor_is_closed_with_its_connection(command: Start, protocol: str) -> None:
    """Field note 7: connections leave nothing behind, however they end."""
    server = command("probe_app:app")
    folder = f"/proc/{server.process.pid}/fd"
    if not os.path.isdir(folder):
        pytest.skip("needs /proc")

    def one() -> None:
        with server.connect("h2" if protocol == "HTTP/2" else "http/1.1") as sock:
            if protocol == "HTTP/2":
                client = H2Client(sock)
                client.finish(client.start("/hello"))
            else:
                sock.sendall(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")

    one()
    before = len(os.listdir(folder))
    for _ in range(50):
        one()
    deadline = time.monotonic() + letters.HANG
    while len(os.listdir(folder)) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir(folder)) <= before
