"""A plain ASGI application that can be made to misbehave in exactly one way per path.

/hello              {"http_version"}
/scope...           the scope, as ``repr`` writes it
/echo               the body, sent back as it arrives
/digest             {"size", "sha256"} of the body
/reject             413 without reading
/block?key=         answers, then blocks the loop until "{key} go on", then posts "{key} unblocked"
/block-midway?key=  the same after the first part of an answer
/unread?key=        posts "{key} began" and reads nothing until "{key} go on"
/flood?key=         sends FLOOD octets, with ``accepted[key]`` the octets taken so far
/forever            waits, whatever happens, until it is cancelled
/listen             waits for http.disconnect
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

from apps import letters

PIECE = b"." * 32 * 1024
FLOOD = 1024 * 1024 * 1024
BLOCK = 20.0
"""Seconds after which a block ends by itself, so that a failing test fails rather than hangs."""

accepted: dict[str, int] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"].startswith("/scope"):
        await _scope(scope, receive, send)
        return
    route = globals()["_" + scope["path"].lstrip("/").replace("-", "_")]
    await route(scope, receive, send)


def _key(scope: Any) -> str:
    return parse_qs(scope["query_string"].decode())["key"][0]


async def _start(send: Any, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})


async def _answer(send: Any, value: object) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, {"http_version": scope["http_version"]})


async def _scope(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": repr(scope).encode()})


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more_body = message["more_body"]
        body = message["body"]
        await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def _digest(scope: Any, receive: Any, send: Any) -> None:
    digest, size, more_body = hashlib.sha256(), 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        size += len(message["body"])
        more_body = message["more_body"]
    await _answer(send, {"size": size, "sha256": digest.hexdigest()})


async def _reject(scope: Any, receive: Any, send: Any) -> None:
    await _start(send, 413)
    await send({"type": "http.response.body", "body": b"too much"})


async def _block(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"all of it"})
    _block_the_loop(_key(scope))


async def _block_midway(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"the first part", "more_body": True})
    _block_the_loop(_key(scope))
    await send({"type": "http.response.body", "body": b"the rest"})


def _block_the_loop(key: str) -> None:
    letters.wait(f"{key} go on", BLOCK)
    letters.post(f"{key} unblocked")


async def _unread(scope: Any, receive: Any, send: Any) -> None:
    key = _key(scope)
    letters.post(f"{key} began")
    await letters.arrival(f"{key} go on")
    await _answer(send, "never read")


async def _flood(scope: Any, receive: Any, send: Any) -> None:
    key = _key(scope)
    accepted[key] = 0
    await _start(send)
    while accepted[key] < FLOOD:
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        accepted[key] += len(PIECE)
    await send({"type": "http.response.body"})


async def _forever(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.get_running_loop().create_future()


async def _listen(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
