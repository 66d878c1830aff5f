"""Several workers: started, balanced, replaced, stopped."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
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
    served,
    serving,
    starting,
    suspend,
    wait_until,
)

from h2asgi import crew, process
from h2asgi.noted_signals import NotedSignals
from h2asgi.scoreboard import NOT_ACCEPTING, Scoreboard

pytestmark = needs_fork
ROUNDS = int(os.environ.get("H2ASGI_ROUNDS", "2"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


def test_each_worker_has_a_lifespan_and_the_end_is_clean(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    assert ask(url) in workers
    assert "; 2 workers)" in "".join(command.errors)
    command.send(signal.SIGTERM)
    code, output, errors = command.end()
    assert code == 0
    assert output == "startup\n" * 2 + "shutdown\n" * 2
    assert errors.count("stopping") == 1
    assert "Traceback" not in errors


def test_eight_long_connections_are_spread(start: Start) -> None:
    """H2ASGI_ROUNDS says how many times."""
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    seen: collections.Counter[int] = collections.Counter()
    for _ in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(trust_env=False)) for _ in range(8)]
            spread = collections.Counter(int(client.get(url).text) for client in clients)
        assert set(spread) == set(workers)
        assert max(spread.values()) <= 5
        seen[max(spread.values())] += 1
    print(f"of 8 connections the busier of 2 workers has: {dict(seen)}")


def test_a_burst_of_connections_is_spread(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    port = int(url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), HANG))
            for _ in range(100)
        ]
        spread: collections.Counter[int] = collections.Counter()
        for sock in sockets:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        for sock in sockets:
            with sock.makefile("rb") as file:
                spread[int(file.read().rpartition(b"\n")[2])] += 1
    assert set(spread) == set(workers)
    assert sum(spread.values()) == 100


def test_a_worker_that_is_killed_is_replaced(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    os.kill(workers[0], signal.SIGKILL)
    line = command.wait_for_error_line("replacing it").string
    assert f"worker 1 (process {workers[0]}) was killed by SIGKILL" in line
    assert ask(url) == workers[1]
    assert served(command) not in workers
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")
def test_no_connection_is_lost_that_waits_while_all_workers_are_killed(start: Start) -> None:
    command = start("--workers", "2", "--bind", "127.0.0.1:0")
    port = int(command.wait_for_error_line(r"http://127.0.0.1:(\d+)")[1])
    workers = [served(command), served(command)]
    for pid in workers:
        suspend(pid)
    clients = [socket.create_connection(("127.0.0.1", port), HANG) for _ in range(40)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    answers = set()
    for client in clients:
        with client, client.makefile("rb") as file:
            answers.add(int(file.read().rpartition(b"\n")[2]))
    assert answers <= {served(command), served(command)}


def test_a_reload_replaces_every_worker_and_loses_no_request(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    answers: list[int] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            answers.append(ask(url))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        wait_until(lambda: bool(answers))
        command.send(signal.SIGHUP)
        renewed = [served(command) for _ in range(2)]
        command.wait_for_error_line("the workers have been replaced")
        wait_until(lambda: all(map(gone, workers)))
    finally:
        over.set()
        asking.join(HANG)
    assert not asking.is_alive()
    assert set(answers) <= {*workers, *renewed}
    assert ask(url) in renewed
    command.send(signal.SIGTERM)
    code, _, errors = command.end()
    assert code == 0
    assert "error" not in errors


def test_connections_in_use_are_told_before_they_are_closed(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    asking = [Asking(url, persistent=True) for _ in range(8)]
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
    wait_until(lambda: all(map(gone, workers)))
    for each in asking:
        assert each.end()
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


def test_new_code_that_does_not_start_leaves_the_old_in_place(start: Start, tmp_path: Path) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    (tmp_path / "application.py").write_text("raise RuntimeError('broken')")
    command.send(signal.SIGHUP)
    line = command.wait_for_error_line("the new worker").string
    assert line.endswith("the new worker ended with exit code 3: the old ones go on\n")
    assert ask(url) in workers
    (tmp_path / "application.py").write_text(APPLICATION + "\n# changed\n")
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
    assert ask(url) not in workers


def hanging(command: Command, url: str) -> tuple[threading.Thread, list[int]]:
    """A request that is in work: who asks, and where the answer will be."""
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask(url + "/hang")))
    asking.start()
    command.wait_for_output("hanging")
    return asking, answers


def test_requests_in_flight_finish_when_it_stops(start: Start) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    asking, answers = hanging(command, url)
    command.send(signal.SIGTERM)
    asking.join(HANG)
    assert len(answers) == 1
    assert answers[0] in workers
    assert command.end()[0] == 0


def test_a_worker_that_is_told_twice_to_stop_finishes_its_requests(start: Start) -> None:
    """By the supervisor, and by a service manager that tells all processes of a service."""
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    asking, answers = hanging(command, url)
    command.send(signal.SIGTERM)
    command.wait_for_error_line("stopping")
    for _ in range(10):
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)  # or the kernel would make one signal of them
    asking.join(HANG)
    assert len(answers) == 1
    assert command.end()[0] == 0


@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGQUIT,), 128 + 3), ((signal.SIGTERM, signal.SIGINT), 128 + 2)],
)
def test_it_can_be_stopped_at_once(start: Start, signals: tuple[int, ...], code: int) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), HANG) as client:
        client.sendall(b"GET /for-ever HTTP/1.1\r\nhost: a\r\n\r\n")
        command.wait_for_output("for ever")
        for number in signals:
            command.send(number)
            if number != signals[-1]:
                command.wait_for_error_line("stopping")
        assert command.end()[0] == code
    assert all(map(gone, workers))


def test_workers_stop_when_their_supervisor_is_gone(start: Start) -> None:
    command = start("--workers", "2")
    _, workers = serving(command, 2)
    command.process.kill()
    wait_until(lambda: all(map(gone, workers)))


@pytest.mark.parametrize("app", ["missing:app", "application:nothing", "broken:app"])
def test_what_cannot_start_says_so_once(start: Start, tmp_path: Path, app: str) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken')")
    command = start("--workers", "3", app=app)
    code, _, errors = command.end()
    assert code == 3
    assert errors.count("h2asgi: ") == 1


def test_the_file_of_a_unix_socket_goes_in_the_end(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = start("--workers", "2", "--bind", f"unix:{path}")
    workers = [served(command), served(command)]
    os.kill(workers[0], signal.SIGKILL)
    served(command)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("have been replaced")
    assert path.exists()
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
    assert not path.exists()


def test_run_takes_workers_too(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    script = "import h2asgi, application; h2asgi.run(application.app, workers=2, port=0)"
    command = Command(tmp_path, "-c", script)
    url, workers = serving(command, 2)
    try:
        assert ask(url) in workers
        command.send(signal.SIGINT)
        assert command.end()[0] == 0
    finally:
        command.stop()


def test_without_fork_there_is_one_process() -> None:
    script = (
        "import os, sys; del os.fork; from h2asgi.cli import main;"
        "sys.exit(main(['application:app', '--workers', '2']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--workers needs fork()" in done.stderr


def test_a_row_of_the_scoreboard_belongs_to_one_worker() -> None:
    board = Scoreboard(2)
    first, second = board.take_row(), board.take_row()
    assert (first, second, board.take_row()) == (0, 1, None)
    assert board.fewest_connections() == 0
    board.set_connections(0, 7)
    assert board.fewest_connections() == 7
    board.set_connections(1, 3)
    assert board.fewest_connections() == 3
    board.give_back(1)
    assert board.fewest_connections() == 7
    assert board.take_row() == 1
    assert NOT_ACCEPTING == -1


def test_a_worker_that_hangs_is_killed() -> None:
    """By its heartbeat, over a process that has none."""
    workers = crew.Crew(1, None)  # type: ignore[arg-type]
    with subprocess.Popen(["sleep", "1000"]) as process:
        row = workers._scoreboard.take_row()
        assert row is not None
        workers.slots[0].worker = crew.Worker(process.pid, row, None, 0.0, up=True)
        workers.look()
        assert process.poll() is None
        workers.hang_timeout = -1.0
        workers.look()
        assert process.wait(HANG) == -signal.SIGKILL


def test_a_worker_that_hangs_is_replaced(start: Start, tmp_path: Path) -> None:
    """Its loop does not go round; the minute is two seconds here."""
    (tmp_path / "application.py").write_text(APPLICATION)
    script = (
        "import sys; from h2asgi import cli, crew; crew.HANG_TIMEOUT = 2.0;"
        "sys.exit(cli.main(['application:app', '--workers', '2', '--port', '0']))"
    )
    command = Command(tmp_path, "-c", script)
    try:
        url, workers = serving(command, 2)
        suspend(workers[0])
        command.wait_for_error_line(rf"process {workers[0]}\) has hung for 2 s: killing it")
        command.wait_for_error_line(rf"process {workers[0]}\) was killed by SIGKILL: replacing it")
        assert ask(url) in (workers[1], served(command))
        command.send(signal.SIGTERM)
        assert command.end()[0] == 0
    finally:
        command.stop()


def test_a_worker_that_keeps_ending_is_replaced_later_each_time(start: Start) -> None:
    slot = crew.Slot(1)
    assert [slot.longer_delay() for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    command = start("--workers", "2")
    _, (first, _) = serving(command, 2)
    for delay in ("0.5", "1"):
        os.kill(first, signal.SIGKILL)
        command.wait_for_error_line(f"replacing it in {delay} s$")
        first = served(command)


def test_auto_is_a_worker_for_each_core(start: Start) -> None:
    count = process.usable_cores()
    if count == 1:
        pytest.skip("this is one process then")
    command = start("--workers", "auto")
    serving(command, count)
    assert f"; {count} workers)" in "".join(command.errors)


@pytest.mark.parametrize("paused", [True, False])
def test_after_a_pause_of_all_processes_nobody_is_taken_for_hung(
    monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    """Ctrl-Z and fg, or a container that was paused: the supervisor may be the first to go on."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    workers = crew.Crew(1, None)  # type: ignore[arg-type]
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    row = workers._scoreboard.take_row()
    assert row is not None
    workers.slots[0].worker = crew.Worker(4711, row, None, 0.0, up=True)
    for step in [1000.0] if paused else [1.0] * 100:
        now += step
        workers.look()
    assert bool(killed) is not paused
    killed.clear()
    for _ in range(100):
        now += 1.0
        workers.look()
    assert killed


def test_a_fork_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For want of memory, say: those who serve go on."""

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    workers = crew.Crew(1, None)  # type: ignore[arg-type]
    workers.slots[0].spawn_at = 0.0
    rows = len(workers._scoreboard._free)
    with NotedSignals(()) as signals:
        for _ in range(10):
            assert workers.spawn_due(signals) is None
    assert workers.slots[0].spawn_at is not None
    assert len(workers._scoreboard._free) == rows
    assert [record.getMessage() for record in caplog.records] == [
        "worker 1 cannot be started (Resource temporarily unavailable): trying again in 0.5 s"
    ]


def test_an_old_worker_may_end_while_its_successor_comes_up(start: Start, tmp_path: Path) -> None:
    command = start("--workers", "2")
    url, workers = serving(command, 2)
    (tmp_path / "application.py").write_text(
        "import os, time\nopen('importing', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n" + APPLICATION
    )
    command.send(signal.SIGHUP)
    wait_until((tmp_path / "importing").exists)
    os.kill(workers[0], signal.SIGKILL)
    command.wait_for_error_line("was killed by SIGKILL: its successor comes")
    assert ask(url) == workers[1]
    (tmp_path / "go").touch()
    renewed = [served(command), served(command)]
    command.wait_for_error_line("the workers have been replaced")
    wait_until(lambda: ask(url) in renewed)


def test_a_worker_that_was_coming_up_before_a_reload_is_replaced_once_more(
    start: Start, tmp_path: Path
) -> None:
    command = start("--workers", "2", "--max-requests", "5")
    url, workers = serving(command, 2)
    (tmp_path / "application.py").write_text(
        "import os, time\nopen('importing', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n" + APPLICATION
    )
    while not (tmp_path / "importing").exists():
        assert ask(url) in workers
    code = APPLICATION.replace('b"%d" %', 'b"-%d" %')
    (tmp_path / "application.py").write_text(code)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("replacing the workers")
    (tmp_path / "go").touch()
    command.wait_for_error_line("the workers have been replaced")
    wait_until(lambda: max(ask(url) for _ in range(4)) < 0)


def test_a_reload_ends_when_nobody_is_left_to_go_on(start: Start, tmp_path: Path) -> None:
    command = start("--workers", "2")
    _, workers = serving(command, 2)
    (tmp_path / "application.py").write_text(
        "import os, time\nopen('importing', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\nraise RuntimeError('broken')"
    )
    command.send(signal.SIGHUP)
    wait_until((tmp_path / "importing").exists)
    os.kill(workers[0], signal.SIGKILL)
    command.wait_for_error_line("its successor comes")
    (tmp_path / "go").touch()
    command.wait_for_error_line(r"ended with exit code 3: replacing it in")
    (tmp_path / "application.py").write_text(APPLICATION)
    assert served(command) not in workers
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
