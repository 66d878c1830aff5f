"""The port in the clear for those who watch the server: probes of load balancers.

It is there before the application has started, and until it has shut down. The
health checks are answered as on every other port, by the connection; what has a
path of its own here is to become a branch of ``monitoring``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .asgi.scope import Receive, Scope, Send
from .connection import ServerState
from .endpoint import Endpoint
from .further_port import FurtherPort, small_requests

MAX_CONNECTIONS = 64
"""A few load balancers with a few probes each; whoever else comes is not meant to."""


LAST_ANSWER_TIME = 1.5
"""Seconds: as long as a connection that was just used is kept for its next request, and some."""


async def monitoring(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what no health check has asked."""
    fields = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 404, "headers": fields})
    await send({"type": "http.response.body"})


class MonitoringPort:
    """Accepts on the ``health_sockets`` of ``endpoint``, which it owns from now on.

    Its connections are its own, so that it answers as long as the server's are ending.
    It writes no access log.
    """

    def __init__(self, endpoint: Endpoint, state: ServerState) -> None:
        self._state = ServerState(
            app=monitoring,
            config=small_requests(state.config),
            loop=state.loop,
            default_headers=state.default_headers,
            health=state.health,
            read_buffer=state.read_buffer,
        )
        self._port = FurtherPort(
            endpoint.health_sockets,
            self._state,
            limit=MAX_CONNECTIONS,
            limit_name="the limit of --health-bind",
        )
        self.start = self._port.start

    async def stop(self) -> None:
        """Accept nothing more; what is on its way is answered, within ``LAST_ANSWER_TIME``."""
        await self._port.stop()
        connections = self._state.connections
        gone = asyncio.Event()
        self._state.on_idle = gone.set
        for connection in tuple(connections):
            connection.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWER_TIME):
                while connections:
                    gone.clear()
                    await gone.wait()
        for connection in tuple(connections):
            connection.abort()
