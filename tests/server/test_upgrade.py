"""SIGUSR2: the program is replaced by itself, and nobody is refused meanwhile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Command
from workers import (
    APPLICATION,
    HANG,
    Asking,
    Start,
    ask,
    gone,
    needs_fork,
    serving,
    starting,
    wait_until,
)

pytestmark = needs_fork
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


class Successor:
    """A process that is not ours to wait for."""

    def __init__(self, command: Command) -> None:
        self.pid = int(command.wait_for_error_line(r"process (\d+) has taken over")[1])

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: gone(self.pid))


Upgrade = Callable[[Command], Successor]


@pytest.fixture
def upgrade() -> Iterator[Upgrade]:
    successors: list[Successor] = []

    def upgrade(command: Command) -> Successor:
        os.kill(successors[-1].pid if successors else command.process.pid, signal.SIGUSR2)
        successors.append(Successor(command))
        return successors[-1]

    yield upgrade
    for successor in successors:
        with contextlib.suppress(ProcessLookupError):
            os.kill(successor.pid, signal.SIGKILL)


@WORKERS
def test_the_program_is_replaced_and_no_request_is_lost(
    start: Start, tmp_path: Path, upgrade: Upgrade, workers: str
) -> None:
    pid_file = tmp_path / "pid"
    command = start("--workers", workers, "--pid", str(pid_file))
    url, _ = serving(command, 0 if workers == "1" else 2)
    asking = Asking(url)
    wait_until(lambda: bool(asking.answers))
    (tmp_path / "application.py").write_text(APPLICATION.replace('b"%d" %', 'b"-%d" %'))
    successor = upgrade(command)
    assert command.process.wait(HANG) == 0
    assert ask(url) < 0
    answers = asking.end()
    assert min(answers) < 0
    assert pid_file.read_text() == f"{successor.pid}\n"
    successor.stop()
    assert not pid_file.exists()
    _, _, errors = command.end()
    assert " error " not in errors


@WORKERS
def test_a_new_program_that_fails_leaves_the_old_one_serving(
    start: Start, tmp_path: Path, upgrade: Upgrade, workers: str
) -> None:
    command = start("--workers", workers)
    url, pids = serving(command, 0 if workers == "1" else 2)
    before = ask(url)
    (tmp_path / "application.py").write_text("raise RuntimeError('broken')")
    for _ in range(2):
        command.send(signal.SIGUSR2)
        command.wait_for_error_line("did not come up: this one goes on")
    assert ask(url) in (pids or [before])
    (tmp_path / "application.py").write_text(APPLICATION)
    successor = upgrade(command)
    assert ask(url) != before
    assert command.process.wait(HANG) == 0
    successor.stop()


@WORKERS
def test_the_file_of_a_unix_socket_is_handed_over(
    start: Start, tmp_path: Path, upgrade: Upgrade, workers: str
) -> None:
    path = tmp_path / "socket"
    command = start("--workers", workers, "--bind", f"unix:{path}")
    command.wait_for_error_line("unix:" if workers == "1" else "serves$")
    inode = path.stat().st_ino
    with socket.socket(socket.AF_UNIX) as sock:  # so that it reacts to signals
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert sock.recv(1)
    successor = upgrade(command)
    assert command.process.wait(HANG) == 0
    assert path.stat().st_ino == inode
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
    successor.stop()
    assert not path.exists()


def test_the_successor_can_be_replaced_too(start: Start, upgrade: Upgrade) -> None:
    command = start("--workers", "2")
    url, _ = serving(command, 2)
    first = upgrade(command)
    assert command.process.wait(HANG) == 0
    second = upgrade(command)
    wait_until(lambda: gone(first.pid))
    ask(url)
    second.stop()


@WORKERS
@pytest.mark.parametrize("path_asked", ["/healthz", "/metrics"])
def test_health_checks_and_metrics_say_nothing_of_it(
    start: Start, tmp_path: Path, upgrade: Upgrade, workers: str, path_asked: str
) -> None:
    """The service goes on; and there is no delay, which is for load balancers to take note."""
    path = tmp_path / "health.sock"
    health = ("--health-path", "/healthz", "--health-bind", f"unix:{path}")
    metrics = ("--metrics", f"unix:{path}")
    command = start("--workers", workers, "--drain-delay", "600", *health, *metrics)
    request = f"GET {path_asked} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
    serving(command, 0 if workers == "1" else 2)
    over = threading.Event()
    answers: set[bytes] = set()

    def probe() -> None:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(HANG)
                sock.connect(str(path))
                sock.sendall(request)
                answers.add(sock.recv(4096)[:12])

    with concurrent.futures.ThreadPoolExecutor(1) as probing:
        probed = probing.submit(probe)
        upgrade(command)
        assert command.process.wait(HANG) == 0
        over.set()
        probed.result(HANG)
    assert answers == {b"HTTP/1.1 200"}


SLOW = """
import os, time
open("importing", "w").close()
while not os.path.exists("go"): time.sleep(0.01)
"""


def coming_up(command: Command, tmp_path: Path) -> int:
    """Begin an upgrade to a program that takes its time, and wait until it does."""
    (tmp_path / "application.py").write_text(SLOW + APPLICATION)
    command.send(signal.SIGUSR2)
    pid = int(command.wait_for_error_line(r"process (\d+) is coming up")[1])
    wait_until((tmp_path / "importing").exists)
    return pid


@WORKERS
def test_who_is_stopped_during_an_upgrade_stops_the_new_program_too(
    start: Start, tmp_path: Path, workers: str
) -> None:
    path = tmp_path / "socket"
    command = start("--workers", workers, "--bind", f"unix:{path}")
    command.wait_for_error_line("unix:" if workers == "1" else "serves$")
    wait_until(lambda: answers(path))
    pid = coming_up(command, tmp_path)
    command.send(signal.SIGTERM)
    command.wait_for_error_line(f"process {pid} is to end, too")
    assert command.process.wait(HANG) == 0
    wait_until(lambda: gone(pid))
    assert not path.exists()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        return bool(sock.recv(1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_program_that_ends_while_its_worker_comes_up_is_noticed(
    start: Start, tmp_path: Path, number: int
) -> None:
    """A worker has no end of the pipe on which its supervisor was to say that it serves."""
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    os.kill(coming_up(command, tmp_path), number)
    command.wait_for_error_line("did not come up: this one goes on")
    assert ask(url) in workers
    (tmp_path / "go").touch()  # its worker, if it is still there, finds that nobody wants it
