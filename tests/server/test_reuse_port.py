"""With ``--reuse-port`` each worker has a socket of its own, which outlives it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import HANG, Start, ask, needs_fork, served, serving, starting, suspend

pytestmark = [
    needs_fork,
    pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="there is no SO_REUSEPORT"),
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


def listening(pid: int) -> set[str]:
    """The inodes of the TCP sockets on which a process listens."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables for row in table.splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == "0A"}
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[8:-1] for link in links if link.startswith("socket:[")} & inodes


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc here")
def test_each_worker_listens_on_its_own(start: Start) -> None:
    command = start("--workers", "2", "--reuse-port", "--bind", "127.0.0.1:0")
    command.wait_for_error_line("http://127.0.0.1")
    first, second = served(command), served(command)
    mine = [listening(pid) for pid in (first, second)]
    assert [len(inodes) for inodes in mine] == [1, 1]
    assert mine[0] != mine[1]
    assert listening(command.process.pid) == mine[0] | mine[1]
    os.kill(first, signal.SIGKILL)
    assert listening(served(command)) == mine[0]


def test_no_connection_is_lost_that_waits_for_a_worker(start: Start) -> None:
    command = start("--workers", "2", "--reuse-port", "--bind", "127.0.0.1:0")
    port = int(command.wait_for_error_line(r"http://127.0.0.1:(\d+)")[1])
    workers = [served(command), served(command)]
    suspend(workers[0])  # what comes for it waits in its socket
    clients = [socket.create_connection(("127.0.0.1", port), HANG) for _ in range(40)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    os.kill(workers[0], signal.SIGKILL)
    answers = set()
    for client in clients:
        with client, client.makefile("rb") as file:
            answers.add(int(file.read().rpartition(b"\n")[2]))
    successor = served(command)
    assert answers == {workers[1], successor}


def test_reload_and_upgrade_keep_the_sockets(start: Start) -> None:
    command = start("--workers", "2", "--reuse-port")
    url, _ = serving(command, 2)
    mine = listening(command.process.pid)
    assert len(mine) == 4  # of two addresses
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
    assert listening(command.process.pid) == mine
    command.send(signal.SIGUSR2)
    pid = int(command.wait_for_error_line(r"process (\d+) has taken over")[1])
    try:
        assert listening(pid) == mine
        assert ask(url)
        assert command.process.wait(HANG) == 0
    finally:
        os.kill(pid, signal.SIGTERM)
