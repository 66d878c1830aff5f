"""A server's processes: starting and ending them, their CPU time and memory from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .servers import H2C, HOST, Launch, Server

SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
POLL = 0.005  # seconds between two looks whether a server answers
TICK = os.sysconf("SC_CLK_TCK")
KIB, MIB, GIB = 1024, 1024**2, 1024**3
FILE, QUICK_FILE = ("file", GIB), ("quick-file", 32 * MIB)
APPS = Path(__file__).parent / "apps"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


class NotStarted(Exception):
    """The server ended, or did not answer in time; the last lines of its output."""


class Process:
    """A running server, on its core, with all the processes that it has started."""

    def __init__(self, server: Server, launch: Launch) -> None:
        self.name = server.name
        self.launch = launch
        self._log = launch.folder / f"{server.name.replace(' ', '-')}-{launch.port}.log"
        # One worker has one core. Several have both, and share one with the load.
        cores = str(SERVER_CORE) if launch.workers == 1 else f"{SERVER_CORE},{LOAD_CORE}"
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                ["taskset", "-c", cores, *server.command(launch)],
                cwd=APPS,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for_answer(started + START_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started

    def _wait_for_answer(self, deadline: float) -> None:
        while not answers(self.launch):
            if self._popen.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(self.output() or "no answer")
            time.sleep(POLL)

    def output(self) -> str:
        """The end of what the server has written."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        ticks = 0
        for pid in self._tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory_kib(self, field: str) -> int:
        """VmRSS (now) or VmHWM (peak), summed: pages that processes share count for each."""
        total = 0
        for pid in self._tree():
            found = re.search(rf"^{field}:\s+(\d+) kB", _status(pid), re.MULTILINE)
            total += int(found[1]) if found else 0
        return total

    def _tree(self) -> Iterator[int]:
        pids = [self._popen.pid]
        while pids:
            pid = pids.pop()
            with contextlib.suppress(OSError):  # it has ended since
                for task in Path(f"/proc/{pid}/task").iterdir():
                    pids += map(int, (task / "children").read_text().split())
                yield pid

    def stop(self) -> None:
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # a session of its own: what is left of it
        self._popen.wait()


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def answers(launch: Launch) -> bool:
    """Whether a request is answered with 200; for h2c, where HTTP/1.1 may be off, SETTINGS come."""
    try:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection((HOST, launch.port), 5))
            if launch.tls:
                sock = stack.enter_context(client_context().wrap_socket(sock))
            if launch.protocol == H2C:
                sock.sendall(H2_PREFACE)
                return sock.recv(9)[3:4] == b"\4"
            sock.sendall(GET)
            return b" 200" in sock.recv(12)
    except OSError:
        return False


def client_context(*alpn: str) -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def make_files(folder: Path) -> None:
    """A certificate, its key (PKCS #8, which granian asks for), bodies and files to serve."""
    folder.chmod(0o755)  # nginx gives up root before it reads what it serves
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "7", "-subj", "/CN=localhost"]
    command += ["-addext", f"subjectAltName=DNS:localhost,IP:{HOST}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "10k").write_bytes(b"x" * 10 * KIB)
    (folder / "1m").write_bytes(b"x" * MIB)
    # They have no blocks on a disk, so no disk is measured.
    for name, size in (("download", MIB), ("big", 100 * MIB), FILE, QUICK_FILE):
        with (folder / name).open("wb") as file:
            file.truncate(size)
