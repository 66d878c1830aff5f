"""Socket activation and sd_notify, as systemd does them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from workers import APPLICATION, HANG, ask, gone, needs_fork, wait_until

pytestmark = needs_fork
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])

LAUNCHER = """
import os, sys
names, descriptors, *arguments = sys.argv[1:]
numbers = [int(number) for number in descriptors.split(",") if number]
copies = [os.dup(number) for number in numbers]
while copies and min(copies) < 3 + len(copies):
    copies = [os.dup(number) for number in copies]
for index, copy in enumerate(copies):
    os.dup2(copy, 3 + index)
os.closerange(3 + len(copies), 256)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
if names:
    os.environ["LISTEN_FDNAMES"] = names
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *arguments])
"""


class Manager:
    """What systemd is to a service: it has sockets for it, and hears from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[Command] = []
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.notified.settimeout(HANG)

    def start(self, *arguments: str, sockets=(), names: str = "", **environment: str) -> Command:
        (self.folder / "application.py").write_text(APPLICATION)
        numbers = [sock.fileno() for sock in sockets]
        server = ("-m", "h2asgi", "application:app", "--no-access-log", *arguments)
        command = Command(
            self.folder,
            *("-c", LAUNCHER, names, ",".join(map(str, numbers)), *server),
            pass_fds=numbers,
            env=os.environ | {"NOTIFY_SOCKET": str(self.folder / "notify")} | environment,
        )
        self.commands.append(command)
        return command

    def hear(self) -> dict[str, str]:
        """The next message that is not a sign of life."""
        while True:
            message = self.notified.recv(4096).decode()
            if message != "WATCHDOG=1":
                return dict(line.split("=", 1) for line in message.split("\n"))

    def close(self) -> None:
        for command in self.commands:
            command.stop()
        self.notified.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def url(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@WORKERS
def test_it_serves_on_the_sockets_that_it_is_handed(
    manager: Manager, listening: socket.socket, tmp_path: Path, workers: str
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        command = manager.start("--workers", workers, sockets=[listening, unix])
        assert manager.hear() == {"READY": "1"}
    assert ask(url(listening))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    command.send(signal.SIGTERM)
    assert manager.hear() == {"STOPPING": "1"}
    assert command.end()[0] == 0
    assert path.exists()  # systemd's


def test_an_option_chooses_among_them(manager: Manager, listening: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(listening.getsockname()[1])
        command = manager.start("--host", "127.0.0.1", "--port", port, sockets=[other, listening])
        command.wait_for_error_line("no option names the socket .* closed")
        assert manager.hear() == {"READY": "1"}
        address = other.getsockname()
    assert ask(url(listening))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, HANG)


def test_descriptors_can_be_named_as_before(manager: Manager, listening: socket.socket) -> None:
    manager.start("--bind", "fd://3", sockets=[listening])
    assert manager.hear() == {"READY": "1"}
    assert ask(url(listening))


def test_the_port_of_the_redirect_is_not_served(
    manager: Manager, listening: socket.socket, dev_certificate: Path
) -> None:
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as clear:
        port = str(clear.getsockname()[1])
        manager.start(
            *("--certfile", str(dev_certificate), "--redirect-http", port),
            sockets=[clear, listening],
        )
        assert manager.hear() == {"READY": "1"}
        answer = httpx.get(url(clear), trust_env=False)
        assert answer.status_code == 308
        assert answer.headers["location"] == f"https://127.0.0.1:{listening.getsockname()[1]}/"


def test_sockets_for_another_process_are_left_alone(
    manager: Manager, listening: socket.socket
) -> None:
    number = listening.fileno()
    command = Command(
        manager.folder,
        *("-m", "h2asgi", "missing:app", "--port", "0"),
        pass_fds=[number],
        env=os.environ | {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
    )
    manager.commands.append(command)
    assert command.end()[0] == 3


def test_what_is_no_socket_is_one_sentence(manager: Manager, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        code, _, errors = manager.start(sockets=[file]).end()  # type: ignore[list-item]
    assert code == 2
    assert errors == "h2asgi: LISTEN_FDS hands down descriptor 3, which is not a socket\n"


@WORKERS
def test_a_reload_is_announced(manager: Manager, listening: socket.socket, workers: str) -> None:
    command = manager.start("--workers", workers, sockets=[listening])
    assert manager.hear() == {"READY": "1"}
    before = time.monotonic_ns() // 1000
    command.send(signal.SIGHUP)
    message = manager.hear()
    assert message.pop("RELOADING") == "1"
    assert before <= int(message.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert not message
    assert manager.hear() == {"READY": "1"}


@WORKERS
def test_the_watchdog_gets_its_signs_of_life(
    manager: Manager, listening: socket.socket, workers: str
) -> None:
    manager.start("--workers", workers, sockets=[listening], WATCHDOG_USEC="200000")
    assert manager.hear() == {"READY": "1"}
    for _ in range(5):
        assert manager.notified.recv(4096) == b"WATCHDOG=1"


def test_a_process_that_is_stopped_gives_none(manager: Manager, listening: socket.socket) -> None:
    command = manager.start(sockets=[listening], WATCHDOG_USEC="200000")
    assert manager.hear() == {"READY": "1"}
    command.send(signal.SIGSTOP)
    manager.notified.settimeout(1.0)
    with contextlib.suppress(TimeoutError):
        for _ in range(10):  # what was sent before
            manager.notified.recv(4096)
    with pytest.raises(TimeoutError):
        manager.notified.recv(4096)
    command.send(signal.SIGCONT)
    manager.notified.settimeout(HANG)
    assert manager.notified.recv(4096) == b"WATCHDOG=1"


@WORKERS
def test_an_upgrade_says_which_process_is_the_main_one(
    manager: Manager, listening: socket.socket, workers: str
) -> None:
    command = manager.start("--workers", workers, sockets=[listening], WATCHDOG_USEC="200000")
    assert manager.hear() == {"READY": "1"}
    command.send(signal.SIGUSR2)
    messages = [manager.hear() for _ in range(2)]
    pid = next(int(message["MAINPID"]) for message in messages if "MAINPID" in message)
    try:
        assert {"READY": "1"} in messages
        assert command.process.wait(HANG) == 0
        assert manager.notified.recv(4096) == b"WATCHDOG=1"  # of the new one
        assert ask(url(listening))
    finally:
        os.kill(pid, signal.SIGTERM)
        assert manager.hear() == {"STOPPING": "1"}  # not of the old one, which comes first
        wait_until(lambda: gone(pid))


def test_an_abstract_socket_will_do(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("there are no abstract sockets here")
    name = f"h2asgi-test-{os.getpid()}"
    manager = Manager(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind("\0" + name)
            notified.settimeout(HANG)
            manager.start("--port", "0", NOTIFY_SOCKET="@" + name)
            assert re.fullmatch(b"READY=1", notified.recv(4096))
    finally:
        manager.close()
