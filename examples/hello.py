"""A plain ASGI application, without a framework, to see what the server speaks.

h2asgi --app-dir examples --dev-cert hello:app

    /        what the server says about the request, as JSON
    /echo    the request's body, sent back as it arrives
    /stream  a line a second, ten times
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        routes = {"/": describe, "/echo": echo, "/stream": stream}
        await routes.get(scope["path"], not_found)(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def describe(scope: Scope, receive: Receive, send: Send) -> None:
    known = ("http_version", "scheme", "method", "path", "client", "server")
    body = json.dumps({key: scope[key] for key in known}, indent=2).encode() + b"\n"
    await start(send, 200, b"application/json")
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, 200, b"application/octet-stream")
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more_body = message.get("more_body", False)
        body = message.get("body", b"")
        await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, 200, b"text/plain")
    for number in range(1, 11):
        line = f"line {number} of 10\n".encode()
        await send({"type": "http.response.body", "body": line, "more_body": True})
        await asyncio.sleep(1)
    await send({"type": "http.response.body"})


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, 404, b"text/plain")
    await send({"type": "http.response.body", "body": b"try /, /echo or /stream\n"})


async def start(send: Send, status: int, content_type: bytes) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
