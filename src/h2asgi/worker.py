"""A worker: a server in a process of its own, and what ties it to its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from . import key_pairs, line, process
from .config import Config
from .endpoint import Endpoint
from .errors import ConfigurationError
from .health import State
from .hosted import run_server
from .logs import AccessLog
from .scoreboard import NOT_ACCEPTING, Scoreboard
from .server import Server
from .tally import Tallies
from .trace import RequestRecord, Trace

logger = logging.getLogger("h2asgi")

HEARTBEAT_INTERVAL = 1.0
"""Seconds between the signs of life of a worker's loop: too few to cost anything."""

SPREAD = 0.1
"""Ages and numbers of requests differ by up to this part, or all workers would retire at once."""


def spread() -> float:
    """Give a factor about 1."""
    return random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311


@dataclass(frozen=True, slots=True)
class Ties:
    """``line`` leads to the supervisor; its end is the supervisor's.

    For its listener they are its ``Colleagues``, for health checks the ``Service``.
    """

    scoreboard: Scoreboard
    row: int
    line: socket.socket

    @property
    def tallies(self) -> Tallies | None:
        """Where the worker counts, and its colleagues do."""
        return self.scoreboard.tallies(self.row)

    def publish(self, connections: int) -> None:
        """See ``listener.Colleagues``."""
        self.scoreboard.set_connections(self.row, connections)

    def fewest(self) -> int:
        """See ``listener.Colleagues``."""
        return self.scoreboard.fewest_connections()

    def state(self, own: State) -> State:
        """See ``health.Service``."""
        if self.scoreboard.draining():
            return "draining"
        return "serving" if self.scoreboard.accepting() else own

    def ends(self) -> bool:
        """See ``health.Service``."""
        return self.scoreboard.draining()


def serve(config: Config, endpoint: Endpoint, ties: Ties) -> None:
    """Serve until the supervisor says SIGTERM, or is gone.

    Raises ``ConfigurationError`` and ``ApplicationError``.
    """
    # The delay is the supervisor's to wait for.
    config = replace(config, proxies=replace(config.proxies, drain_delay=0.0))
    run_server(config, endpoint, _Supervised(config, endpoint, ties))


class _Supervised:
    """See ``server.Host``."""

    def __init__(self, config: Config, endpoint: Endpoint, ties: Ties) -> None:
        self._config = config
        self._endpoint = endpoint
        self._ties = ties

    def stop_signals(self) -> process.StopSignals:
        """It may come twice: a service manager tells all processes, and so does the supervisor."""
        return process.StopSignals((signal.SIGTERM,), patient=True)

    def trace(self, log: AccessLog | None) -> Trace | None:
        """Count requests, if there is to be an end of them."""
        limit = self._config.processes.max_requests
        if limit is None:
            return log
        return _CountedRequests(log, max(1, round(limit * spread())), self._retire)

    def _retire(self) -> None:
        line.say(self._ties.line, line.RETIRE)

    @contextlib.contextmanager
    def serving(self, server: Server, log: AccessLog | None) -> Iterator[None]:
        """While entered, the worker serves, within its loop."""
        ties, loop = self._ties, asyncio.get_running_loop()
        loop.add_reader(ties.line, self._hear, log)
        heartbeat = loop.create_task(self._beat())
        ties.publish(0)
        line.say(ties.line, line.UP)
        try:
            yield
        finally:
            ties.publish(NOT_ACCEPTING)
            heartbeat.cancel()
            loop.remove_reader(ties.line)

    def _hear(self, log: AccessLog | None) -> None:
        for word, data in line.heard(self._ties.line):
            if word == line.CERTIFICATES:
                self._load(data)
            elif word == line.REOPEN and log is not None:
                log.reopen()
            elif not word:  # the supervisor is gone
                self._ties.scoreboard.drain()
                asyncio.get_running_loop().remove_reader(self._ties.line)
                os.kill(os.getpid(), signal.SIGTERM)

    def _load(self, data: bytes) -> None:
        """Load certificates that the supervisor has found good, into the context in use."""
        context, tls = self._endpoint.ssl_context, self._endpoint.tls
        assert context is not None
        assert tls is not None
        pairs = key_pairs.from_bytes(data)
        if [(pair.certfile, pair.keyfile) for pair in pairs] != key_pairs.files(tls):
            logger.error("the new certificates are not those of this worker's options")
            return
        try:
            key_pairs.replace_all(context, pairs, check_authority=tls.check_authority)
        except ConfigurationError as error:
            logger.error("the new certificate cannot be loaded: %s", error)

    async def _beat(self) -> None:
        while True:
            self._ties.scoreboard.beat(self._ties.row)
            await asyncio.sleep(HEARTBEAT_INTERVAL)


class _CountedRequests:
    """A ``Trace`` that calls ``reached`` when there were ``limit`` requests."""

    def __init__(self, trace: Trace | None, limit: int, reached: Callable[[], None]) -> None:
        self._trace = trace
        self._left = limit
        self._reached = reached

    def request_finished(self, record: RequestRecord) -> None:
        """Count it and pass it on."""
        self._left -= 1
        if not self._left:
            self._reached()
        if self._trace is not None:
            self._trace.request_finished(record)
