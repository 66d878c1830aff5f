"""The process above the workers: what signals, ends of workers and new certificates lead to.

It has one thread, no event loop and no application: it opens the endpoint,
forks the workers, and waits. A worker leaves ``Supervisor.run`` by the same
door as the supervisor, with its ``Ties``, so that its process ends as any
Python process does.

Signals: SIGTERM and SIGINT let the workers finish, after the delay in which load
balancers take note; the second one, or SIGQUIT, kills them. SIGHUP replaces one
worker after the other, the new one serving before the old one stops; a new one
that does not come up leaves the old ones as they are. SIGUSR1 opens log files
anew, SIGUSR2 replaces the program.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from . import banner, key_pairs, line, logs, notify, process, upgrade
from .certificate_watch import LOOK_INTERVAL, CertificateWatch
from .config import Config
from .crew import FIRST_DELAY, Crew, Slot, Worker, how
from .endpoint import Endpoint, open_endpoint
from .errors import ConfigurationError
from .identity import Identity, PIDFile, set_umask
from .inheritance import take
from .key_pairs import KeyPair
from .noted_signals import NUMBERS, NotedSignals
from .rotation import Rotation
from .tls_context import ServerContext
from .worker import Ties, serve

logger = logging.getLogger("h2asgi")

STOP_MARGIN = 6.0
"""Seconds beyond its own time-outs that a worker has to stop: it ends handshakes, resets, cancels,
joins threads."""

STEADY = 10.0
"""Seconds after which a worker that ends did not fail to run: it is replaced at once."""

_Before = tuple[Config, ServerContext | None]
"""What new workers were made with before; they are again if those that replace them fail."""


def supervise(config: Config, reread: Callable[[], Config] | None = None) -> int:
    """Serve with ``config.workers`` processes; in each of them this ends when it does.

    ``reread`` gives the options as they are now. Raises ``ConfigurationError``,
    and in a worker ``ApplicationError`` too.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("--workers needs fork(), which this system does not have: use 1")
    count = config.workers or process.usable_cores()
    loop = process.loop_choice(config.loop)
    identity = Identity(config.processes)
    set_umask(config.processes)
    endpoint = open_endpoint(config, take(), count)
    supervisor = Supervisor(config, endpoint, count, reread)
    try:
        shown = replace(config, workers=count)  # however many "auto" is here
        banner.announce(shown, endpoint.addresses, endpoint.notes, loop)
        placed = supervisor.run()
    except BaseException:
        endpoint.close()
        raise
    if placed is not None:
        slot, ties = placed
        endpoint.inherited.leave_predecessor()
        identity.become()
        part = endpoint.of_worker(slot.number - 1, count, ties, ties, ties.tallies)
        serve(supervisor.config, part, ties)
        return 0
    endpoint.close()
    return supervisor.exit_code


class Supervisor:
    """Keeps ``count`` workers running; ``run`` gives None in the supervisor, in the end."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        count: int,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self.exit_code = 0
        self._reread = reread
        self._endpoint = endpoint
        self._crew = Crew(count, self, counted=endpoint.tallies is not None)
        self._use(config)
        self._crew.slots[0].spawn_at = 0.0  # the others follow: what fails is to be said once
        self._rotation = Rotation()
        self._before: _Before | None = None  # while all workers are being replaced
        self._reload_again = False
        self._watch = CertificateWatch(endpoint.tls)
        self._upgrade: upgrade.Upgrade | None = None
        self._pid_file = PIDFile(config.processes.pid_file)
        self._watchdog = notify.watchdog_interval()
        self._terminal = process.Terminal()
        self._beat_at = 0.0  # when the service manager gets its next sign of life
        self._look_at = 0.0
        self._stop_at: float | None = None  # when the workers are to be told, while they drain
        self._stopping = False
        self._has_served = False
        self._is_up = False

    def run(self) -> tuple[Slot, Ties] | None:
        """Start the workers and watch them; returns in each worker, and in the end."""
        with NotedSignals(NUMBERS) as self._signals:
            if self._endpoint.inherited.predecessor is None:
                self._pid_file.write()  # whoever reads it may send signals
            while True:
                placed = None if self._stopping else self._crew.spawn_due(self._signals)
                if placed is not None:
                    return placed
                if self._stopping and not self._crew.workers:
                    self._pid_file.remove()
                    return None
                self._wait()
                for number in self._signals.take():
                    self._on_signal(number)
                self._crew.reap()
                self._look()

    @property
    def _asked_to_stop(self) -> bool:
        return self._stopping or self._stop_at is not None

    # What happens.

    def _wait(self) -> None:
        awaited: list[int | socket.socket] = [self._signals.fd, *self._crew.lines()]
        if self._upgrade is not None:
            awaited.append(self._upgrade.fd)
        timeout = min(LOOK_INTERVAL, self._watchdog or LOOK_INTERVAL)
        if self._stop_at is not None and not self._stopping:
            timeout = min(timeout, max(0.0, self._stop_at - time.monotonic()))
        readable, _, _ = select.select(awaited, [], [], timeout)
        self._crew.listen(readable)
        if self._upgrade is not None and self._upgrade.fd in readable:
            done, self._upgrade = self._upgrade, None
            if done.finish():
                self._begin_stop(handed_over=True)

    def on_up(self, slot: Slot, worker: Worker) -> None:
        """See ``crew.Foreman``."""
        if not self._has_served:
            self._has_served = True
            for other in self._crew.slots[1:]:
                other.spawn_at = 0.0
        if worker is slot.next:
            if slot.worker is not None:
                self._crew.tell_to_stop(slot.worker)
                slot.former.append(slot.worker)
            slot.worker, slot.next = worker, None
        if worker.generation == self._crew.generation:
            self._rotation.done(slot)
        elif slot in self._rotation and slot.next is None:
            slot.spawn_at = 0.0  # it was forked before what it was to be forked for
        if self._before is not None and not self._rotation:
            logger.info("the workers have been replaced")
            self._end_reload()
        if self._asked_to_stop or self._is_up:
            return
        if all(each.worker and each.worker.up for each in self._crew.slots):
            self._is_up = True
            if self._endpoint.inherited.predecessor is not None:
                self._pid_file.take_over()
            self._endpoint.inherited.tell_predecessor()
            notify.tell(notify.READY)

    def on_ended(self, slot: Slot, worker: Worker, code: int) -> None:
        """See ``crew.Foreman``."""
        if worker in slot.former:
            slot.former.remove(worker)
            return
        is_next = worker is slot.next
        if is_next:
            slot.next = None
        else:
            slot.worker, slot.next = slot.next, None
        if self._stopping or worker.stopping:
            return
        if not worker.up and not self._has_served:
            # As a server alone does: what is wrong has been said, by the worker.
            self.exit_code = code if code > 0 else 1
            self._begin_stop()
        elif is_next and slot.worker is not None:
            self._go_on_with(slot.worker, slot, code)
        elif slot.worker is not None:
            number, pid = slot.number, worker.pid
            logger.error("worker %d (process %d) %s: its successor comes", number, pid, how(code))
        else:
            self._replace(slot, worker, code)

    def _go_on_with(self, old: Worker, slot: Slot, code: int) -> None:
        logger.error("the new worker %s: the old ones go on", how(code))
        if old.retire_at is not None:
            old.retire_at = max(old.retire_at, time.monotonic() + slot.longer_delay())
        if self._before is None:
            self._rotation.done(slot)
        else:
            self._give_up_reload()

    def _give_up_reload(self) -> None:
        assert self._before is not None
        self._rotation.clear()
        config, self._endpoint.ssl_context = self._before
        self._use(config)
        self._end_reload()

    def _replace(self, slot: Slot, worker: Worker, code: int) -> None:
        now = time.monotonic()
        steady = now - worker.began > STEADY
        if steady:
            slot.delay = FIRST_DELAY
        delay = 0.0 if steady else slot.longer_delay()
        slot.spawn_at = now + delay
        when = f"in {delay:g} s" if delay else "now"
        logger.error(
            "worker %d (process %d) %s: replacing it %s", slot.number, worker.pid, how(code), when
        )
        if self._before is not None and not worker.up and slot in self._rotation:
            self._give_up_reload()

    def _on_signal(self, number: int) -> None:
        stops = number in process.STOP_SIGNALS
        asked_before = self._asked_to_stop
        if (stops or number == signal.SIGQUIT) and self._upgrade is not None:
            self._upgrade.give_up(number)
            self._upgrade = None
        if number == signal.SIGQUIT or (stops and asked_before):
            self._begin_stop()
            self.exit_code = 128 + number
            for worker in self._crew.workers:
                worker.kill(signal.SIGKILL)
        elif stops:
            logger.info("stopping")
            self._begin_drain()
        elif asked_before:
            pass
        elif number == signal.SIGHUP and self._terminal.is_gone():
            logger.info("the terminal is gone: stopping")
            self._begin_drain()
        elif number == signal.SIGHUP:
            self._begin_reload()
        elif number == signal.SIGUSR1:
            for end in self._crew.lines():
                line.say(end, line.REOPEN)
        elif number == signal.SIGUSR2 and self._upgrade is not None:
            logger.info("an upgrade is under way already")
        elif number == signal.SIGUSR2:
            self._upgrade = upgrade.begin(self._endpoint)

    def _look(self) -> None:
        if self._stop_at is not None and time.monotonic() >= self._stop_at and not self._stopping:
            self._begin_stop()
        self._crew.look()
        now = time.monotonic()
        if self._watchdog is not None and now >= self._beat_at:
            self._beat_at = now + self._watchdog
            notify.tell(notify.WATCHDOG)
        if self._stopping or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL
        for slot in self._crew.slots:
            worker = slot.worker
            if worker is not None and worker.up and now >= (worker.retire_at or now + 1):
                self._rotation.add([slot])
        if self._watch.look() and self._before is None:
            self._renew_certificate()

    # What is done.

    def _renew_certificate(self) -> None:
        before = self._endpoint.ssl_context
        try:
            pairs = self._endpoint.renew_certificate(self.config)
        except ConfigurationError as error:
            logger.error("%s: the certificate in use stays", error)
            return
        logger.info("there is a new certificate")
        if self._endpoint.ssl_context is before:
            self._hand_on(pairs)
        else:
            # Not for the workers that there are: tickets could not be shared.
            self._replace_all((self.config, before))

    def _hand_on(self, pairs: list[KeyPair]) -> None:
        if not pairs:
            return
        data = key_pairs.to_bytes(pairs)
        try:
            line.say_to_all(self._crew.lines(stopping=False), line.CERTIFICATES, data)
        except OSError as error:
            logger.error("the workers cannot be given the certificate: %s", error.strerror)

    def _begin_reload(self) -> None:
        if self._before is not None:
            self._reload_again = True
            return
        before = (self.config, self._endpoint.ssl_context)
        notify.reloading()
        self._watch.note()
        try:
            config = self._read_options()
            logs.check(config.log)
            pairs = self._endpoint.renew_certificate(config)
        except ConfigurationError as error:
            logger.error("%s: the workers go on as they are", error)
            notify.tell(notify.READY)
            return
        self._use(config)
        self._hand_on(pairs)
        self._replace_all(before)

    def _use(self, config: Config) -> None:
        """Have workers to come serve with ``config``."""
        self.config = config
        try:
            logs.configure(config.log)
        except ConfigurationError as error:  # its file has changed since the start
            logger.error("%s: the server's log goes to stderr", error)
        timeouts = config.timeouts
        self._crew.stop_time = timeouts.graceful + timeouts.lifespan_shutdown + STOP_MARGIN
        self._crew.max_age = config.processes.max_worker_age

    def _read_options(self) -> Config:
        """Read the options anew; what was opened with the old ones stays as it is."""
        if self._reread is None:
            return self.config
        new, old = self._reread(), self.config
        lasting = replace(
            new,
            workers=old.workers,
            bind=old.bind,
            metrics=old.metrics,
            proxies=replace(old.proxies, drain_delay=new.proxies.drain_delay),
            processes=replace(
                old.processes,
                max_requests=new.processes.max_requests,
                max_worker_age=new.processes.max_worker_age,
            ),
        )
        if lasting != new:
            logger.warning(
                "where to listen, whom to believe, the number of workers, and as whom they run"
                " change with SIGUSR2 or a restart only"
            )
        if lasting.tls.enabled != old.tls.enabled:
            raise ConfigurationError("TLS is switched on or off by SIGUSR2 or a restart only")
        return lasting

    def _replace_all(self, before: _Before) -> None:
        logger.info("replacing the workers")
        self._before = before
        self._crew.generation += 1
        self._rotation.add(self._crew.slots)

    def _end_reload(self) -> None:
        self._before = None
        if self._watch.tls != self._endpoint.tls:
            self._watch = CertificateWatch(self._endpoint.tls)
        notify.tell(notify.READY)
        if self._reload_again:
            self._reload_again = False
            self._begin_reload()

    def _begin_drain(self) -> None:
        """Have health checks say that the end is near, and go on until ``_stop_at``."""
        self._crew.drain()
        delay = self.config.proxies.drain_delay if self._has_served else 0.0
        if delay:
            logger.info("serving on for %g s, while health checks are told to go elsewhere", delay)
        self._stop_at = time.monotonic() + delay

    def _begin_stop(self, *, handed_over: bool = False) -> None:
        if not self._stopping:
            self._stopping = True
            if not handed_over:  # or the service manager would stop the new program
                notify.tell(notify.STOPPING)
            # Workers have these sockets too, for as long as they want to accept.
            self._endpoint.close()
        for worker in self._crew.workers:
            self._crew.tell_to_stop(worker)
