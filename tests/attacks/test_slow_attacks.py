"""Clients that are slow on purpose: with bodies, with reading, by the octet, or silent.

What must hold, whatever library is under the protocol: the application is told, what waits
for the client stays bounded, and the connection or stream is gone soon after its time.
``serving`` sees that nothing is left of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from attacked_server import HANG, Streams, connect, leave, serving, until, visit
from hpack import Encoder
from http2_peer import (
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    POST,
    PREFACE,
    SETTINGS_ACK,
    data,
    frame,
    settings,
    window_update,
)

from h2asgi import relief
from h2asgi.asgi import files
from h2asgi.config import MIB, HTTP1Config, HTTP2Config, Limits, Timeouts
from h2asgi.errors import ClientDisconnected
from h2asgi.protocol import pace

SHORT = 0.3
"""Seconds of the deadlines here; what is waited for ends after a quarter more."""

ENGINES = [
    *[{"http1": HTTP1Config(engine=name)} for name in ("h11", "httptools")],
    *[{"http2": HTTP2Config(engine=name)} for name in ("h2", "ngh2")],
]


class Application:
    """Reads the whole body, answers with 64 MiB; ``seen`` is what became of it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        self.seen.append(message["type"])
        piece = bytes(64 * 1024)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while self.sent < 64 * MIB:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self.sent += len(piece)
        except ClientDisconnected as error:
            self.seen.append(error)


def engine_of(slices: dict[str, Any]) -> str:
    (config,) = slices.values()
    return config.engine


over_http2 = pytest.mark.parametrize("slices", ENGINES[2:], ids=engine_of, indirect=True)


@pytest.fixture(params=ENGINES, ids=engine_of)
def slices(request: pytest.FixtureRequest) -> dict[str, Any]:
    pytest.importorskip(engine_of(request.param))
    return dict(request.param)


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SHORTEST_STRETCH", SHORT)


class Attacker:
    """A client of either protocol that sends what is asked of it and reads only when told."""

    def __init__(self, slices: dict[str, Any], streams: Streams) -> None:
        self.http2 = "http2" in slices
        self.reader, self.writer = streams
        self._encoder = Encoder()

    def request(self, method: bytes, *, length: int | None = None, window: int = 2**30) -> None:
        if not self.http2:
            fields = b"" if length is None else b"content-length: %d\r\n" % length
            self.writer.write(method + b" / HTTP/1.1\r\nhost: localhost\r\n" + fields + b"\r\n")
            return
        head = self._encoder.encode(
            [*(GET if length is None else POST)]
            + ([] if length is None else [(b"content-length", b"%d" % length)])
        )
        flags = END_HEADERS | (END_STREAM if length is None else 0)
        self.writer.write(PREFACE + settings((INITIAL_WINDOW_SIZE, window)) + SETTINGS_ACK)
        self.writer.write(window_update(0, 2**30) + frame(HEADERS, flags, 1, head))

    def octet(self) -> None:
        self.writer.write(data(1, b"x") if self.http2 else b"x")

    async def answer(self) -> bytes:
        """Everything until the answer is whole, or the connection over."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(self.reader.read(65_536), HANG):
                found += part
                if b"request body: " in found:
                    break
        return found


def attack(
    slices: dict[str, Any], scenario: Any, certificate: Any = None, **timeouts: Any
) -> Application:
    """Run it against a server, over TLS if there is a certificate."""
    app = Application()
    certfile, tls = None, {}
    if certificate is not None:
        certfile = certificate.certfile
        protocol = "h2" if "http2" in slices else "http/1.1"
        tls = {"ssl": certificate.client(protocol), "server_hostname": "localhost"}

    async def main() -> None:
        limits = Timeouts(**{"request_body": SHORT, "write": SHORT, **timeouts})
        async with serving(app, certfile=certfile, timeouts=limits, **slices) as server:
            streams = await connect(server, limit=2**12, **tls)
            sock = streams[1].get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
            await scenario(server, Attacker(slices, streams))
            leave(streams)

    asyncio.run(asyncio.wait_for(main(), 3 * HANG))
    return app


def test_body_that_stops(slices: dict[str, Any]) -> None:
    async def scenario(server: Any, client: Attacker) -> None:
        client.request(b"POST", length=100)
        client.octet()
        assert b"nothing moved for too long" in await client.answer()

    assert attack(slices, scenario, min_transfer_rate=0).seen[0] == "http.disconnect"


def test_body_by_the_octet(slices: dict[str, Any]) -> None:
    """RUDY: every octet comes in time, all of them never."""

    async def dribble(client: Attacker) -> None:
        while True:
            client.octet()
            await asyncio.sleep(SHORT / 10)

    async def scenario(server: Any, client: Attacker) -> None:
        client.request(b"POST", length=100_000)
        dribbling = asyncio.create_task(dribble(client))
        try:
            assert b"slower than the minimum transfer rate" in await client.answer()
        finally:
            dribbling.cancel()

    assert attack(slices, scenario, min_transfer_rate=1000).seen[0] == "http.disconnect"


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("window", [0, 2**30], ids=["stream window", "TCP window"])
def test_answer_that_is_never_read(
    slices: dict[str, Any], window: int, tls: bool, certificate: Any
) -> None:
    """What waits is bounded by the buffers on the way, of which the kernel's are the largest."""

    async def scenario(server: Any, client: Attacker) -> None:
        client.request(b"GET", window=window)
        await until(lambda: len(app_of(server).seen) == 2)
        assert not server._state.tasks

    app = attack(slices, scenario, certificate if tls else None)
    assert isinstance(app.seen[1], ClientDisconnected)
    assert app.sent < 16 * MIB


@pytest.mark.parametrize("patient", [True, False], ids=["slowly", "at once"])
def test_answers_that_nobody_reads_fill_their_budget(
    slices: dict[str, Any], patient: bool, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past it who takes nothing is cut off, or at twice as much who holds most; one is told."""
    monkeypatch.setattr(relief, "LOOK_INTERVAL", 0.05 if patient else HANG)
    answers: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size = 16 * MIB if scope["client"][1] in attackers else 5
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(ClientDisconnected):
            await send({"type": "http.response.body", "body": b"hello".ljust(size)})
            answers.append(size)

    attackers: dict[int, Streams] = {}

    async def main() -> None:
        async with serving(app, limits=Limits(unsent=28 * MIB), **slices) as server:
            for _ in range(3 if patient else 6):  # of what each asks for, the kernel has a part
                streams = await connect(server, limit=2**12)
                sock = streams[1].get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
                attackers[sock.getsockname()[1]] = streams
                Attacker(slices, streams).request(b"GET", window=0)
            await until(lambda: bool(complaints))
            most = (28 if patient else 2 * 28) * MIB
            await until(lambda: server._state.unsent.used < most)
            assert await visit(server) == b"HTTP/1.1 200 OK"
            assert server._state.tasks, "not more than needed"
            leave(*attackers.values())
        assert server._state.unsent.used == 0

    asyncio.run(asyncio.wait_for(main(), 3 * HANG))
    assert answers == [5]
    assert len(complaints) == 1
    assert "--limit-unsent" in complaints.pop()


@over_http2
def test_a_client_that_takes_nothing_has_one_piece_of_a_file_read(
    slices: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(files.os, "pread", lambda *rest: read.append(rest[1]) or pread(*rest))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(ClientDisconnected):
            await send({"type": "http.response.pathsend", "path": str(path)})

    async def main() -> None:
        async with serving(app, **slices) as server:
            streams = await connect(server)
            Attacker(slices, streams).request(b"GET", window=0)
            await until(lambda: bool(server._state.unsent.used))
            await asyncio.sleep(0.05)  # in which nothing more is to happen
            assert server._state.unsent.used == files.FIRST_PIECE
            assert read == [files.FIRST_PIECE]
            leave(streams)

    asyncio.run(asyncio.wait_for(main(), HANG))


@over_http2
def test_answer_that_is_read_by_the_octet(slices: dict[str, Any]) -> None:
    """The write timeout alone would let it go on for ever. TCP gives no such credit."""

    async def scenario(server: Any, client: Attacker) -> None:
        client.request(b"GET", window=1)
        while len(app_of(server).seen) < 2:
            client.writer.write(window_update(1, 1))
            await asyncio.sleep(SHORT / 10)

    app = attack(slices, scenario, min_transfer_rate=1000)
    assert isinstance(app.seen[1], ClientDisconnected)
    assert app.sent < MIB


@over_http2
def test_peer_that_answers_no_ping(slices: dict[str, Any]) -> None:
    async def scenario(server: Any, client: Attacker) -> None:
        client.writer.write(PREFACE + settings())
        assert b"PING is not answered" in await client.answer()

    attack(slices, scenario, http2_ping_interval=SHORT, http2_ping_timeout=SHORT)


def app_of(server: Any) -> Application:
    app = server._state.app
    assert isinstance(app, Application)
    return app
