"""Worker processes: started, watched, replaced, and stopped.

The supervisor has one thread, no event loop and no application: it opens the
endpoint, forks the workers, and waits. A worker leaves ``Supervisor.run`` by
the same door as the supervisor, with its ``Ties``, so that its process ends as
any Python process does.

Signals: SIGTERM and SIGINT let the workers finish, after the delay in which load
balancers take note; the second one, or SIGQUIT, kills them. SIGHUP replaces one
worker after the other, the new one serving before the old one stops; a new one
that does not come up leaves the old ones as they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self

from . import banner, process
from .config import Config
from .endpoint import Endpoint, open_endpoint
from .errors import ConfigurationError
from .scoreboard import Scoreboard
from .worker import Ties, serve

logger = logging.getLogger("h2asgi")

HANG_TIMEOUT = 60.0
"""Seconds without a sign of life from a worker's loop after which it is killed and replaced."""

LOOK_INTERVAL = 1.0
"""Seconds between looks at the workers when nothing happens."""

STOP_MARGIN = 5.0
"""Seconds beyond its own time-outs that a worker has to stop: it resets, cancels, joins threads."""

STEADY = 10.0
"""Seconds after which a worker that ends did not fail to run: it is replaced at once."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
"""Seconds before a worker that keeps failing is replaced: doubled each time, up to this."""

SPARE_ROWS = 2
"""Rows of the scoreboard for each worker beside its own: its successor, and who still drains."""


def supervise(config: Config) -> int:
    """Serve with ``config.workers`` processes; in each of them this ends when it does.

    Raises ``ConfigurationError``, and in a worker ``ApplicationError`` too.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("--workers needs fork(), which this system does not have: use 1")
    count = config.workers or _usable_cores()
    loop = process.loop_choice(config.loop)
    endpoint = open_endpoint(config)
    supervisor = Supervisor(config, endpoint, count)
    try:
        banner.announce(config, endpoint.addresses, endpoint.notes, loop)
        ties = supervisor.run()
    except BaseException:
        endpoint.close()
        raise
    if ties is not None:
        serve(config, endpoint, ties)
        return 0
    endpoint.close()
    return supervisor.exit_code


@dataclass(eq=False, slots=True)
class _Worker:
    """A process. ``ready`` is the pipe by which it says that it is up, while that is awaited."""

    pid: int
    row: int
    ready: int | None
    began: float
    up: bool = False
    stopping: bool = False
    kill_at: float | None = None


@dataclass(eq=False, slots=True)
class _Slot:
    """A place for a worker. ``next`` comes up to take over from ``worker``."""

    number: int
    worker: _Worker | None = None
    next: _Worker | None = None
    delay: float = FIRST_DELAY
    spawn_at: float | None = None  # when a worker is due, if one is
    former: list[_Worker] = field(default_factory=list)  # who still finishes

    @property
    def workers(self) -> list[_Worker]:
        return [worker for worker in (self.worker, self.next, *self.former) if worker is not None]


class Supervisor:
    """Keeps ``count`` workers running; ``run`` gives None in the supervisor, in the end."""

    def __init__(self, config: Config, endpoint: Endpoint, count: int) -> None:
        self.exit_code = 0
        self._config = config
        self._endpoint = endpoint
        timeouts = config.timeouts
        self._stop_time = timeouts.graceful + timeouts.lifespan_shutdown + STOP_MARGIN
        self._scoreboard = Scoreboard((1 + SPARE_ROWS) * count)
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._slots[0].spawn_at = 0.0  # the others follow: what fails is to be said once
        self._renewing: list[_Slot] = []  # still to be renewed, the first one under way
        self._stop_at: float | None = None  # when the workers are to be told, while they drain
        self._stopping = False
        self._has_served = False

    def run(self) -> Ties | None:
        """Start the workers and watch them; returns in each worker, and in the end."""
        lifeline, self._lifeline = os.pipe()
        with _Signals() as self._signals:
            while True:
                ties = self._spawn_due(lifeline)
                if ties is not None:
                    os.close(self._lifeline)
                    return ties
                if self._stopping and not any(slot.workers for slot in self._slots):
                    return None
                self._wait()
                for number in self._signals.take():
                    self._on_signal(number)
                self._reap()
                self._look()

    # What happens.

    def _wait(self) -> None:
        pipes = [worker.ready for worker in self._all() if worker.ready is not None]
        # A readable pipe says "ready", or has ended: its worker is about to be reaped.
        patience = LOOK_INTERVAL
        if self._stop_at is not None and not self._stopping:
            patience = min(patience, max(0.0, self._stop_at - time.monotonic()))
        readable, _, _ = select.select([self._signals.fd, *pipes], [], [], patience)
        for slot in self._slots:
            for worker in slot.workers:
                if worker.ready in readable:
                    # At its end without a word, the process is about to end, too.
                    worker.up = bool(os.read(worker.ready, 1))
                    os.close(worker.ready)
                    worker.ready = None
                    if worker.up:
                        self._on_up(slot, worker)

    def _on_up(self, slot: _Slot, worker: _Worker) -> None:
        if not self._has_served:
            self._has_served = True
            for other in self._slots[1:]:
                other.spawn_at = 0.0
        logger.info("worker %d (process %d) serves", slot.number, worker.pid)
        if worker is slot.next:
            if slot.worker is not None:
                self._tell_to_stop(slot.worker)
                slot.former.append(slot.worker)
            slot.worker, slot.next = worker, None
            if slot in self._renewing:
                self._renewing.remove(slot)
                self._renew_next()

    def _on_signal(self, number: int) -> None:
        asked_before = self._stopping or self._stop_at is not None
        if number == signal.SIGHUP:
            self._renew()
        elif number == signal.SIGQUIT or (number in process.STOP_SIGNALS and asked_before):
            self._begin_stop()
            self.exit_code = 128 + number
            for worker in self._all():
                _kill(worker, signal.SIGKILL)
        elif number in process.STOP_SIGNALS:
            logger.info("stopping")
            self._begin_drain()

    def _reap(self) -> None:
        """Take note of processes that have ended; as process 1, of anybody's."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for slot in self._slots:
                for worker in slot.workers:
                    if worker.pid == pid:
                        self._on_ended(slot, worker, os.waitstatus_to_exitcode(status))

    def _look(self) -> None:
        """Begin the stop when it is due; kill who hangs or does not stop in time."""
        now = time.monotonic()
        if self._stop_at is not None and now >= self._stop_at and not self._stopping:
            self._begin_stop()
        for slot in self._slots:
            for worker in slot.workers:
                if worker.kill_at is not None and now >= worker.kill_at:
                    logger.warning("killing process %d, which does not stop", worker.pid)
                    _kill(worker, signal.SIGKILL)
                    worker.kill_at = None
                elif (
                    worker.up
                    and not worker.stopping
                    and now - self._scoreboard.seen(worker.row) > HANG_TIMEOUT
                ):
                    logger.error(
                        "worker %d (process %d) has hung for %g s: killing it",
                        *(slot.number, worker.pid, HANG_TIMEOUT),
                    )
                    _kill(worker, signal.SIGKILL)

    # What is done.

    def _spawn_due(self, lifeline: int) -> Ties | None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.spawn_at is None or now < slot.spawn_at or self._stopping:
                continue
            row = self._scoreboard.take_row()
            if row is None:
                slot.spawn_at = now + LOOK_INTERVAL  # when somebody who drains is gone
                continue
            slot.spawn_at = None
            ties = self._spawn(slot, row, lifeline)
            if ties is not None:
                return ties
        return None

    def _spawn(self, slot: _Slot, row: int, lifeline: int) -> Ties | None:
        """Fork; gives the new process its ties."""
        ready, told = os.pipe()
        with _blocked_signals():
            pid = os.fork()
            if not pid:
                self._signals.restore()
                # A terminal sends Ctrl-C to all processes; to a worker it comes as SIGTERM.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                for worker in self._all():
                    if worker.ready is not None:
                        os.close(worker.ready)
                os.close(ready)
                return Ties(self._scoreboard, row, told, lifeline)
        os.close(told)
        worker = _Worker(pid, row, ready, time.monotonic())
        if slot.worker is None:
            slot.worker = worker
        else:
            slot.next = worker
        return None

    def _on_ended(self, slot: _Slot, worker: _Worker, code: int) -> None:
        self._scoreboard.give_back(worker.row)
        if worker.ready is not None:
            os.close(worker.ready)
        if worker in slot.former:
            slot.former.remove(worker)
            return
        if worker is slot.next:
            slot.next = None
        else:
            slot.worker, slot.next = slot.next, None
        if self._stopping or worker.stopping:
            return
        if not worker.up and not self._has_served:
            # As a server alone does: what is wrong has been said, by the worker.
            self.exit_code = code if code > 0 else 1
            self._begin_stop()
        elif slot.worker is not None:
            logger.error("the new worker %s: the old ones go on", _how(code))
            self._renewing.clear()
        else:
            self._replace(slot, worker, code)

    def _replace(self, slot: _Slot, worker: _Worker, code: int) -> None:
        now = time.monotonic()
        steady = now - worker.began > STEADY
        delay = 0.0 if steady else slot.delay
        slot.delay = FIRST_DELAY if steady else min(LONGEST_DELAY, 2 * slot.delay)
        slot.spawn_at = now + delay
        when = f"in {delay:g} s" if delay else "now"
        logger.error(
            "worker %d (process %d) %s: replacing it %s", slot.number, worker.pid, _how(code), when
        )

    def _renew(self) -> None:
        if self._stopping or self._stop_at is not None or self._renewing:
            return
        try:
            self._endpoint.renew_certificate(self._config)
        except ConfigurationError as error:
            logger.error("%s: the workers go on as they are", error)
            return
        logger.info("replacing the workers")
        self._renewing = list(self._slots)
        self._renew_next()

    def _renew_next(self) -> None:
        if self._renewing:
            self._renewing[0].spawn_at = 0.0
        else:
            logger.info("the workers have been replaced")

    def _begin_drain(self) -> None:
        """Have health checks say that the end is near, and go on until ``_stop_at``."""
        self._scoreboard.drain()
        delay = self._config.proxies.drain_delay if self._has_served else 0.0
        if delay:
            logger.info("serving on for %g s, while health checks are told to go elsewhere", delay)
        self._stop_at = time.monotonic() + delay

    def _begin_stop(self) -> None:
        self._stopping = True
        for worker in self._all():
            if not worker.stopping:
                self._tell_to_stop(worker)

    def _tell_to_stop(self, worker: _Worker) -> None:
        worker.stopping = True
        worker.kill_at = time.monotonic() + self._stop_time
        _kill(worker, signal.SIGTERM)

    def _all(self) -> list[_Worker]:
        return [worker for slot in self._slots for worker in slot.workers]


class _Signals:
    """While entered, signals are noted, and ``fd`` is readable when there are some."""

    NUMBERS = (*process.STOP_SIGNALS, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(self) -> None:
        self._noted: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.fd, self._wakeup = os.pipe()
        for fd in (self.fd, self._wakeup):
            os.set_blocking(fd, False)
        self._previous_fd = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in self.NUMBERS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Leave early, in a new process."""
        if not self._previous:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self.fd)
        os.close(self._wakeup)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.append(number)

    def take(self) -> list[int]:
        """Give what was noted since the last call, in the order it came."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        noted, self._noted = self._noted, []
        return noted


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Put signals off: one that a new process took for its supervisor's would be lost."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _Signals.NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _kill(worker: _Worker, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, number)


def _how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
