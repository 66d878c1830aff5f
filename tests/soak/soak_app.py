"""What is served while it is watched: the paths below, WebSockets that echo, and the ledger.

/hello              a small answer
/digest             {"size", "sha256"} of the body
/download?size=     so many octets
/deaf               reads nothing until its client has gone, or for ``DEAF`` seconds
/ledger             what the server holds now, as ``Ledger``
/ledger?collect     the same without garbage, and without memory that malloc keeps though it is free
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import hashlib
import json
import os
from pathlib import Path
from typing import Any

DEAF = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = bytes(range(256)) * 128


@dataclasses.dataclass
class Ledger:
    """What a server holds. ``queued`` and ``unread`` are octets; ``objects`` are h2asgi's own."""

    tasks: int
    connections: int
    requests: int
    descriptors: int
    sockets: int
    queued: int
    unread: int
    objects: int
    memory: int


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["type"] == "http":
        await ROUTES.get(scope["path"], _missing)(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _missing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body"})


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, b"hello")


async def _digest(scope: Any, receive: Any, send: Any) -> None:
    digest, size, more_body = hashlib.sha256(), 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        size += len(message["body"])
        more_body = message["more_body"]
    await _answer(send, json.dumps({"size": size, "sha256": digest.hexdigest()}).encode())


async def _download(scope: Any, receive: Any, send: Any) -> None:
    size = scope["query_string"].partition(b"=")[2]
    left = int(size) if size.isdigit() else 0
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while left:
        piece = bytes(memoryview(BLOCK)[:left])  # octets of its own, as a file's would be
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


async def _deaf(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(DEAF)


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})


async def _ledger(scope: Any, receive: Any, send: Any) -> None:
    if scope["query_string"] == b"collect":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    ledger = read_ledger(send.__self__._sink._state)  # the cycle's, by way of its bound method
    await _answer(send, json.dumps(dataclasses.asdict(ledger)).encode())


ROUTES = {
    "/hello": _hello,
    "/digest": _digest,
    "/download": _download,
    "/deaf": _deaf,
    "/ledger": _ledger,
}


def read_ledger(state: Any) -> Ledger:
    """Go through what the server of this process keeps, the request that asks among it."""
    descriptors = [_target(path) for path in Path("/proc/self/fd").iterdir()]
    exchanges = [connection._exchanges for connection in state.connections if connection._exchanges]
    cycles = [cycle for one in exchanges for cycle in one._cycles.values()]
    return Ledger(
        tasks=len(asyncio.all_tasks()),
        connections=len(state.connections),
        requests=len(cycles) + sum(len(one._websockets) for one in exchanges),
        descriptors=len(descriptors),
        sockets=sum(target.startswith("socket:") for target in descriptors),
        queued=sum(map(_queued, state.connections)),
        unread=sum(cycle._body.unread for cycle in cycles if cycle._body is not None),
        objects=sum(type(each).__module__.startswith("h2asgi") for each in gc.get_objects()),
        memory=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
    )


def _queued(connection: Any) -> int:
    """Octets that wait to be sent, in the transport and in the engine."""
    octets = 0
    if connection._transport is not None:
        octets += connection._transport.get_write_buffer_size()
    engine = connection._engine
    if engine is None:
        return octets
    if engine.http_version == "1.1":
        return octets + engine._queue.size
    waiting = [stream.outgoing for stream in engine._streams.open.values()]
    return octets + sum(outgoing.queued for outgoing in waiting if outgoing is not None)


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # the one that lists them
