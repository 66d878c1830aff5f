"""A further port in the clear, for what the server answers itself.

Its connections are those of the server, HTTP/1.1 with limits of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from .arrivals import ServerAddress
from .config import KIB, Config
from .connection import Connection, ServerState
from .listener import Listener
from .protocol.proxy import ProxyHeader
from .sockets import ListeningSocket
from .trust import Trusted

MAX_HEAD_SIZE = 8 * KIB
"""Octets: what browsers send to a server that they do not know yet is a tenth of that."""

HEAD_TIMEOUT = 10.0


class FurtherPort:
    """Accepts on ``sockets``, which it owns from now on.

    Whoever made ``state`` begins the shutdown of its connections. The rest is as in ``Listener``.
    """

    def __init__(
        self,
        sockets: Sequence[ListeningSocket],
        state: ServerState,
        *,
        limit: int,
        limit_name: str,
        per_address: int | None = None,
        proxies: Trusted | None = None,
    ) -> None:
        self._state = state
        self._listener = Listener(
            list(sockets),
            self._connection,
            ssl_context=None,
            handshake_timeout=state.config.timeouts.first_bytes,
            limit=limit,
            limit_name=limit_name,
            per_address=per_address,
            on_full=_wait,
            proxies=proxies,
        )
        self.start = self._listener.start

    def stop(self) -> None:
        """Accept nothing more; what was accepted is a connection, but where a header is awaited."""
        self._listener.stop()
        self._listener.end_handshakes()

    async def wait_for_end(self, timeout: float) -> None:
        """Wait until connections and applications have ended; drop those that have not in time."""
        state = self._state
        gone = asyncio.Event()
        state.on_idle = gone.set
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while state.connections or state.tasks:
                    gone.clear()
                    await gone.wait()
        for task in tuple(state.tasks):
            task.cancel()
        for connection in tuple(state.connections):
            connection.abort()

    def _connection(
        self, server: ServerAddress, lost: Callable[[], None], proxied: ProxyHeader | None
    ) -> Connection:
        return Connection(self._state, tls=False, server=server, lost=lost, proxied=proxied)


def small_requests(config: Config) -> Config:
    """Give the settings for such connections: small requests, and no time to lose."""
    return replace(
        config,
        root_path="",
        http1=replace(config.http1, enabled=True, max_head_size=MAX_HEAD_SIZE),
        http2=replace(config.http2, enabled=False),
        websocket=replace(config.websocket, enabled=False),
        timeouts=replace(
            config.timeouts,
            first_bytes=HEAD_TIMEOUT,
            request_headers=HEAD_TIMEOUT,
            keep_alive=HEAD_TIMEOUT,
        ),
    )


def _wait() -> None:
    """Let deadlines make room."""
