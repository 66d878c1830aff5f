"""A port in the clear that sends its clients to https, with 308 (RFC 9110 section 15.4.9).

The connections are those of the server, HTTP/1.1 with limits of its own. The
application never hears of them; what answers is an ASGI application of a few lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .asgi.scope import Application, Receive, Scope, Send
from .config import KIB, Config
from .connection import Connection, ServerState
from .endpoint import Endpoint
from .listener import Listener, ServerAddress

MAX_CONNECTIONS = 256
"""Each is there for one request, and its head has ten seconds: enough for 25 strangers a second who
send nothing, and for thousands who do."""

MAX_HEAD_SIZE = 8 * KIB
"""Octets: what browsers send to a server that they do not know yet is a tenth of that."""

HEAD_TIMEOUT = 10.0
HTTPS_PORT = 443

_host = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?").fullmatch
"""A name or address (RFC 3986 section 3.2.2) without what could mislead, and a port."""


def redirect(port: int) -> Application:
    """Give the application that answers every request with the same target on https."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        location = _location(scope, port)
        status = 400 if location is None else 308
        fields = [(b"content-length", b"0"), (b"connection", b"close")]
        if location is not None:
            fields.append((b"location", location))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body"})

    return app


def _location(scope: Scope, port: int) -> bytes | None:
    """Give the URI to go to: the host that was asked for, and nothing that it could hide."""
    name, authority = scope["headers"][0] if scope["headers"] else (b"", b"")
    host = _host(authority) if name == b"host" else None
    target: bytes = scope["raw_path"]
    if host is None or not target.startswith(b"/"):  # HTTP/1.0 needs no host; OPTIONS * has no path
        return None
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    suffix = b"" if port == HTTPS_PORT else b":%d" % port
    return b"https://" + host[1] + suffix + target


class RedirectListener:
    """Accepts on the ``redirect_sockets`` of ``endpoint``, which it owns from now on.

    ``state`` is the server's, which ends these connections with its own.
    """

    def __init__(self, endpoint: Endpoint, state: ServerState) -> None:
        config = _config(state.config)
        self._state = ServerState(
            app=redirect(endpoint.redirect_port),
            config=config,
            loop=state.loop,
            default_headers=state.default_headers,
            trace=state.trace,
            on_idle=state.on_idle,
            connections=state.connections,
            read_buffer=state.read_buffer,
        )
        self._listener = Listener(
            list(endpoint.redirect_sockets),
            self._connection,
            ssl_context=None,
            handshake_timeout=config.timeouts.tls_handshake,
            limit=MAX_CONNECTIONS,
            limit_name="the limit of --redirect-http",
            per_address=config.limits.connections_per_address,
            on_full=_wait,
        )
        self.start = self._listener.start

    async def stop(self) -> None:
        """Accept nothing more; what is being accepted is a connection when this returns."""
        self._listener.stop()
        await self._listener.cancel_handshakes()

    def _connection(self, server: ServerAddress, lost: Callable[[], None]) -> Connection:
        return Connection(self._state, tls=False, server=server, lost=lost)


def _config(config: Config) -> Config:
    """Give the settings for such connections: one small request each, and no time to lose."""
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
