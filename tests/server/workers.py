"""The command with workers, and what tests ask of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from command import Command

HANG = 60.0

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

APPLICATION = """
import asyncio, os


def note(text):
    print(text + "\\n", end="", flush=True)  # in one piece: others write there, too


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        note("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/for-ever":
        note("for ever")
        await asyncio.Event().wait()
    if scope["path"] == "/hang":
        note("hanging")
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""

Start = Callable[..., Command]


@contextlib.contextmanager
def starting(tmp_path: Path) -> Iterator[Start]:
    """Give what starts commands in ``tmp_path``, and ends them."""
    (tmp_path / "application.py").write_text(APPLICATION)
    commands: list[Command] = []

    def start(*arguments: str, app: str = "application:app") -> Command:
        named = ("-m", "h2asgi", app, "--no-access-log")
        where = () if "--bind" in arguments else ("--port", "0")
        command = Command(tmp_path, *named, *where, *arguments)
        commands.append(command)
        return command

    yield start
    for command in commands:
        command.stop()  # workers notice that their supervisor is gone


def serving(command: Command, count: int) -> tuple[str, list[int]]:
    """Wait until so many workers serve: the server's URL, and their processes."""
    url = f"http://localhost:{command.port()}"
    return url, [served(command) for _ in range(count)]


def served(command: Command) -> int:
    return int(command.wait_for_error_line(r"worker \d+ \(process (\d+)\) serves")[1])


def ask(url: str) -> int:
    """The process that answers on a new connection."""
    return int(httpx.get(url, trust_env=False, timeout=HANG).text)


def gone(pid: int) -> bool:
    try:
        # A zombie that nobody reaps has gone, too.
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def suspend(pid: int) -> None:
    """Stop a process in such a way that SIGKILL finds it where it is."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: " T " in Path(f"/proc/{pid}/stat").read_text())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Asking:
    """Somebody who asks all the time; no answer may fail.

    With ``persistent`` that is on one connection, until a response says that it ends.
    """

    def __init__(self, url: str, *, persistent: bool = False) -> None:
        self.answers: list[int] = []
        self._url = url
        self._persistent = persistent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        address = self._url.partition("//")[2]
        connection = http.client.HTTPConnection(address, timeout=HANG)
        connection.auto_open = False
        while not self._over.is_set():
            if not self._persistent:
                self.answers.append(ask(self._url))
                continue
            if connection.sock is None:
                connection.connect()
            connection.request("GET", "/")
            self.answers.append(int(connection.getresponse().read()))
        connection.close()

    def end(self) -> set[int]:
        before = len(self.answers)
        wait_until(lambda: len(self.answers) > before or not self._thread.is_alive())
        assert self._thread.is_alive()
        self._over.set()
        self._thread.join()
        return set(self.answers)
