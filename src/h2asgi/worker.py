"""A worker: a server in a process of its own, and what ties it to its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .config import Config
from .endpoint import Endpoint
from .health import State
from .scoreboard import NOT_ACCEPTING, Scoreboard
from .server import run_server

HEARTBEAT_INTERVAL = 1.0
"""Seconds between the signs of life of a worker's loop: too few to cost anything."""

STOP_SIGNALS = (signal.SIGTERM,)


@dataclass(frozen=True, slots=True)
class Ties:
    """``ready`` is told when the worker serves; ``lifeline`` ends when its supervisor is gone.

    For its listener they are its ``Colleagues``, for health checks the ``Service``.
    """

    scoreboard: Scoreboard
    row: int
    ready: int
    lifeline: int

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """While entered, the worker serves, within its loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.lifeline, self._abandoned)
        heartbeat = loop.create_task(self._beat())
        self.scoreboard.set_connections(self.row, 0)
        os.write(self.ready, b"\1")
        os.close(self.ready)
        try:
            yield
        finally:
            self.scoreboard.set_connections(self.row, NOT_ACCEPTING)
            heartbeat.cancel()
            loop.remove_reader(self.lifeline)

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

    def _abandoned(self) -> None:
        """Stop since the supervisor is gone, and let load balancers know."""
        self.scoreboard.drain()
        os.kill(os.getpid(), signal.SIGTERM)

    async def _beat(self) -> None:
        while True:
            self.scoreboard.beat(self.row)
            await asyncio.sleep(HEARTBEAT_INTERVAL)


def serve(config: Config, endpoint: Endpoint, ties: Ties) -> None:
    """Serve until the supervisor says SIGTERM, or is gone.

    Raises ``ConfigurationError`` and ``ApplicationError``.
    """
    # The files of Unix sockets are the supervisor's to remove, and the delay its to wait for.
    own = replace(
        endpoint,
        sockets=[replace(listening, file=None) for listening in endpoint.sockets],
        health_sockets=[replace(listening, file=None) for listening in endpoint.health_sockets],
        colleagues=ties,
        service=ties,
    )
    config = replace(config, proxies=replace(config.proxies, drain_delay=0.0))
    run_server(config, own, ties.serving(), STOP_SIGNALS)
