"""Servers for the tests: on a thread of this process, and as processes of their own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from apps.letters import HANG

import h2asgi

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Certificate:
    """Paths of PEM files."""

    ca_file: str
    certfile: str
    keyfile: str

    def client_context(self, *protocols: str) -> ssl.SSLContext:
        """A new context: clients such as httpx change the one they are given."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def without_options() -> dict[str, str]:
    """Our environment, but for what the command would take for options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("H2ASGI_")}


class _Target:
    """What clients need to know of a server."""

    certificate: Certificate | None
    port: int

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://localhost:{self.port}"

    def connect(self, *protocols: str, receive_buffer: int | None = None) -> socket.socket:
        """Connect, with TLS and these ALPN protocols if the server has a certificate.

        ``receive_buffer`` bounds what the kernel takes for a client that does not read.
        """
        sock = socket.socket()
        sock.settimeout(HANG)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            sock.connect(("127.0.0.1", self.port))
            if self.certificate is None:
                return sock
            context = self.certificate.client_context(*protocols)
            return context.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise


class _Errors(logging.Handler):
    """What was logged at error level, as text."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self.lines.append(text)


class BackgroundServer(_Target):
    """``h2asgi.Server`` on port 0, in an event loop on a thread of its own."""

    def __init__(
        self, app: Any, certificate: Certificate | None, options: dict[str, object]
    ) -> None:
        self.certificate = certificate
        if certificate is not None:
            options |= {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
        if "bind" not in options:
            options |= {"port": 0}
        self._app = app
        self._config = h2asgi.make_config(app, **options)
        self._log = _Errors()
        self.errors = self._log.lines
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        for name in ("h2asgi", "asyncio"):
            logging.getLogger(name).addHandler(self._log)
        self._thread.start()
        assert self._ready.wait(HANG)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(HANG)
        for name in ("h2asgi", "asyncio"):
            logging.getLogger(name).removeHandler(self._log)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        async with h2asgi.Server(self._app, self._config) as server:
            address = server.addresses[0]
            if isinstance(address, tuple):
                self.port = address[1]
            if server.inspect_addresses:
                (self.inspector,) = server.inspect_addresses
            self._ready.set()
            await self._stopped.wait()


def httpx_client(server: _Target, protocol: str) -> httpx.Client:
    """A client of ``server`` that speaks ``protocol``, HTTP/2 or HTTP/1.1, and nothing else."""
    assert server.certificate is not None
    return httpx.Client(
        base_url=server.url,
        verify=server.certificate.client_context(),
        http2=protocol == "HTTP/2",
        http1=protocol == "HTTP/1.1",
        timeout=HANG,
        trust_env=False,
    )


class Command(_Target):
    """``python -m h2asgi``, its output and its end.

    What stands in ``shadows``, a folder, is imported before what is installed.
    The descriptors in ``inherited`` are its own as well.
    """

    def __init__(
        self,
        app: str,
        certificate: Certificate | None,
        options: Sequence[str],
        shadows: Path | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        self.certificate = certificate
        arguments = ["--app-dir", str(FOLDER), *options, app]
        if not any(option.startswith(("--bind", "--port")) for option in options):
            arguments += ["--port", "0"]
        if certificate is not None:
            arguments += ["--certfile", certificate.certfile, "--keyfile", certificate.keyfile]
        environment = without_options()
        if shadows is not None:
            paths = [str(shadows), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "h2asgi", *arguments],
            env=environment,
            pass_fds=inherited,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.output.append(line)
            found = re.search(r"https?://(?:localhost|127\.0\.0\.1):(\d+)", line)
            if found is not None and not self._listening.is_set():
                self.port = int(found[1])
                self._listening.set()
        self._listening.set()  # it has ended, if it was not set before

    def wait_until_listening(self) -> None:
        assert self._listening.wait(HANG)
        assert hasattr(self, "port"), "".join(self.output)

    def wait_for_lines(self, text: str, count: int) -> None:
        """Wait until so many lines of output have ``text`` in them."""
        deadline = time.monotonic() + HANG
        while sum(text in line for line in list(self.output)) < count:
            assert time.monotonic() < deadline, "".join(self.output)
            time.sleep(0.01)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Give the exit code."""
        code = self.process.wait(HANG)
        self._reader.join(HANG)
        return code

    def kill(self) -> None:
        """End it if it is still there, gently first so that coverage is written."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(HANG)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(HANG)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def complaints(self) -> list[str]:
        """What looks like a traceback or an error in the output."""
        return [line for line in self.output if re.search(r"Traceback|\berror\b|Error", line, re.I)]

    def peak_memory(self) -> int:
        """The most memory the process has held so far, in octets (VmHWM)."""
        return self._memory("VmHWM")

    def memory(self) -> int:
        """The memory the process holds, in octets (VmRSS)."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)
