"""Worker processes: forked, listened to, reaped, and killed when they hang or do not stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from . import line, process
from .noted_signals import NotedSignals
from .scoreboard import Scoreboard
from .tally import WORKERS_FAILED, WORKERS_REPLACED
from .worker import Ties, spread

logger = logging.getLogger("h2asgi")

HANG_TIMEOUT = 60.0
"""Seconds without a sign of life from a worker's loop after which it is killed and replaced."""

PAUSE = 10.0
"""Seconds between two looks after which it is the supervisor who was stopped, and the workers with
it: Ctrl-Z, a container that is paused."""

ROW_INTERVAL = 1.0
"""Seconds until it is looked again for a row of the scoreboard, when who drains has them all."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
"""Seconds before a worker that keeps failing is replaced: doubled each time, up to this."""

SPARE_ROWS = 2
"""Rows of the scoreboard for each worker beside its own: its successor, and who still drains."""


@dataclass(eq=False, slots=True)
class Worker:
    """A process. ``line`` is our end of what it says and is told, until it has hung up."""

    pid: int
    row: int
    line: socket.socket | None
    began: float
    generation: int = 0
    up: bool = False
    stopping: bool = False
    kill_at: float | None = None
    retire_at: float | None = None

    def kill(self, number: int) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Close our end."""
        if self.line is not None:
            self.line.close()
            self.line = None


@dataclass(eq=False, slots=True)
class Slot:
    """A place for a worker. ``next`` comes up to take over from ``worker``."""

    number: int
    worker: Worker | None = None
    next: Worker | None = None
    delay: float = FIRST_DELAY
    spawn_at: float | None = None  # when a worker is due, if one is
    former: list[Worker] = field(default_factory=list)  # who still finishes

    @property
    def workers(self) -> list[Worker]:
        """Everybody who is or was here and has not ended."""
        return [worker for worker in (self.worker, self.next, *self.former) if worker is not None]

    def longer_delay(self) -> float:
        """Give the delay before the next attempt; the one after it will wait longer."""
        delay, self.delay = self.delay, min(LONGEST_DELAY, 2 * self.delay)
        return delay


class Foreman(Protocol):
    """Who decides what follows from what happens to workers."""

    def on_up(self, slot: Slot, worker: Worker) -> None:
        """It serves."""

    def on_ended(self, slot: Slot, worker: Worker, code: int) -> None:
        """It is gone; ``slot`` still has it."""


class Crew:
    """``count`` slots with their workers."""

    def __init__(self, count: int, foreman: Foreman, *, counted: bool = False) -> None:
        self.slots = [Slot(number) for number in range(1, count + 1)]
        self.stop_time = 0.0
        """Seconds that a worker has to finish, before it is killed."""
        self.max_age = 0.0
        """Seconds after which a worker is to be replaced, 0 for never."""
        self.hang_timeout = HANG_TIMEOUT
        """Seconds without a sign of life after which a worker is killed."""
        self.generation = 0
        """What workers that are forked now belong to: it counts the changes of what they are."""
        self._foreman = foreman
        self._looked = self._resumed = time.monotonic()
        self._scoreboard = Scoreboard((1 + SPARE_ROWS) * count, counted=counted)
        self._tallies = self._scoreboard.tallies()

    @property
    def workers(self) -> list[Worker]:
        """Everybody, whoever still finishes among them."""
        return [worker for slot in self.slots for worker in slot.workers]

    def spawn_due(self, signals: NotedSignals) -> tuple[Slot, Ties] | None:
        """Fork who is due; in a new process it gives its slot and its ties."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.next is not None or slot.spawn_at is None or now < slot.spawn_at:
                continue
            row = self._scoreboard.take_row()
            if row is None:
                slot.spawn_at = now + ROW_INTERVAL
                continue
            slot.spawn_at = None
            try:
                ties = self._spawn(slot, row, signals)
            except OSError as error:
                self._scoreboard.give_back(row)
                delay = slot.longer_delay()
                slot.spawn_at = now + delay
                logger.error(
                    "worker %d cannot be started (%s): trying again in %g s",
                    *(slot.number, error.strerror, delay),
                )
                continue
            if ties is not None:
                return slot, ties
        return None

    def _spawn(self, slot: Slot, row: int, signals: NotedSignals) -> Ties | None:
        ours, theirs = line.pair()
        with signals.blocked():
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                theirs.close()
                raise
            if not pid:
                signals.restore()
                # A terminal sends Ctrl-C to all processes; to a worker it comes as SIGTERM.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                    signal.signal(number, process.nothing)
                for worker in self.workers:
                    worker.hang_up()
                ours.close()
                return Ties(self._scoreboard, row, theirs)
        theirs.close()
        worker = Worker(pid, row, ours, time.monotonic(), self.generation)
        if self.max_age:
            worker.retire_at = worker.began + self.max_age * spread()
        if slot.worker is None:
            slot.worker = worker
        else:
            slot.next = worker
        return None

    def listen(self, readable: Iterable[object]) -> None:
        """Take in what workers say on the lines that are ``readable``."""
        for slot in self.slots:
            for worker in slot.workers:
                if worker.line is not None and worker.line in readable:
                    self._hear(slot, worker)

    def _hear(self, slot: Slot, worker: Worker) -> None:
        assert worker.line is not None
        for word, _ in line.heard(worker.line):
            if word == line.UP:
                worker.up = True
                logger.info("worker %d (process %d) serves", slot.number, worker.pid)
                self._foreman.on_up(slot, worker)
            elif word == line.RETIRE:
                worker.retire_at = time.monotonic()
            elif not word:  # the process is about to end, too
                worker.hang_up()

    def reap(self) -> None:
        """Take note of processes that have ended; as process 1, of anybody's."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for slot in self.slots:
                for worker in slot.workers:
                    if worker.pid == pid:
                        worker.hang_up()
                        self._scoreboard.give_back(worker.row)
                        self._count_end(worker)
                        self._foreman.on_ended(slot, worker, os.waitstatus_to_exitcode(status))

    def _count_end(self, worker: Worker) -> None:
        if self._tallies is not None:
            self._tallies.own.add(WORKERS_REPLACED if worker.stopping else WORKERS_FAILED)

    def look(self) -> None:
        """Kill who hangs or does not stop in time."""
        now = time.monotonic()
        if now - self._looked > PAUSE:
            self._resumed = now
        self._looked = now
        for slot in self.slots:
            for worker in slot.workers:
                if worker.kill_at is not None and now >= worker.kill_at:
                    logger.warning("killing process %d, which does not stop", worker.pid)
                    worker.kill(signal.SIGKILL)
                    worker.kill_at = None
                elif (
                    worker.up
                    and not worker.stopping
                    and now - max(self._scoreboard.seen(worker.row), self._resumed)
                    > self.hang_timeout
                ):
                    logger.error(
                        "worker %d (process %d) has hung for %g s: killing it",
                        *(slot.number, worker.pid, self.hang_timeout),
                    )
                    worker.kill(signal.SIGKILL)

    def drain(self) -> None:
        """Let all know that the service is about to end."""
        self._scoreboard.drain()

    def tell_to_stop(self, worker: Worker) -> None:
        """Let it finish, within bounds."""
        if not worker.stopping:
            worker.stopping = True
            worker.kill_at = time.monotonic() + self.stop_time
            worker.kill(signal.SIGTERM)

    def lines(self, *, stopping: bool = True) -> list[socket.socket]:
        """Give our ends of all lines, perhaps without those of workers that finish."""
        workers = [worker for worker in self.workers if stopping or not worker.stopping]
        return [worker.line for worker in workers if worker.line is not None]


def how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
