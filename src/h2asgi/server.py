"""One server in one process: certificates, sockets, lifespan, connections, and the way out."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from email.utils import formatdate
from operator import itemgetter
from types import TracebackType
from typing import Self

from . import banner, logs, process
from .admission import default_limit
from .config import Config
from .connection import Connection, ServerState
from .endpoint import Endpoint, open_endpoint
from .importer import ASGIApplication, import_application
from .lifespan import Lifespan
from .limits import WatchedBudget
from .listener import Listener, ServerAddress
from .redirect import RedirectListener
from .relief import Relief
from .trace import Trace

logger = logging.getLogger("h2asgi")

RESET_TIMEOUT = 1.0
"""Seconds between the reset of what outlived the graceful time-out and its cancellation."""

CANCEL_TIMEOUT = 1.0
"""Seconds for cancelled application tasks, and then for aborted connections, to end."""

IDLE_PATIENCE = 1.0
"""Seconds that a connection may be idle in any case: for its first request, or the next one of a
page that is loading."""

PLACES_AT_ONCE = 32
"""Idle connections that give way at a time: whoever opens hundreds a second does not push out the
others all at once."""

DELIVERY_POLL = 0.05
"""Seconds between looks at what the kernel has yet to deliver, while the server stops."""


class Server:
    """Serves ``app`` while it is entered::

        async with h2asgi.Server(app, config) as server:
            host, port = server.addresses[0]

    Neither signals nor the configuration of ``logging`` are touched. ``trace``
    is told of every request; without it the access log goes to the logger
    ``h2asgi.access``. Entering raises ``ConfigurationError`` or
    ``ApplicationError``. To be entered once.
    """

    def __init__(
        self,
        app: str | ASGIApplication,
        config: Config | None = None,
        *,
        trace: Trace | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.addresses: list[tuple[str, int] | str] = []
        """Where it listens: (host, port), or the path of a Unix socket."""
        self.redirect_addresses: list[tuple[str, int] | str] = []
        """Where it sends clients to https, with ``redirect_http``."""
        self._redirect: RedirectListener | None = None
        self._config = replace(config or Config(), app=app)
        self._trace = trace
        self._application: ASGIApplication | None = None
        self._endpoint = endpoint or Endpoint()
        self.alone = endpoint is None
        """Whether it opens its endpoint itself, and so speaks of it."""

    async def __aenter__(self) -> Self:
        try:
            if self._application is None:
                self.prepare()
            await self._start()
        except BaseException:
            self.close_sockets()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    def prepare(self) -> None:
        """Do what can fail by an operator's mistake, before the application starts up.

        Entering does it otherwise. It blocks, and an application that is
        imported here may still run an event loop of its own.
        """
        if self.alone:
            self._endpoint = open_endpoint(self._config)
        try:
            self._application = import_application(self._config)
        except BaseException:
            self.close_sockets()
            raise
        self.addresses = self._endpoint.addresses
        self.redirect_addresses = [found.address for found in self._endpoint.redirect_sockets]

    def close_sockets(self) -> None:
        """Stop listening; harmless when it was done before."""
        self._endpoint.close()

    async def _start(self) -> None:
        assert self._application is not None
        config = self._config
        loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lifespan = Lifespan(self._application, config.lifespan)
        await self._lifespan.startup()
        self._default_fields = DefaultFields(server=config.server_header, date=config.date_header)
        self._state = ServerState(
            app=self._application,
            config=config,
            loop=loop,
            trace=self._trace or logs.embedded_access_log(config.log),
            default_headers=self._default_fields,
            lifespan_state=self._lifespan.state,
            unsent=WatchedBudget(config.limits.unsent),
        )
        self._relief = Relief(loop, self._state.connections, self._state.unsent)
        self._state.on_idle = self._changed.set
        self._listener = Listener(
            list(self._endpoint.sockets),
            self._connection,
            ssl_context=self._endpoint.ssl_context,
            handshake_timeout=config.timeouts.tls_handshake,
            limit=config.limits.connections or default_limit(),
            per_address=config.limits.connections_per_address,
            on_full=self._make_room,
            colleagues=self._endpoint.colleagues,
        )
        self._default_fields.start(loop)
        self._listener.start()
        if self._endpoint.redirect_sockets:
            self._redirect = RedirectListener(self._endpoint, self._state)
            self._redirect.start()
        if self.alone:
            banner.announce(config, self.addresses, self._endpoint.notes, process.loop_name(loop))

    def _connection(self, server: ServerAddress, lost: Callable[[], None]) -> Connection:
        tls = self._endpoint.ssl_context is not None
        return Connection(self._state, tls=tls, server=server, lost=lost)

    def _make_room(self) -> None:
        """Have connections give way to new ones that have been idle, the longest ones first."""
        latest = asyncio.get_running_loop().time() - IDLE_PATIENCE
        idle = [
            (since, connection)
            for connection in self._state.connections
            if (since := connection.idle_since) is not None and since <= latest
        ]
        for _, connection in heapq.nsmallest(PLACES_AT_ONCE, idle, key=itemgetter(0)):
            connection.give_way()

    async def _stop(self) -> None:
        """Let requests finish, then insist; every step has its bound."""
        try:
            self._listener.stop()
            await self._listener.cancel_handshakes()
            if self._redirect is not None:
                await self._redirect.stop()
            await self._finish_requests()
            self._abort_connections()
            await self._until(lambda: not self._state.connections, CANCEL_TIMEOUT)
            await self._lifespan.shutdown(self._config.timeouts.lifespan_shutdown)
        except asyncio.CancelledError:
            self._cancel_tasks()
            self._abort_connections()
            await self._lifespan.cancel()
            raise
        finally:
            self._default_fields.stop()
            self._relief.stop()

    async def _finish_requests(self) -> None:
        state, limit = self._state, self._config.timeouts.graceful
        for connection in tuple(state.connections):
            connection.begin_shutdown()
        if await self._until(self._quiet, limit):
            return
        logger.warning(
            "%d requests and %d connections did not finish within %g s: resetting them",
            len(state.tasks),
            len(state.connections),
            limit,
        )
        for connection in tuple(state.connections):
            connection.abort_streams()
        if await self._until(self._quiet, RESET_TIMEOUT) or not state.tasks:
            return
        logger.warning("cancelling %d requests that go on after their reset", len(state.tasks))
        self._cancel_tasks()
        if not await self._until(lambda: not state.tasks, CANCEL_TIMEOUT):
            logger.warning("leaving %d requests that ignore cancellation", len(state.tasks))

    def _quiet(self) -> bool:
        """Whether nothing is left but connections whose peers have yet to close them."""
        state = self._state
        return not state.tasks and all(connection.finished for connection in state.connections)

    def _cancel_tasks(self) -> None:
        for task in tuple(self._state.tasks):
            task.cancel()

    def _abort_connections(self) -> None:
        for connection in tuple(self._state.connections):
            connection.abort()

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for ``condition``, looking whenever a task or connection ends, and now and then.

        When the last octets of an answer are delivered, nothing says so.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), DELIVERY_POLL)
        return condition()


class DefaultFields:
    """Fields that every response gets; ``fields`` is replaced once a second for ``date``."""

    def __init__(self, *, server: bool, date: bool) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self._server = [(b"server", b"h2asgi")] if server else []
        self._date = date
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the fields, now and whenever the second changes (RFC 9110 section 6.6.1)."""
        self.fields = self._server
        if self._date:
            now = time.time()
            date = formatdate(int(now), usegmt=True).encode("ascii")
            self.fields = [(b"date", date), *self._server]
            self._timer = loop.call_later(1 - now % 1, self.start, loop)

    def stop(self) -> None:
        """Leave the fields as they are."""
        if self._timer is not None:
            self._timer.cancel()


async def serve(
    app: str | ASGIApplication,
    config: Config | None = None,
    *,
    shutdown: asyncio.Event | None = None,
) -> None:
    """Serve until ``shutdown`` is set or the call is cancelled, then stop gracefully.

    Like ``Server`` it leaves signals and ``logging`` alone.
    """
    async with Server(app, config):
        await (shutdown or asyncio.Event()).wait()


_NOTHING = contextlib.nullcontext()


def _watched(config: Config) -> AbstractContextManager[object]:
    if not config.log.debug_loop:
        return _NOTHING
    from .loop_watch import LoopWatch

    return LoopWatch()


def run_server(
    config: Config,
    endpoint: Endpoint | None = None,
    serving: AbstractContextManager[object] = _NOTHING,
    stop_signals: Sequence[signal.Signals] = process.STOP_SIGNALS,
) -> None:
    """Serve in a loop of this process until a signal; ``serving`` is entered meanwhile.

    Raises ``ConfigurationError`` and ``ApplicationError``.
    """
    loop = process.new_event_loop(config.loop)
    with contextlib.closing(loop), logs.access_log(config.log) as trace:
        server = Server(config.app, config, trace=trace, endpoint=endpoint)
        server.prepare()
        process.run(loop, _serve_until_signalled(server, config, serving, stop_signals))


async def _serve_until_signalled(
    server: Server,
    config: Config,
    serving: AbstractContextManager[object],
    stop_signals: Sequence[signal.Signals],
) -> None:
    with process.StopSignals(stop_signals) as signals:
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
        tuned = process.rare_collections() if config.gc_tuning else contextlib.nullcontext()
        with serving, tuned, _watched(config):
            await stopped
        if server.alone:
            logger.info("stopping")
        await server.__aexit__(None, None, None)
