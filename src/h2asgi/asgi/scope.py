"""The connection scope of a request (ASGI HTTP and WebSocket spec 2.5, "Connection Scope")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from ..request import Request
from .extensions import NOTHING

# As integers: to look for bytes in bytes takes ten times as long.
_QUESTION_MARK: Final = ord("?")
_PERCENT: Final = ord("%")

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def connection_scope(
    scheme: str,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    root_path: str,
) -> Scope:
    """Give what the scopes of one connection's requests have in common, for ``http_scope``."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "",
        "method": "",
        "scheme": scheme,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": root_path,
        "headers": (),
        "client": client,
        "server": server,
    }


def http_scope(
    connection: Scope,
    request: Request,
    state: dict[str, Any] | None,
    extensions: Mapping[str, dict[str, Any]] | None,
) -> Scope:
    """Give the scope of one request; the application may change whatever it finds in it.

    ``connection`` is from ``connection_scope``. ``path`` and ``raw_path`` both begin
    with ``root_path``, which other servers have made the custom; ``*`` names the
    whole server (RFC 9110 section 7.1) and stays as it is. ``state`` is None
    when no lifespan is running. ``extensions`` are copied, not what is in each; with
    None the scope does not have the key. The list of headers is handed on, not copied.
    """
    target = raw_path = request.target
    query_string = b""
    if _QUESTION_MARK in target:
        raw_path, _, query_string = target.partition(b"?")
    octets = unquote_to_bytes(raw_path) if _PERCENT in raw_path else raw_path
    path = octets.decode("utf-8", "replace")
    root_path = connection["root_path"]
    if root_path and raw_path != b"*":
        path = root_path + path
        raw_path = _raw_root_path(root_path) + raw_path
    scope = connection.copy()  # a copy with some values replaced costs less than a display
    asgi: dict[str, Any] = scope["asgi"]
    scope["asgi"] = asgi.copy()  # nothing of one request must show in the next
    scope["http_version"] = request.http_version
    scope["method"] = request.method
    scope["path"] = path
    scope["raw_path"] = raw_path
    scope["query_string"] = query_string
    scope["headers"] = request.headers
    if state is not None:
        scope["state"] = state.copy()
    if extensions is not None:
        # Middleware adds keys, both here and inside an extension.
        scope["extensions"] = {name: value.copy() for name, value in extensions.items()}
    return scope


# A copy of these costs a fifth of new ones for every request.
_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": NOTHING,
    "http.response.pathsend": NOTHING,
    "http.response.zerocopysend": NOTHING,
}
_EXTENSIONS_AND_TRAILERS: Final = _EXTENSIONS | {"http.response.trailers": NOTHING}


def offer_http_extensions(
    scope: Scope, request: Request, of_connection: Mapping[str, dict[str, Any]]
) -> None:
    """Set ``scope["extensions"]``: what an HTTP request offers, and what its connection does.

    Each only where it works for this request. Those of the connection are copied.
    """
    offered = _EXTENSIONS_AND_TRAILERS if request.accepts_trailers else _EXTENSIONS
    extensions = offered.copy()
    if request.http_version == "1.0":
        del extensions["http.response.early_hint"]  # RFC 9110 section 15.2: it knows no 1xx
    elif not request.end_stream:
        extensions["h2asgi.request.trailers"] = NOTHING
    if of_connection:
        for name, value in of_connection.items():
            extensions[name] = value.copy()
    scope["extensions"] = extensions


def websocket_scope(
    connection: Scope,
    request: Request,
    subprotocols: list[str],
    state: dict[str, Any] | None,
    extensions: Mapping[str, dict[str, Any]],
) -> Scope:
    """Give the scope of a WebSocket; the rest is as in ``http_scope``."""
    scope = http_scope(connection, request, state, {"websocket.http.response": {}, **extensions})
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = list(subprotocols)
    del scope["method"]
    return scope


@lru_cache(maxsize=8)  # one server has one root path; tests and embedders a few more
def _raw_root_path(root_path: str) -> bytes:
    """Encode as a path of a target is (RFC 3986 section 3.3: ``pchar`` and ``/``)."""
    return quote(root_path, safe="/:@!$&'()*+,;=~").encode("ascii")
