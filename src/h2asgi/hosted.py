"""A server in an event loop of its own, until a signal: what a process does that only serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AbstractContextManager
from typing import Protocol

from . import logs, process
from .config import Config
from .endpoint import Endpoint
from .server import Server
from .trace import Trace

logger = logging.getLogger("h2asgi")


class Host(Protocol):
    """What a server in a process of its own is tied to."""

    def stop_signals(self) -> process.StopSignals:
        """Give the signals that let it finish, within its loop."""

    def trace(self, log: logs.AccessLog | None) -> Trace | None:
        """Say who observes requests, given the access log."""

    def serving(self, server: Server, log: logs.AccessLog | None) -> AbstractContextManager[object]:
        """To be entered while it serves, within its loop."""


def _watched(config: Config) -> AbstractContextManager[object]:
    if not config.log.debug_loop:
        return contextlib.nullcontext()
    from .loop_watch import LoopWatch

    return LoopWatch()


def run_server(config: Config, endpoint: Endpoint, host: Host) -> None:
    """Serve in a loop of this process until a signal.

    Raises ``ConfigurationError`` and ``ApplicationError``.
    """
    loop = process.new_event_loop(config.loop)
    log_config = config.log
    with (
        contextlib.closing(loop),
        logs.in_background(log_config),
        logs.access_log(log_config) as log,
    ):
        server = Server(config.app, config, trace=host.trace(log), endpoint=endpoint)
        server.prepare()
        process.run(loop, _serve_until_signalled(server, config, host, log))


async def _serve_until_signalled(
    server: Server, config: Config, host: Host, log: logs.AccessLog | None
) -> None:
    with host.stop_signals() as signals:
        stopped = asyncio.ensure_future(signals.received.wait())
        starting = asyncio.ensure_future(server.__aenter__())
        # An application may take for ever to start up; a signal ends that too.
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            if starting.cancelled():
                return
        await starting
        if not signals.received.is_set():  # or it would be told of that it serves
            tuned = process.rare_collections() if config.gc_tuning else contextlib.nullcontext()
            with host.serving(server, log), tuned, _watched(config):
                await stopped
        if server.alone:
            logger.info("stopping")
        await server.__aexit__(None, None, None)
