"""A new certificate while connections are open: in one process, and with workers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trustme
from command import Command

HANG = 60.0

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = scope["extensions"]["tls"]["server_cert"].encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""

WORKERS = pytest.mark.parametrize("workers", [1, 2])


class Files:
    """A folder with a certificate and its key, and who asks the server that uses it."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.authority = authority
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)
        self.write()

    def write(self, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> str:
        """Put a new pair in place; gives its certificate."""
        leaf = self.authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
        self._put(self.cert, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self._put(self.key, leaf.private_key_pem.bytes())
        return leaf.cert_chain_pems[0].bytes().decode()

    def _put(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)

    def break_it(self) -> None:
        """A key that belongs to another certificate."""
        other = self.authority.issue_cert("localhost")
        self._put(self.key, other.private_key_pem.bytes())


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    (tmp_path / "application.py").write_text(APPLICATION)
    return Files(tmp_path, authority)


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path, files: Files) -> Iterator[Start]:
    commands = []

    def start(*arguments: str, certfile: Path = files.cert, keyfile: Path = files.key) -> Command:
        named = ("-m", "h2asgi", "application:app", "--no-access-log", "--bind", "127.0.0.1:0")
        tls = ("--certfile", str(certfile), "--keyfile", str(keyfile))
        commands.append(Command(tmp_path, *named, *tls, *arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.stop()


def serving(command: Command, workers: int) -> int:
    port = int(command.wait_for_error_line(r"https?://127.0.0.1:(\d+)")[1])
    for _ in range(workers if workers > 1 else 0):
        command.wait_for_error_line("serves$")
    return port


class Connection:
    """HTTP/1.1 over TLS, kept open."""

    def __init__(
        self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        sock = socket.create_connection(("127.0.0.1", port), HANG)
        self.sock = context.wrap_socket(sock, server_hostname="localhost", session=session)
        self.certificate = ssl.DER_cert_to_PEM_cert(self.sock.getpeercert(True) or b"")

    def ask(self) -> str:
        """What the application says that the server's certificate is."""
        self.sock.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with self.sock.makefile("rb") as file:
            length = 0
            while (line := file.readline()) != b"\r\n":
                assert line, "the connection was closed"
                if match := re.match(rb"content-length: (\d+)", line):
                    length = int(match[1])
            return file.read(length).decode()

    def close(self) -> None:
        self.sock.close()


def connect(stack: contextlib.ExitStack, port: int, files: Files) -> Connection:
    return stack.enter_context(contextlib.closing(Connection(port, files.context)))


def wait_for(port: int, files: Files, certificate: str, times: int = 1) -> None:
    """Until so many new connections in a row get that certificate, whoever of the workers asks."""
    end, seen = time.monotonic() + HANG, 0
    while seen < times:
        assert time.monotonic() < end
        with contextlib.ExitStack() as stack:
            found = connect(stack, port, files)
            seen = seen + 1 if found.certificate.strip() == certificate.strip() else 0
        time.sleep(0.01)


@pytest.mark.parametrize(("workers", "hang_up"), [(1, False), (1, True), (2, False)])
def test_open_connections_live_on_and_new_ones_see_the_new_certificate(
    start: Start, files: Files, workers: int, hang_up: bool
) -> None:
    before = files.cert.read_text().split("\n-----BEGIN")[0]
    watch = "--no-watch-certificates" if hang_up else "--watch-certificates"
    command = start("--workers", str(workers), watch, "--first-bytes-timeout", "100")
    port = serving(command, workers)
    with contextlib.ExitStack() as stack:
        connections = [connect(stack, port, files) for _ in range(200)]
        new = files.write()
        if hang_up:
            command.send(signal.SIGHUP)
        wait_for(port, files, new, times=10)
        # Each of them says what it was made with, for as long as it lives.
        told = {connection.ask().strip() for connection in connections}
        assert told == {before.strip()}
        fresh = connect(stack, port, files)
        assert fresh.ask().strip() == new.strip()


def test_a_reload_of_workers_brings_the_new_certificate(start: Start, files: Files) -> None:
    command = start("--workers", "2", "--no-watch-certificates")
    port = serving(command, 2)
    new = files.write()
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
    wait_for(port, files, new, times=10)


@WORKERS
def test_a_pair_that_does_not_match_is_refused_with_one_line(
    start: Start, files: Files, workers: int
) -> None:
    command = start("--workers", str(workers))
    port = serving(command, workers)
    before = files.cert.read_text()
    files.break_it()
    line = command.wait_for_error_line(" error ").string
    assert "does not belong to the certificate" in line
    assert line.endswith(": the certificate in use stays\n")
    wait_for(port, files, before, times=5)
    new = files.write()
    wait_for(port, files, new, times=5)
    command.send(signal.SIGTERM)
    code, _, errors = command.end()
    assert code == 0
    assert errors.count(" error ") == 1


@WORKERS
def test_files_may_come_by_symbolic_links(
    start: Start, files: Files, tmp_path: Path, workers: int
) -> None:
    """As in Kubernetes: ``..data`` leads to a folder, and is swapped for another one at once."""
    live = tmp_path / "live"
    live.mkdir()
    for number in ("1", "2"):
        new = files.write()
        (live / number).mkdir()
        shutil.copy(files.cert, live / number)
        shutil.copy(files.key, live / number)
        if number == "1":
            (live / "..data").symlink_to("1")
            (live / "cert.pem").symlink_to("..data/cert.pem")
            (live / "key.pem").symlink_to("..data/key.pem")
    command = start("--workers", str(workers), certfile=live / "cert.pem", keyfile=live / "key.pem")
    port = serving(command, workers)
    (live / "..new").symlink_to("2")
    (live / "..new").replace(live / "..data")
    wait_for(port, files, new, times=5)


@WORKERS
def test_named_certificates_are_renewed_too(
    start: Start, files: Files, tmp_path: Path, workers: int
) -> None:
    other = tmp_path / "other.pem"

    def write() -> str:
        leaf = files.authority.issue_cert("b.example")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(other))
        return leaf.cert_chain_pems[0].bytes().decode()

    def seen() -> str:
        with socket.create_connection(("127.0.0.1", port), HANG) as sock:
            wrapped = files.context.wrap_socket(sock, server_hostname="b.example")
            with wrapped:
                return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(True) or b"").strip()

    first = write()
    command = start("--workers", str(workers), "--cert", f"b.example={other}")
    port = serving(command, workers)
    assert seen() == first.strip()
    second = write()
    command.wait_for_error_line("certificate was read anew|there is a new certificate")
    end = time.monotonic() + HANG
    while seen() != second.strip():
        assert time.monotonic() < end
    wait_for(port, files, files.cert.read_text().split("\n-----BEGIN")[0])


@WORKERS
def test_another_kind_of_key_takes_the_place_of_the_old_one(
    start: Start, files: Files, workers: int
) -> None:
    """OpenSSL keeps one pair for each kind, and would go on serving the old one to some."""
    command = start("--workers", str(workers))
    port = serving(command, workers)
    new = files.write(trustme.KeyType.RSA)
    if workers > 1:
        command.wait_for_error_line("the workers have been replaced")
    wait_for(port, files, new, times=10)


def test_sessions_are_resumed_in_every_worker_also_after_a_renewal(
    start: Start, files: Files
) -> None:
    command = start("--workers", "4")
    port = serving(command, 4)
    context = files.context
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose tickets come with the handshake
    first = Connection(port, context)
    session = first.sock.session
    first.close()
    assert resumed(port, context, session) == [True] * 40
    new = files.write()
    wait_for(port, files, new, times=10)
    assert resumed(port, context, session) == [True] * 40
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    last = Connection(port, context)
    last.ask()  # by then the tickets are there
    session = last.sock.session
    last.close()
    assert resumed(port, context, session) == [True] * 40


def resumed(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> Sequence[bool | None]:
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(contextlib.closing(Connection(port, context, session)))
            for _ in range(40)  # open at the same time, so that every worker gets some
        ]
        return [connection.sock.session_reused for connection in made]
