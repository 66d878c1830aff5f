"""The ports in the clear for those who watch the server: probes of load balancers, Prometheus.

They are there before the application has started, and until it has shut down. There is one,
or one each when their addresses are not the same: metrics are not for everybody who may ask
for the server's health. The health checks are answered as on every other port, by the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .asgi.scope import Application, Receive, Scope, Send
from .connection import ServerState
from .endpoint import Endpoint
from .further_port import FurtherPort, small_requests
from .metrics import metrics_application
from .sockets import ListeningSocket

MAX_CONNECTIONS = 64
"""A few load balancers with a few probes each; whoever else comes is not meant to."""


LAST_ANSWER_TIME = 1.5
"""Seconds: as long as a connection that was just used is kept for its next request, and some."""


async def monitoring(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is none of the paths that are watched."""
    fields = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 404, "headers": fields})
    await send({"type": "http.response.body"})


class MonitoringPorts:
    """Accepts on the ``health_sockets`` and ``metrics_sockets`` of ``endpoint``."""

    def __init__(self, endpoint: Endpoint, state: ServerState) -> None:
        health, metrics = endpoint.health_sockets, endpoint.metrics_sockets
        self._ports: list[MonitoringPort] = []
        if metrics:
            shown = metrics_application(endpoint, monitoring)
            name = "the limit of --metrics"
            self._ports.append(MonitoringPort(metrics, state, shown, name))
        if health and health is not metrics:
            name = "the limit of --health-bind"
            self._ports.append(MonitoringPort(health, state, monitoring, name))

    def start(self) -> None:
        """Begin to accept, or go on."""
        for port in self._ports:
            port.start()

    async def stop(self) -> None:
        """See ``MonitoringPort``."""
        await asyncio.gather(*(port.stop() for port in self._ports))


class MonitoringPort:
    """Accepts on ``sockets``, which it owns from now on.

    Its connections are its own, so that it answers as long as the server's are ending.
    It writes no access log.
    """

    def __init__(
        self,
        sockets: Sequence[ListeningSocket],
        state: ServerState,
        app: Application,
        limit_name: str,
    ) -> None:
        self._state = ServerState(
            app=app,
            config=small_requests(state.config),
            loop=state.loop,
            default_headers=state.default_headers,
            health=state.health,
            read_buffer=state.read_buffer,
        )
        self._port = FurtherPort(
            sockets,
            self._state,
            limit=MAX_CONNECTIONS,
            limit_name=limit_name,
        )
        self.start = self._port.start

    async def stop(self) -> None:
        """Accept nothing more; what is on its way is answered, within ``LAST_ANSWER_TIME``."""
        self._port.stop()
        for connection in tuple(self._state.connections):
            connection.leave()
        await self._port.wait_for_end(LAST_ANSWER_TIME)
