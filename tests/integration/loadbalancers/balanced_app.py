"""What clients ask for through a load balancer, as one application.

/hello, /scope, /echo, /digest    as in ``probe_app``
/events?key=                      three server-sent events, each after a letter "{key} go on N"
/wait?key=                        "begun"; posts "{key} left" when the client leaves
/wait?key=&ticks=                 the same, and something to send twenty times a second
/Echo/...                         gRPC, as in ``apps.grpc_app``
WebSocket /scope                  tells its scope, then echoes
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs

import probe_app
from apps import grpc_app, letters, websocket_app

EVENTS = 3


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await websocket_app.websocket(scope, receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/Echo/"):
        await grpc_app.app(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] == "/events":
        await _events(_query(scope)["key"][0], send)
    elif scope["type"] == "http" and scope["path"] == "/wait":
        await _wait(_query(scope), receive, send)
    else:
        await probe_app.app(scope, receive, send)


def _query(scope: Any) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode(), keep_blank_values=True)


async def _events(key: str, send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(EVENTS):
        await letters.arrival(f"{key} go on {number}")
        event = b"data: %d\n\n" % number
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})


async def _wait(query: dict[str, list[str]], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    ticking = asyncio.ensure_future(_tick(send)) if "ticks" in query else None
    while (await receive())["type"] != "http.disconnect":
        pass
    if ticking is not None:
        ticking.cancel()
    letters.post(f"{query['key'][0]} left")


async def _tick(send: Any) -> None:
    with contextlib.suppress(OSError):  # the client has left
        while True:
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await asyncio.sleep(0.05)
