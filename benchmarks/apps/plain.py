"""The ASGI application that every server serves, without a framework."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATHSEND = "http.response.pathsend"
HELLO = b"Hello, world!"
PIECE = bytes(64 * 1024)  # what file responses of frameworks send at a time
PLAIN = [(b"content-type", b"text/plain")]
HELLO_HEADERS = [*PLAIN, (b"content-length", b"%d" % len(HELLO))]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    path = scope["path"]
    if path == "/":
        await send({"type": "http.response.start", "status": 200, "headers": HELLO_HEADERS})
        await send({"type": "http.response.body", "body": HELLO})
    elif path == "/post":
        await post(receive, send)
    elif path == "/download":
        await download(send, 16)
    elif scope["query_string"]:
        await send_file(scope, send)
    else:
        await download(send, 1600)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def echo(receive: Receive, send: Send) -> None:
    """Give each message back as it came."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def post(receive: Receive, send: Send) -> None:
    """Read the body, of whatever size, and say in JSON how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = json.dumps({"received": size}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def download(send: Send, pieces: int) -> None:
    headers = [*PLAIN, (b"content-length", b"%d" % (pieces * len(PIECE)))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})


async def send_file(scope: Message, send: Send) -> None:
    """Send the file that the query string names, in pieces where the server cannot do it itself."""
    path = scope["query_string"].decode()
    headers = [*PLAIN, (b"content-length", b"%d" % os.stat(path).st_size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if PATHSEND in (scope.get("extensions") or {}):
        await send({"type": PATHSEND, "path": path})
        return
    with open(path, "rb") as file:
        while data := await asyncio.to_thread(file.read, len(PIECE)):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body"})
