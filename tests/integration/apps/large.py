"""Bodies of any size that both sides can make and check as they go.

/upload             {"size", "sha256"} of the body
/download?size=     so many octets

They repeat a block whose length is no multiple of anything on their way, so
that a piece that is lost, doubled or out of its place changes the digest.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

_BLOCK = random.Random(1).randbytes(1_048_583)


def blocks(size: int) -> Iterator[bytes]:
    """A body of ``size`` octets, in pieces."""
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


def sha256(size: int) -> str:
    """The digest of a body of ``size`` octets."""
    digest = hashlib.sha256()
    for block in blocks(size):
        digest.update(block)
    return digest.hexdigest()


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/download":
        await _download(int(scope["query_string"].partition(b"=")[2]), send)
    else:
        await _upload(receive, send)


async def _upload(receive: Any, send: Any) -> None:
    digest, size, more_body = hashlib.sha256(), 0, True
    while more_body:
        message = await receive()
        digest.update(message["body"])
        size += len(message["body"])
        more_body = message["more_body"]
    body = json.dumps({"size": size, "sha256": digest.hexdigest()}).encode()
    await send(_start(len(body)))
    await send({"type": "http.response.body", "body": body})


async def _download(size: int, send: Any) -> None:
    await send(_start(size))
    for block in blocks(size):
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body"})


def _start(size: int) -> dict[str, Any]:
    headers = [(b"content-length", b"%d" % size)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
