"""What ``benchmarks.features`` asks: what is offered, and whether it is done."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]

LARGE = 4 * 1024 * 1024


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer a path for each feature."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    offered = sorted(scope.get("extensions") or ())
    trailers = scope["path"] == "/trailers" and "http.response.trailers" in offered
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
    hints = "http.response.early_hint" in offered
    if scope["path"] == "/hint-first" and hints:
        await send(hint)
    status = 501 if scope["method"] == "CONNECT" else 200
    start = {"type": "http.response.start", "status": status, "headers": []}
    await send({**start, "trailers": True} if trailers else start)
    if scope["path"] == "/hint" and hints:
        await send(hint)
    body = b"x" * LARGE if scope["path"] == "/large" else json.dumps(offered).encode()
    await send({"type": "http.response.body", "body": body})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"1")]})
