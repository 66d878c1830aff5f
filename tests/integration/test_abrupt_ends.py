"""Field note 5: clients end connections in every way; none of them is an error of the server."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

import pytest
from h2client import H2Client
from serving import Command

MIB = 1024 * 1024

End = Callable[[socket.socket], None]


def _close(sock: socket.socket) -> None:
    """Close TCP without close_notify."""
    sock.close()


def _reset(sock: socket.socket) -> None:
    """End TCP by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _half_close(sock: socket.socket) -> None:
    """Shut down writing, read for a while, close."""
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(0.1)
    with contextlib.suppress(OSError):
        for _ in range(64):
            if not sock.recv(65_536):
                break
    sock.close()


def _close_notify(sock: socket.socket) -> None:
    """Say close_notify while the server still sends, then close TCP."""
    sock.settimeout(0.1)
    with contextlib.suppress(OSError, AttributeError, ValueError):
        sock.unwrap()  # type: ignore[attr-defined]
    sock.close()


def _idle(sock: socket.socket, protocol: str) -> None:
    """A connection that has served a request."""
    if protocol == "HTTP/2":
        client = H2Client(sock)
        client.finish(client.start("/hello"))
    else:
        sock.sendall(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")


def _download(sock: socket.socket, protocol: str) -> None:
    """A connection on which a large answer is on its way."""
    if protocol == "HTTP/2":
        client = H2Client(sock, stream_window=64 * MIB, connection_window=64 * MIB)
        stream_id = client.start("/flood?key=any")
        client.read_until(lambda: len(client.responses[stream_id].body) > MIB)
    else:
        sock.sendall(b"GET /flood?key=any HTTP/1.1\r\nhost: localhost\r\n\r\n")
        taken = 0
        while taken < MIB:
            taken += len(sock.recv(65_536))


def _upload(sock: socket.socket, protocol: str) -> None:
    """A connection on which a body is on its way and being echoed."""
    if protocol == "HTTP/2":
        client = H2Client(sock)
        stream_id = client.start("/echo", "POST", end_stream=False)
        client.send(stream_id, bytes(60_000))
        client.read_until(lambda: client.responses[stream_id].status)
        client.send(stream_id, bytes(60_000))
    else:
        sock.sendall(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999\r\n\r\n.")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(bytes(100_000))


def _nothing(sock: socket.socket, protocol: str) -> None:
    """A connection that never said anything."""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_no_end_of_a_connection_is_an_error(
    command: Callable[..., Command], loop: str, tls: bool
) -> None:
    """Every end in every state over both protocols; the server then serves on, and stops.

    That its output has no error and no traceback is checked when it has ended.
    """
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    server = command("probe_app:app", f"--loop={loop}", tls=tls)
    for end in (_close, _reset, _half_close, _close_notify):
        for state in (_nothing, _idle, _download, _upload):
            for protocol in ("HTTP/2", "HTTP/1.1"):
                sock = server.connect("h2" if protocol == "HTTP/2" else "http/1.1")
                state(sock, protocol)
                end(sock)
    _during_the_handshake(server)
    with H2Client(server.connect("h2")) as client:
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200
    server.terminate()
    assert server.wait() == 0
    assert not server.complaints()


def _during_the_handshake(server: Command) -> None:
    for first in (
        b"",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ):
        for end in (_close, _reset):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(first)
            end(sock)
