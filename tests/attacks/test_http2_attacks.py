"""Floods over a socket, with the default settings: who sends without end is told to calm down.

What must hold: the connection ends with GOAWAY(ENHANCE_YOUR_CALM), which arrives; no more
applications run at a time than streams may be open; an honest client beside it is served.
Which frames count, and how much, is tested in memory, in the folder ``http2``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from attacked_server import HANG, Streams, connect, serving, visit
from http2_fixtures import engine_factory
from http2_peer import (
    GET,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    Encoder,
    data,
    frame,
    ping,
    priority_update,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.config import HTTP2Config, Limits, LogConfig
from h2asgi.errors import ErrorCode

MOST = 64 * 1024 * 1024
"""Octets after which an attack gives up: more than any budget lets through."""

STREAMS = 128

SLOWLY = Limits(http2_reset_rate=1, http2_control_rate=1)
"""Budgets of the usual size, which a machine that is slow does not find full again."""

_encoder = Encoder()
HEAD, AGAIN = _encoder.encode(GET), _encoder.encode(GET)
"""A request, and the same in a few octets, since its fields are in the dynamic table by then."""


def requests(*mistakes: Any) -> Iterator[bytes]:
    yield frame(1, 5, 1, HEAD)
    for stream_id in count(3, 2):
        yield frame(1, 5, stream_id, AGAIN) + b"".join(mistake(stream_id) for mistake in mistakes)


def dribble() -> Iterator[bytes]:
    yield settings((INITIAL_WINDOW_SIZE, 0)) + frame(1, 5, 1, HEAD)
    while True:
        yield window_update(1, 1)


def endless(octets: bytes) -> Iterator[bytes]:
    while True:
        yield octets


ATTACKS = {
    "rapid reset": lambda: requests(rst_stream),
    "made you reset": lambda: requests(lambda stream_id: window_update(stream_id, 0)),
    "DATA after the end": lambda: requests(lambda stream_id: data(stream_id, b"late")),
    "streams beyond the limit": requests,
    "PING": lambda: endless(ping()),
    "SETTINGS": lambda: endless(settings()),
    "windows that flip": lambda: endless(settings((INITIAL_WINDOW_SIZE, 0)) + settings()),
    "dribble": dribble,
    "PRIORITY_UPDATE full of members": lambda: endless(priority_update(1, b"a," * 1_000 + b"a")),
}

__all__ = ["engine_factory"]


class Slow:
    """An application that works on for a while, whatever becomes of its request."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(20):
                await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello" * 1_000})
        finally:
            self.running -= 1


async def attack(streams: Streams, steps: Iterator[bytes]) -> bytes:
    """Write until the server has had enough; gives all it has said."""
    reader, writer = streams

    async def write() -> None:
        writer.write(PREFACE + settings())
        sent = 0
        with contextlib.suppress(OSError):
            while sent < MOST:
                octets = b"".join(next(steps) for _ in range(200))
                writer.write(octets)
                sent += len(octets)
                await writer.drain()

    writing = asyncio.create_task(write())
    said = bytearray()
    async with asyncio.timeout(2 * HANG):
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65_536):
                said += octets
    writing.cancel()
    writer.transport.abort()
    return bytes(said)


def goaway_codes(said: bytes) -> list[int]:
    codes = []
    while len(said) >= 9:
        end = 9 + int.from_bytes(said[:3], "big")
        if said[3] == 7:
            codes.append(int.from_bytes(said[13:17], "big"))
        said = said[end:]
    return codes


@pytest.mark.parametrize("name", ATTACKS)
def test_who_sends_without_end_is_told_to_calm_down(engine_factory: Any, name: str) -> None:
    app = Slow()
    http2 = HTTP2Config(engine=engine_factory().name, max_concurrent_streams=STREAMS)

    async def main() -> None:
        log = LogConfig(access_log=False)
        async with serving(app, http2=http2, log=log, limits=SLOWLY) as server:
            attacking = asyncio.create_task(attack(await connect(server), ATTACKS[name]()))
            while not attacking.done():
                assert await visit(server) == b"HTTP/1.1 200 OK"
            assert goaway_codes(await attacking) == [ErrorCode.ENHANCE_YOUR_CALM]

    asyncio.run(main())
    assert app.most <= STREAMS + 1  # and the honest one
