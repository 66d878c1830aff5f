"""Workers that are replaced under constant load, again and again, directly and behind HAProxy.

What is graceful (reload, upgrade, a new certificate) loses no request. ``kill -9`` loses those
that the worker had on its connections, and no other.

    H2ASGI_ROUNDS=10 pytest -s tests/integration/loadbalancers/test_balanced_rounds.py
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from apps.letters import HANG
from balancers import ALONE, RECIPES, Balancer, instance_options, issue
from serving import Certificate, Command
from steady import Steady

ROUNDS = int(os.environ.get("H2ASGI_ROUNDS", "2"))

POLL = 0.01

LOAD_TIME = 0.5
"""Seconds of load before and after what happens in a round."""

pytestmark = [
    pytest.mark.timeout(60 + 20 * ROUNDS),
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc here"),
]


class Workers:
    """The command with two workers, and what can be done to them."""

    def __init__(self, command: Command, begun: Path) -> None:
        self.command = command
        self.pid = command.process.pid
        self.killed: dict[int, tuple[float, frozenset[int]]] = {}
        """When a process was killed, and its clients' ports then."""
        self._begun = begun
        self._seen = 0

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line of the output, behind the one that was waited for before."""
        deadline = time.monotonic() + HANG
        while True:
            for number in range(self._seen, len(self.command.output)):
                if found := re.search(pattern, self.command.output[number]):
                    self._seen = number + 1
                    return found
            assert time.monotonic() < deadline, self.command.output
            time.sleep(POLL)

    def running(self) -> list[int]:
        """The processes of the workers."""
        return [
            int(pid)
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]

    def until_gone(self, pids: list[int]) -> None:
        deadline = time.monotonic() + HANG
        while any(map(_is_there, pids)):
            assert time.monotonic() < deadline
            time.sleep(POLL)

    def reload(self) -> None:
        before = self.running()
        os.kill(self.pid, signal.SIGHUP)
        self.wait_for("the workers have been replaced")
        self.until_gone(before)

    def upgrade(self) -> None:
        before, self_before = self.running(), self.pid
        os.kill(self.pid, signal.SIGUSR2)
        self.pid = int(self.wait_for(r"process (\d+) has taken over")[1])
        self.until_gone([*before, self_before])

    def kill(self) -> None:
        """Kill one, stopped first so that it cannot be asked whose connections it had too soon."""
        pid = self.running()[0]
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + HANG
        while " T " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(POLL)
        self.killed[pid] = time.monotonic(), peers(pid)
        os.kill(pid, signal.SIGKILL)
        self.wait_for(rf"process {pid}\) was killed by SIGKILL")
        self.wait_for("serves$")

    def begun(self) -> dict[str, list[int]]:
        """In which processes each request was begun."""
        found: dict[str, list[int]] = {}
        for line in self._begun.read_text().splitlines():
            name, _, pid = line.partition(" ")
            found.setdefault(name, []).append(int(pid))
        return found


def _is_there(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def peers(pid: int) -> frozenset[int]:
    """The ports that the TCP connections of a process come from."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables for row in table.splitlines()[1:]]
    ports = {row[9]: int(row[2].rpartition(":")[2], 16) for row in rows}
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    return frozenset(port for inode, port in ports.items() if inode in inodes and port)


class Renewed:
    """A certificate in a folder that a link leads to, as Kubernetes has it."""

    def __init__(self, authority: trustme.CA, folder: Path) -> None:
        self._authority = authority
        self._folder = folder
        self._link = folder / "current"
        self._count = 0
        self.renew()
        names = (str(self._link / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        self.certificate = Certificate(*names)

    def renew(self) -> None:
        self._count += 1
        made = self._folder / f"certificate{self._count}"
        made.mkdir()
        issue(self._authority, made)
        (self._folder / "next").symlink_to(made)
        (self._folder / "next").replace(self._link)

    def is_shown_by(self, command: Command) -> bool:
        ours = ssl.PEM_cert_to_DER_cert(Path(self.certificate.certfile).read_text())
        with command.connect("h2") as sock:
            assert isinstance(sock, ssl.SSLSocket)
            return sock.getpeercert(binary_form=True) == ours


@pytest.fixture
def renewed(authority: trustme.CA, tmp_path: Path) -> Renewed:
    return Renewed(authority, tmp_path)


@pytest.fixture
def workers(renewed: Renewed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setenv("BEGUN_FILE", str(tmp_path / "begun"))
    config = tmp_path / "h2asgi.toml"
    told = instance_options(workers=2)
    config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in told.items()))
    arguments = ("--config", str(config), "--no-access-log", "--port=0")
    command = Command("restarted_app:app", renewed.certificate, arguments)
    try:
        command.wait_until_listening()
        workers = Workers(command, tmp_path / "begun")
        for _ in range(2):
            workers.wait_for("serves$")
        yield workers
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers.pid, signal.SIGTERM)
        workers.until_gone([workers.pid])
    finally:
        command.kill()
    assert [line for line in command.complaints() if "SIGKILL" not in line] == []


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.fixture(
    params=["direct", pytest.param("haproxy", marks=pytest.mark.tool("haproxy"))],
)
def target(
    request: pytest.FixtureRequest, workers: Workers, balance: Callable[..., Balancer]
) -> Command | Balancer:
    if request.param == "direct":
        return workers.command
    return balance(RECIPES[0], [workers.command.port], ALONE)


def renew_certificate(workers: Workers, renewed: Renewed) -> None:
    renewed.renew()
    workers.wait_for("there is a new certificate")
    deadline = time.monotonic() + HANG
    while not all(renewed.is_shown_by(workers.command) for _ in range(4)):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("change", ["reload", "upgrade", "certificate"])
def test_no_request_fails(
    change: str, target: Command | Balancer, workers: Workers, renewed: Renewed
) -> None:
    with Steady(target) as steady:
        for _ in range(ROUNDS):
            time.sleep(LOAD_TIME)
            if change == "reload":
                workers.reload()
            elif change == "upgrade":
                workers.upgrade()
            else:
                renew_certificate(workers, renewed)
        time.sleep(LOAD_TIME)
    tell(change, target, steady)
    begun = workers.begun()
    assert [(asked, begun.get(asked.name)) for asked in steady.with_outcome("failed")] == []
    assert steady.refused == []
    if isinstance(target, Balancer):  # which asks again by itself what was not processed
        assert steady.with_outcome("not processed") == []
    assert all(len(processes) == 1 for name, processes in begun.items() if name)


def tell(what: str, target: Command | Balancer, steady: Steady) -> None:
    where = "behind HAProxy" if isinstance(target, Balancer) else "directly"
    failed, refused = (len(steady.with_outcome(name)) for name in ("failed", "not processed"))
    print(
        f"{what}, {where}: {ROUNDS} rounds, {len(steady.asked)} requests,"
        f" {failed} failed, {refused} not processed"
    )


def test_kill_loses_what_the_worker_had_and_no_more(
    target: Command | Balancer, workers: Workers
) -> None:
    """What is lost was on a connection of the killed process, sent before the client saw its end.

    Behind HAProxy only HAProxy knows the connection: what reaches a process is begun there, so
    what was lost and has not been begun by another one did not reach another one. HAProxy says
    of some that they were not processed, so that browsers ask again.
    """
    with Steady(target) as steady:
        for _ in range(ROUNDS):
            time.sleep(LOAD_TIME)
            steady.wait_for_answers()  # or one would be lost in its handshake
            workers.kill()
        time.sleep(LOAD_TIME)
    tell("kill -9", target, steady)
    direct = isinstance(target, Command)
    lost = steady.with_outcome("failed")
    if not direct:
        lost += steady.with_outcome("not processed")
    begun = workers.begun()
    for asked in lost:
        # The last one that was killed before the client noticed: nothing is lost otherwise.
        _, pid = max((at, pid) for pid, (at, _) in workers.killed.items() if at <= asked.over)
        _, ports = workers.killed[pid]
        assert begun.get(asked.name, [pid]) == [pid], asked
        assert asked.port in ports or not direct, asked
    assert lost  # or nothing was shown
    assert steady.refused == []
    assert all(len(processes) == 1 for name, processes in begun.items() if name)
