"""A port in the clear that sends its clients to https, with 308 (RFC 9110 section 15.4.9).

The application never hears of them; what answers is an ASGI application of a few lines.
"""

from __future__ import annotations

import re

from .asgi.scope import Application, Receive, Scope, Send
from .connection import ServerState
from .endpoint import Endpoint
from .further_port import FurtherPort, small_requests

MAX_CONNECTIONS = 256
"""Each is there for one request, and its head has ten seconds: enough for 25 strangers a second who
send nothing, and for thousands who do."""

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


class RedirectPort:
    """Accepts on the ``redirect_sockets`` of ``endpoint``, which it owns from now on.

    ``state`` is the server's, which ends these connections with its own.
    """

    def __init__(self, endpoint: Endpoint, state: ServerState) -> None:
        own = ServerState(
            app=redirect(endpoint.redirect_port),
            config=small_requests(state.config),
            loop=state.loop,
            default_headers=state.default_headers,
            trace=state.trace,
            tally=state.tally,
            on_idle=state.on_idle,
            forwarding=state.forwarding,
            request_ids=state.request_ids,
            connections=state.connections,
            read_buffer=state.read_buffer,
        )
        self._port = FurtherPort(
            endpoint.redirect_sockets,
            own,
            limit=MAX_CONNECTIONS,
            limit_name="the limit of --redirect-http",
            per_address=own.config.limits.connections_per_address,
            proxies=endpoint.proxies,
        )
        self.start = self._port.start
        self.stop = self._port.stop
