"""One server in one process: certificates, sockets, lifespan, connections, and the way out."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import banner, logs, process
from .admission import default_limit
from .arrivals import ServerAddress
from .certificate_watch import LOOK_INTERVAL, CertificateWatch
from .config import Config
from .connection import Connection, ServerState
from .default_fields import DefaultFields
from .endpoint import Endpoint, open_endpoint
from .errors import ConfigurationError
from .forwarded import Forwarding
from .health import Health
from .importer import ASGIApplication, import_application
from .lifespan import Lifespan
from .limits import WatchedBudget
from .listener import Listener
from .monitoring import MonitoringPorts
from .options import check_config, given
from .protocol.proxy import ProxyHeader
from .pulse import Pulse
from .redirect import RedirectPort
from .relief import Relief
from .request_ids import RequestIDs
from .trace import Trace

if TYPE_CHECKING:
    from .inspector.port import InspectorPort

logger = logging.getLogger("h2asgi")

RESET_TIMEOUT = 1.0
"""Seconds between the reset of what outlived the graceful time-out and its cancellation."""

CANCEL_TIMEOUT = 1.0
"""Seconds for cancelled application tasks, and then for aborted connections, to end."""

HANDSHAKE_GRACE = 1.0
"""Seconds for handshakes under way: whoever is in one is about to send a request."""

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
        """Where it listens: (host, port), never with port 0, or the path of a Unix socket."""
        self.redirect_addresses: list[tuple[str, int] | str] = []
        """Where it sends clients to https, with ``redirect_http``."""
        self.health_addresses: list[tuple[str, int] | str] = []
        """Where it answers health checks in the clear, with ``health_bind``."""
        self.inspect_addresses: list[tuple[str, int] | str] = []
        """Where the inspector is, with ``inspect``."""
        self._redirect: RedirectPort | None = None
        self.metrics_addresses: list[tuple[str, int] | str] = []
        """Where it shows metrics in the clear, with ``metrics``."""
        self._monitoring: MonitoringPorts | None = None
        self._pulse: Pulse | None = None
        self._inspector: InspectorPort | None = None
        self._health: Health | None = None
        self._request_ids: RequestIDs | None = None
        self._config = replace(config or Config(), app=app)
        self._trace = trace
        self._application: ASGIApplication | None = None
        self._entered = False
        self._endpoint = endpoint or Endpoint()
        self._opens_endpoint = endpoint is None
        self._looking: asyncio.TimerHandle | None = None
        self._watch = CertificateWatch(None)
        self.handed_over = False
        """Whether another program serves on with its sockets, so that nobody need take note."""

    @property
    def alone(self) -> bool:
        """Whether its endpoint is its own, so that it speaks of it and renews the certificate."""
        return not self._endpoint.shared

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a Server is to be entered once: make another one")
        self._entered = True
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
        logs.check(self._config.log)
        if (name := self._config.log.request_id_header) is not None:
            self._request_ids = RequestIDs(name)
        if self._opens_endpoint:
            self._check_config()
            self._endpoint = open_endpoint(self._config)
        try:
            self._application = import_application(self._config)
        except BaseException:
            self.close_sockets()
            raise
        self.addresses = self._endpoint.addresses
        self.redirect_addresses = [found.address for found in self._endpoint.redirect_sockets]
        self.health_addresses = [found.address for found in self._endpoint.health_sockets]
        self.metrics_addresses = [found.address for found in self._endpoint.metrics_sockets]
        self.inspect_addresses = [found.address for found in self._endpoint.inspect_sockets]

    def _check_config(self) -> None:
        """See to a Config that another program made."""
        check_config(self._config)
        idle = [
            option.name
            for option in given(self._config)
            if option.topic == "Processes" or option.path[0] == "reload"
        ]
        if idle:
            logger.warning(
                "without effect in a program of yours: %s; h2asgi.run() and the command heed them",
                ", ".join(idle),
            )
        self._config = replace(self._config, workers=1)

    def close_sockets(self) -> None:
        """Stop listening, for a server that was prepared and is not entered."""
        self._endpoint.close()

    async def _start(self) -> None:
        assert self._application is not None
        config = self._config
        loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        # That of a WSGI application is ours: its threads end there.
        lifespan = "on" if config.interface == "wsgi" else config.lifespan
        self._lifespan = Lifespan(self._application, lifespan)
        self._default_fields = DefaultFields(server=config.server_header, date=config.date_header)
        self._default_fields.start(loop)
        self._state = self._make_state(self._application, loop)
        tally = self._state.tally
        self._relief = Relief(loop, self._state.connections, self._state.unsent, tally)
        if tally is not None:
            self._pulse = Pulse(self._state, tally)
            self._pulse.start()
        if self._endpoint.health_sockets or self._endpoint.metrics_sockets:
            self._monitoring = MonitoringPorts(self._endpoint, self._state)
            if not self._endpoint.inherited.succeeds:  # who goes before answers till then
                self._monitoring.start()
        try:
            await self._lifespan.startup()
        except BaseException:
            await self._end_watch()
            raise
        self._state.lifespan_state = self._lifespan.state
        self._listen()
        if self.alone:
            self._watch = CertificateWatch(self._endpoint.tls)
            self._look_at_certificate()
            banner.announce(config, self.addresses, self._endpoint.notes, process.loop_name(loop))

    def _make_state(
        self, application: ASGIApplication, loop: asyncio.AbstractEventLoop
    ) -> ServerState:
        config, endpoint = self._config, self._endpoint
        proxies = config.proxies
        if proxies.health_path is not None:
            self._health = Health(proxies.health_path, endpoint.service)
        return ServerState(
            app=application,
            config=config,
            loop=loop,
            trace=self._trace or logs.embedded_access_log(config.log),
            default_headers=self._default_fields,
            on_idle=self._changed.set,
            forwarding=Forwarding(endpoint.trusted, proxies.fields) if proxies.fields else None,
            health=self._health,
            request_ids=self._request_ids,
            tally=None if endpoint.tallies is None else endpoint.tallies.own,
            unsent=WatchedBudget(config.limits.unsent),
        )

    def _listen(self) -> None:
        config, endpoint = self._config, self._endpoint
        timeouts = config.timeouts
        tls = endpoint.ssl_context is not None
        self._listener = Listener(
            list(endpoint.sockets),
            self._connection,
            ssl_context=endpoint.ssl_context,
            handshake_timeout=timeouts.tls_handshake if tls else timeouts.first_bytes,
            limit=config.limits.connections or default_limit(),
            per_address=config.limits.connections_per_address,
            on_full=self._make_room,
            colleagues=endpoint.colleagues,
            proxies=endpoint.proxies,
            tally=self._state.tally,
        )
        self._listener.start()
        if endpoint.redirect_sockets:
            self._redirect = RedirectPort(endpoint, self._state)
            self._redirect.start()
        if endpoint.inspect_sockets:
            self._inspect()
        if self._health is not None:
            self._health.state = "serving"
        if self._monitoring is not None:
            self._monitoring.start()

    def _inspect(self) -> None:
        from .inspector.port import InspectorPort  # which servers without it need not load

        address = self._config.inspect.address
        named = frozenset((address or "").lower().rpartition(":")[:1])
        self._inspector = InspectorPort(self._endpoint, self._state, named)
        self._inspector.start()

    def _connection(
        self, server: ServerAddress, lost: Callable[[], None], proxied: ProxyHeader | None
    ) -> Connection:
        tls = self._endpoint.ssl_context is not None
        return Connection(self._state, tls=tls, server=server, lost=lost, proxied=proxied)

    def renew_certificate(self) -> None:
        """Read the certificate anew, for new connections, as a change of its files does.

        One that cannot work is logged, and the old one stays.
        """
        self._watch.note()
        try:
            self._endpoint.renew_certificate(self._config)
        except ConfigurationError as error:
            logger.error("%s: the certificate in use stays", error)
            return
        self._listener.renew(self._endpoint.ssl_context)
        logger.info("the certificate was read anew")

    def _look_at_certificate(self) -> None:
        if self._watch.look():
            self.renew_certificate()
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_INTERVAL, self._look_at_certificate)

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
        if self._looking is not None:
            self._looking.cancel()
        try:
            await self._drain()
            self._listener.stop()
            await self._listener.finish_handshakes(HANDSHAKE_GRACE)
            if self._redirect is not None:
                self._redirect.stop()
            await self._finish_requests()
            self._abort_connections()
            await self._until(lambda: not self._state.connections, CANCEL_TIMEOUT)
            await self._lifespan.shutdown(self._config.timeouts.lifespan_shutdown)
        except asyncio.CancelledError:
            self._abort_connections()  # first, so that applications know why they end
            self._cancel_tasks()
            await self._lifespan.cancel()
            raise
        finally:
            await self._end_watch()

    async def _end_watch(self) -> None:
        """End what goes on beside the application."""
        self._default_fields.stop()
        self._relief.stop()
        if self._pulse is not None:
            self._pulse.stop()
        if self._inspector is not None:
            await self._inspector.stop()
        if self._monitoring is not None:
            await self._monitoring.stop()

    async def _drain(self) -> None:
        """Have load balancers take note before anything ends, unless the service goes on."""
        if self.handed_over and self._inspector is not None:
            await self._inspector.stop()  # or viewers would come to what is about to end
        service = self._endpoint.service
        if self.handed_over or (service is not None and not service.ends()):
            if self._monitoring is not None:
                await self._monitoring.stop()
            return
        if self._health is not None:
            self._health.state = "draining"
        delay = self._config.proxies.drain_delay
        if delay:
            logger.info("serving on for %g s, while health checks are told to go elsewhere", delay)
            await asyncio.sleep(delay)

    async def _finish_requests(self) -> None:
        state, limit = self._state, self._config.timeouts.graceful
        for connection in tuple(state.connections):
            connection.leave()
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


async def serve(
    app: str | ASGIApplication,
    config: Config | None = None,
    *,
    shutdown: asyncio.Event | None = None,
) -> None:
    """Serve in the running event loop until ``shutdown`` is set or the call is cancelled.

    Then it stops gracefully. Like ``Server`` it leaves signals and ``logging`` alone.
    """
    async with Server(app, config):
        await (shutdown or asyncio.Event()).wait()
