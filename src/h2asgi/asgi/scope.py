"""The connection scope of a request (ASGI HTTP spec 2.5, "HTTP Connection Scope")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def build_http_scope(
    http_version: str,
    method: str,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    scheme: str,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    root_path: str,
    state: dict[str, Any] | None,
    extensions: Mapping[str, dict[str, Any]] | None,
) -> Scope:
    """Give the scope of one request; the application may change whatever it finds in it.

    ``target`` is origin-form or ``b"*"``. ``path`` and ``raw_path`` both begin
    with ``root_path``, which other servers have made the custom; ``*`` names the
    whole server (RFC 9110 section 7.1) and stays as it is. ``state`` is None
    when no lifespan is running. ``headers`` is handed on, not copied.
    """
    raw_path, query_string = target, b""
    if b"?" in target:
        raw_path, _, query_string = target.partition(b"?")
    octets = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    path = octets.decode("utf-8", "replace")
    if root_path and raw_path != b"*":
        path = root_path + path
        raw_path = _raw_root_path(root_path) + raw_path
    scope: Scope = {
        "type": "http",
        # A fresh one each time: what one request writes into it must not show
        # in the next, and a display of two constants costs less than a copy.
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": http_version,
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": headers,
        "client": client,
        "server": server,
    }
    if state is not None:
        scope["state"] = state.copy()
    if extensions is not None:
        # Middleware adds keys, both here and inside an extension.
        scope["extensions"] = {name: value.copy() for name, value in extensions.items()}
    return scope


@lru_cache(maxsize=8)  # one server has one root path; tests and embedders a few more
def _raw_root_path(root_path: str) -> bytes:
    """Encode as a path of a target is (RFC 3986 section 3.3: ``pchar`` and ``/``)."""
    return quote(root_path, safe="/:@!$&'()*+,;=~").encode("ascii")
