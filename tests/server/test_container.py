"""As process 1 of a container: a name space of processes stands for one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from workers import APPLICATION, ask, wait_until

UNSHARE = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


def has_namespaces() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(not has_namespaces(), reason="this takes unshare, and its rights")

ORPHANS = (
    APPLICATION
    + """
import subprocess

async def orphans(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/orphan":
        # The shell is gone before the process that it leaves behind.
        subprocess.run(["sh", "-c", "sleep 0.1 & exit"])
    await app(scope, receive, send)
"""
)


class Container:
    def __init__(self, folder: Path, *arguments: str, app: str = "application:orphans") -> None:
        (folder / "application.py").write_text(ORPHANS)
        server = ("-m", "h2asgi", app, "--no-access-log", "--port", "0", *arguments)
        script = "import os, sys; os.execvp('unshare', sys.argv[1:])"
        self.command = Command(folder, "-c", script, *UNSHARE, sys.executable, *server)

    def url(self) -> str:
        return f"http://localhost:{self.command.port()}"

    def first(self) -> int:
        """The number, out here, of the process that is number 1 inside."""
        pid = self.command.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def send(self, number: int) -> None:
        os.kill(self.first(), number)


@pytest.fixture(params=["1", "2"])
def container(tmp_path: Path, request) -> Iterator[Container]:
    options = ("--graceful-timeout", "2", "--lifespan-shutdown-timeout", "1")
    made = Container(tmp_path, "--workers", request.param, *options)
    yield made
    made.command.stop()


def zombies(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of = re.match(r".*\) (\S) (\d+)", path.read_text()).groups()  # type: ignore[union-attr]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == parent and state == "Z":
            found.append(int(path.parent.name))
    return found


def test_it_reaps_whom_nobody_else_waits_for(container: Container) -> None:
    url = container.url()
    first = container.first()
    for _ in range(5):
        ask(url + "/orphan")
    time.sleep(0.3)  # as long as they live
    wait_until(lambda: not zombies(first))
    container.send(signal.SIGTERM)
    assert container.command.end()[0] == 0


def test_it_stops_within_ten_seconds_though_a_request_hangs(container: Container) -> None:
    import socket

    port = int(container.url().rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"GET /for-ever HTTP/1.1\r\nhost: a\r\n\r\n")
        container.command.wait_for_output("for ever")
        began = time.monotonic()
        container.send(signal.SIGTERM)
        code, output, _ = container.command.end()
    assert code == 0
    assert time.monotonic() - began < 9
    assert "shutdown\n" in output


def test_signals_reach_the_workers(container: Container) -> None:
    url = container.url()
    before = ask(url)
    container.send(signal.SIGHUP)
    container.command.wait_for_error_line("the workers have been replaced")
    assert ask(url) != before
    container.send(signal.SIGUSR2)
    container.command.wait_for_error_line("process 1 of a container cannot be replaced")
    container.send(signal.SIGTERM)
    assert container.command.end()[0] == 0


def test_what_cannot_start_ends_the_container(tmp_path: Path) -> None:
    command = Container(tmp_path, app="missing:app").command
    code, _, errors = command.end()
    assert code == 3
    assert errors.count("h2asgi: ") == 1
