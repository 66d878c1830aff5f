"""WebSockets that do one thing each, and some requests that tell how they fare.

/echo       sends back what it receives
/block      the same, and blocks the loop behind each until "{query} {message} go on", then posts
            "{query} {message} unblocked"
/deaf       never receives, until the server stops it
/flood      sends a gibibyte in messages of 64 KiB; /flood-empty, a million empty ones
/taken      a request: the messages that ``send()`` has taken, over all floods
/scope      accepts the first subprotocol offered and sends the scope, as ``repr`` writes it
/denied     403 by ``websocket.close``; /denied-with-a-body, 401 with a body in two parts
/raises     accepts and raises; /raises-at-once, before that
/listen     posts "{query} accepted", then what ``receive()`` gives at the end: "{query} ended"
"""

from __future__ import annotations

import asyncio
from typing import Any

from . import letters

PIECE = bytes(64 * 1024)
PIECES = 16 * 1024
EMPTY = 1_000_000
BLOCK = 20.0
"""Seconds after which a block ends by itself, so that a failing test fails rather than hangs."""

taken = 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        body = str(taken).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await globals()["_" + scope["path"].lstrip("/").replace("-", "_")](scope, receive, send)


async def _accept(send: Any, subprotocol: str | None = None) -> None:
    await send({"type": "websocket.accept", "subprotocol": subprotocol})


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def _block(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
        key = f"{scope['query_string'].decode()} {message['text']}"
        letters.wait(f"{key} go on", BLOCK)
        letters.post(f"{key} unblocked")


async def _deaf(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send)
    await asyncio.get_running_loop().create_future()


async def _flood(scope: Any, receive: Any, send: Any) -> None:
    await _send_all(PIECE, PIECES, send)


async def _flood_empty(scope: Any, receive: Any, send: Any) -> None:
    await _send_all(b"", EMPTY, send)


async def _send_all(data: bytes, count: int, send: Any) -> None:
    global taken
    await _accept(send)
    for _ in range(count):
        await send({"type": "websocket.send", "bytes": data})
        taken += 1


async def _scope(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send, next(iter(scope["subprotocols"]), None))
    await send({"type": "websocket.send", "text": repr(scope)})
    await receive()


async def _denied(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


async def _denied_with_a_body(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"you"})


async def _raises(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send)
    raise RuntimeError("an application's mistake")


async def _raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("an application's mistake")


async def _listen(scope: Any, receive: Any, send: Any) -> None:
    await _accept(send)
    key = scope["query_string"].decode()
    letters.post(f"{key} accepted")
    message = await receive()
    letters.post(f"{key} ended", (message["code"], message["reason"]))
