"""A server in a process of its own, without a supervisor: its signals, and who is told of it.

SIGHUP reads the certificate anew, SIGUSR1 opens the access log anew, SIGUSR2 replaces
the program. The application and the options are what they were at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from . import notify, process, upgrade
from .config import Config
from .endpoint import Endpoint, open_endpoint
from .errors import ConfigurationError
from .hosted import run_server
from .identity import Identity, PIDFile, set_umask
from .inheritance import take
from .logs import AccessLog
from .server import Server
from .trace import Trace

logger = logging.getLogger("h2asgi")

_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


def serve_alone(config: Config) -> None:
    """Serve in this process until a signal; raises ConfigurationError and ApplicationError."""
    process.loop_choice(config.loop)
    if config.processes.max_requests or config.processes.max_worker_age:
        raise ConfigurationError(
            "--max-requests and --max-worker-age replace workers: give --workers 2 or more"
        )
    terminal = process.Terminal()
    with _signals_noted() as early:
        _serve(config, terminal, early)


def _serve(config: Config, terminal: process.Terminal, early: list[int]) -> None:
    identity = Identity(config.processes)
    set_umask(config.processes)
    endpoint = open_endpoint(config, take())
    pid_file = PIDFile(config.processes.pid_file)
    try:
        if endpoint.inherited.predecessor is None:
            pid_file.write()
        identity.become()
        run_server(config, endpoint, _Alone(endpoint, pid_file, terminal, early))
    finally:
        endpoint.close()
        pid_file.remove()


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """While entered, nobody who sends one too early ends the process by it; gives what came."""
    early: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield early
        return

    def note(number: int, _frame: object) -> None:
        early.append(number)

    previous = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield early
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Alone:
    """See ``server.Host``."""

    def __init__(
        self,
        endpoint: Endpoint,
        pid_file: PIDFile,
        terminal: process.Terminal,
        early: list[int],
    ) -> None:
        self._endpoint = endpoint
        self._early = early
        self._terminal = terminal
        self._pid_file = pid_file
        self._upgrade: upgrade.Upgrade | None = None
        self._server: Server

    def stop_signals(self) -> process.StopSignals:
        """The second one ends it at once."""
        return process.StopSignals()

    def trace(self, log: AccessLog | None) -> Trace | None:
        """Requests go to the access log."""
        return log

    @contextlib.contextmanager
    def serving(self, server: Server, log: AccessLog | None) -> Iterator[None]:
        """While entered, the server serves, within its loop."""
        self._server = server
        reactions: dict[str, Callable[[], None]] = {
            "SIGHUP": lambda: self._reload(server),
            "SIGUSR1": lambda: None if log is None else log.reopen(),
            "SIGUSR2": self._begin_upgrade,
        }
        with _signals(reactions, self._early), _watchdog():
            self._announce()
            try:
                yield
            finally:
                self._give_up_upgrade()
                if not server.handed_over:  # or the service manager would stop the new program
                    notify.tell(notify.STOPPING)

    def _announce(self) -> None:
        if self._endpoint.inherited.predecessor is not None:
            self._pid_file.take_over()
            self._endpoint.inherited.tell_predecessor()
        notify.tell(notify.READY)

    def _reload(self, server: Server) -> None:
        if self._terminal.is_gone():
            logger.info("the terminal is gone")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        notify.reloading()
        if self._endpoint.ssl_context is None:
            logger.info("SIGHUP has nothing to read anew: there is no certificate")
        else:
            server.renew_certificate()
        notify.tell(notify.READY)

    def _begin_upgrade(self) -> None:
        if self._upgrade is not None:
            logger.info("an upgrade is under way already")
            return
        self._upgrade = upgrade.begin(self._endpoint)
        if self._upgrade is not None:
            asyncio.get_running_loop().add_reader(self._upgrade.fd, self._end_upgrade)

    def _give_up_upgrade(self) -> None:
        if self._upgrade is not None:
            asyncio.get_running_loop().remove_reader(self._upgrade.fd)
            self._upgrade.give_up(signal.SIGTERM)

    def _end_upgrade(self) -> None:
        done, self._upgrade = self._upgrade, None
        assert done is not None
        asyncio.get_running_loop().remove_reader(done.fd)
        self._server.handed_over = done.finish()
        if self._server.handed_over:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            # It is about to end; nobody has to wait for that.
            threading.Thread(target=os.waitpid, args=(done.pid, 0), daemon=True).start()


@contextlib.contextmanager
def _signals(reactions: dict[str, Callable[[], None]], early: list[int]) -> Iterator[None]:
    """While entered, signals have their reactions, those that came early among them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, reactions[number.name])
    for came in early:
        loop.call_soon(reactions[signal.Signals(came).name])
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, process.nothing)


@contextlib.contextmanager
def _watchdog() -> Iterator[None]:
    """While entered, the service manager gets its signs of life from the loop."""
    interval = notify.watchdog_interval()
    if interval is None:
        yield
        return
    task = asyncio.get_running_loop().create_task(_beat(interval))
    try:
        yield
    finally:
        task.cancel()


async def _beat(interval: float) -> None:
    while True:
        notify.tell(notify.WATCHDOG)
        await asyncio.sleep(interval)
