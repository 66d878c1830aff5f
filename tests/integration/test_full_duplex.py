"""Both bodies of one HTTP/2 stream at the same time, over TLS and on both engines."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Any

import hpack
import pytest
from apps.letters import HANG
from serving import BackgroundServer

from h2asgi.protocol.engines import ENGINES

MESSAGES = 100_000
SIZE = 16
"""Octets of each message: its number."""

DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x8
END_STREAM = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
STREAM = 1

GATHERED = 100
"""Messages that the client writes at once, each in a frame of its own."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Send each message back in a piece of its own, as soon as it is there."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200})
    rest, more_body = b"", True
    while more_body:
        message = await receive()
        more_body = message["more_body"]
        data = rest + message["body"]
        whole = len(data) - len(data) % SIZE
        for start in range(0, whole, SIZE):
            piece = data[start : start + SIZE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        rest = data[whole:]
    await send({"type": "http.response.body", "body": rest})


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return struct.pack("!HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream_id) + (
        payload
    )


class Client:
    """Sends within the server's windows while it receives; its own are as large as they can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._windows = {0: DEFAULT_WINDOW, STREAM: DEFAULT_WINDOW}
        self._opened = asyncio.Event()
        self.received = bytearray()
        self.frames = 0
        self.most_behind = 0
        """The most messages that were sent and had not come back."""

    async def begin(self) -> None:
        """Send all up to the head of the request, and await the server's settings."""
        fields = [(":method", "POST"), (":scheme", "https"), (":path", "/")]
        head = hpack.Encoder().encode([*fields, (":authority", "localhost")])
        self._writer.writelines(
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                _frame(SETTINGS, 0, 0, struct.pack("!HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)),
                _frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", LARGEST_WINDOW - DEFAULT_WINDOW)),
                _frame(HEADERS, END_HEADERS, STREAM, head),
            )
        )
        kind, flags, _, payload = await self._read_frame()
        assert (kind, flags) == (SETTINGS, 0)
        settings = dict(struct.iter_unpack("!HI", payload))
        self._windows[STREAM] = settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)

    async def send(self) -> None:
        """Send all messages, each in a DATA frame of its own."""
        for first in range(0, MESSAGES, GATHERED):
            while min(self._windows.values()) < GATHERED * SIZE:
                self._opened.clear()
                await self._opened.wait()
            for stream_id in self._windows:
                self._windows[stream_id] -= GATHERED * SIZE
            numbers = range(first, first + GATHERED)
            self._writer.writelines(
                _frame(DATA, 0, STREAM, b"%0*d" % (SIZE, number)) for number in numbers
            )
            behind = first + GATHERED - len(self.received) // SIZE
            self.most_behind = max(self.most_behind, behind)
            await self._writer.drain()
        self._writer.write(_frame(DATA, END_STREAM, STREAM, b""))

    async def receive(self) -> None:
        """Take frames until the server ends the stream."""
        while True:
            kind, flags, stream_id, payload = await self._read_frame()
            assert kind != RST_STREAM
            if kind == WINDOW_UPDATE:
                self._windows[stream_id] += int.from_bytes(payload, "big")
                self._opened.set()
            elif kind == DATA:
                self.frames += 1
                self.received += payload
                if flags & END_STREAM:
                    return

    async def _read_frame(self) -> tuple[int, int, int, bytes]:
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload


@pytest.mark.timeout(10 * HANG)
@pytest.mark.parametrize("engine", ENGINES["http2"])
def test_a_hundred_thousand_messages_each_way(
    serve: Callable[..., BackgroundServer], engine: str, measured: Callable[[str], None]
) -> None:
    try:
        ENGINES["http2"][engine]()
    except ImportError as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            pytest.fail(f"{error}, and H2ASGI_REQUIRE_NATIVE is set")
        pytest.skip(str(error))
    server = serve(app, http2_engine=engine)
    client = asyncio.run(_exchange(server))
    assert bytes(client.received) == b"".join(b"%0*d" % (SIZE, n) for n in range(MESSAGES))
    assert client.frames >= MESSAGES // 256  # the engine may join tiny pieces that have to wait
    assert client.most_behind < MESSAGES  # the first came back before the last was sent
    measured(f"{client.frames} frames, at most {client.most_behind} messages behind")


async def _exchange(server: BackgroundServer) -> Client:
    assert server.certificate is not None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.port,
        ssl=server.certificate.client_context("h2"),
        server_hostname="localhost",
    )
    client = Client(reader, writer)
    async with asyncio.timeout(9 * HANG):
        await client.begin()
        await asyncio.gather(client.send(), client.receive())
    writer.transport.abort()
    return client
