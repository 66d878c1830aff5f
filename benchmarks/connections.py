"""What h2load does not measure: TLS handshakes, and connections that do nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

from .processes import GET, H2_PREFACE, client_context
from .servers import HOST

THREADS = 4
"""Handshakes under way at a time: one would wait for the network, many for the interpreter."""

TIMEOUT = 10.0
SETTINGS, ACK = 4, 1
SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"
FRAME_HEADER = 9


class Handshakes:
    """Connections with one HTTP/1.1 request each, one after another in each of some threads.

    The request is there because tickets come after the handshake; without
    ``resume`` it is sent too, so that the two differ in the handshake alone.
    Every ticket is used once, as some servers demand.
    """

    def __init__(self, port: int, *, resume: bool) -> None:
        self.port = port
        self.resume = resume
        self.done = self.resumed = self.failed = 0
        self._lock = threading.Lock()

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._repeat, args=(end,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, end: float) -> None:
        context = client_context("http/1.1")  # of its own: tickets are not shared
        session: ssl.SSLSession | None = None
        while time.monotonic() < end:
            try:
                resumed, ticket = exchange(context, self.port, session)
            except OSError:
                resumed, ticket = None, None
            session = ticket if self.resume else None
            with self._lock:
                if resumed is None:
                    self.failed += 1
                else:
                    self.done += 1
                    self.resumed += resumed


def exchange(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Connect, ask, read to the end: whether the session was resumed, and the next one."""
    with (
        socket.create_connection((HOST, port), TIMEOUT) as plain,
        context.wrap_socket(plain, session=session, server_hostname="localhost") as sock,
    ):
        sock.sendall(GET)
        answer = b""
        with contextlib.suppress(ssl.SSLEOFError):
            while piece := sock.recv(65536):
                answer += piece
        if b" 200" not in answer[:12]:
            raise OSError("no answer")
        return bool(sock.session_reused), sock.session


@contextlib.contextmanager
def idle_connections(port: int, number: int) -> Iterator[None]:
    """Open HTTP/2 connections that have said and heard all of the preface, and no more."""
    context = client_context("h2")
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            plain = stack.enter_context(socket.create_connection((HOST, port), TIMEOUT))
            sock = context.wrap_socket(plain, server_hostname="localhost")
            _exchange_prefaces(stack.enter_context(sock))
        yield


def _exchange_prefaces(sock: ssl.SSLSocket) -> None:
    """RFC 9113 section 3.4: their SETTINGS acknowledged, and ours acknowledged by them."""
    sock.sendall(H2_PREFACE)
    received = b""
    theirs = ours = False
    while not (theirs and ours):
        while len(received) < FRAME_HEADER or len(received) < _size(received):
            piece = sock.recv(65536)
            if not piece:
                raise OSError("closed during the preface")
            received += piece
        if received[3] == SETTINGS:
            if received[4] & ACK:
                ours = True
            else:
                theirs = True
                sock.sendall(SETTINGS_ACK)
        received = received[_size(received) :]


def _size(frame: bytes) -> int:
    return FRAME_HEADER + int.from_bytes(frame[:3])
