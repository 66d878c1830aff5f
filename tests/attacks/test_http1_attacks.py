"""Clients that misuse HTTP/1.1: requests in requests, what has no end, floods; on both engines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from attacked_server import HANG, Streams, ask, connect, hello, leave, serving, until, visit

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.protocol.engines import http1_engine
from h2asgi.protocol.events import DataReceived, RequestReceived

KIB = 1024
OK = b"HTTP/1.1 200 OK"
LINE = b"POST / HTTP/1.1\r\nHost: a.example\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.fixture(params=["h11", "httptools"])
def http1(request) -> HTTP1Config:
    required = os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1"
    if request.param == "httptools" and not required and find_spec("httptools") is None:
        pytest.skip("httptools is not installed")
    return HTTP1Config(engine=request.param)


class Targets:
    """An application that notes what it is asked for, and reads it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await hello(scope, receive, send)


async def everything(streams: Streams) -> bytes:
    """What the server sends until it closes, which it does."""
    reader, writer = streams
    taken = b""
    async with asyncio.timeout(HANG):
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65_536):
                taken += data
    writer.transport.abort()
    return taken


# Each is answered by one way of reading it and hides a second request in another:
# RFC 9112 sections 2.2, 5, 6 and 11.2.
DISPUTED_FRAMING = {
    "coding beside length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "length beside coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "lengths that differ": b"Content-Length: 5\r\nContent-Length: 0\r\n",
    "the same length twice": b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "list of lengths": b"Content-Length: 0, 5\r\n",
    "signed length": b"Content-Length: +0\r\n",
    "hexadecimal length": b"Content-Length: 0x0\r\n",
    "length of 2^64": b"Content-Length: 18446744073709551616\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n",
    "tab before colon": b"Content-Length\t: 5\r\n",
    "NUL behind name": b"Transfer-Encoding\0: chunked\r\n",
    "NUL in value": b"Transfer-Encoding: chunked\0\r\n",
    "coding behind a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "coding behind a form feed": b"Transfer-Encoding:\x0cchunked\r\n",
    "coding with junk": b"Transfer-Encoding: xchunked\r\n",
    "quoted coding": b'Transfer-Encoding: "chunked"\r\n',
    "identity": b"Transfer-Encoding: identity\r\n",
    "identity, then chunked": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "chunked, then identity": b"Transfer-Encoding: chunked, identity\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "unknown coding": b"Transfer-Encoding: gzip, chunked\r\n",
    "coding on a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
    "coding hidden in a folded line": b"X: a\r\n Transfer-Encoding: chunked\r\n",
    "bare CR before coding": b"X: a\rTransfer-Encoding: chunked\r\n",
    "bare LF before coding": b"X: a\nTransfer-Encoding: chunked\r\n",
    "bare CR behind coding": b"Transfer-Encoding: chunked\r\r\n",
    "name in brackets": b"[Transfer-Encoding]: chunked\r\n",
    "second host": b"Host: b.example\r\nContent-Length: 0\r\n",
}
DISPUTED_BODIES = {
    "size of 2^64 and more": b"10000000000000000\r\n",
    "size with leading zeros without end": b"0" * 17 + b"\r\n\r\n",
    "signed size": b"+0\r\n\r\n",
    "negative size": b"-1\r\n\r\n",
    "size with prefix": b"0x0\r\n\r\n",
    "size with underscore": b"0_0\r\n\r\n",
    "space behind size": b"0 \r\n\r\n",
    "space before size": b" 0\r\n\r\n",
    "size ends in bare LF": b"0\n\r\n",
    "size ends in bare CR": b"0\r\r\n",
    "bare LF in extension": b"0;a\nb\r\n\r\n",
    "bare CR in extension": b"0;a\rb\r\n\r\n",
    "chunk longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "chunk that ends in bare LF": b"1\r\na\n0\r\n\r\n",
    "trailers end in bare LF": b"0\r\n\n",
    "folded trailer": b"0\r\nx: a\r\n b\r\n\r\n",
}


def test_requests_hidden_in_requests_whose_framing_is_disputed(http1):
    """RFC 9112 sections 6.3 and 11.2: one answer, the connection's last, and no application."""

    async def main() -> None:
        app = Targets()
        async with serving(app, http1=http1) as server:
            for name, fields in DISPUTED_FRAMING.items():
                streams = await connect(server)
                streams[1].write(LINE + fields + b"\r\n" + SMUGGLED)
                answer = await everything(streams)
                expected = b"501" if name == "unknown coding" else b"400"
                assert answer[9:12] == expected, name
                assert answer.count(b"HTTP/1.1") == 1, name
                assert b"connection: close" in answer, name
            assert app.asked == []
            assert await visit(server) == OK

    asyncio.run(main())


def test_requests_hidden_in_chunks(http1):
    async def main() -> None:
        app = Targets()
        async with serving(app, http1=http1) as server:
            for name, body in DISPUTED_BODIES.items():
                streams = await connect(server)
                streams[1].write(CHUNKED + body + SMUGGLED)
                answer = await everything(streams)
                assert answer[9:12] == b"400", name
                assert answer.count(b"HTTP/1.1") == 1, name
            assert "/smuggled" not in app.asked

    asyncio.run(main())


WITHOUT_END = {
    "fields": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"x: y\r\n", 431),
    "one field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"xxxxxx", 431),
    "the name of a field": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"xxxxxx", 431),
    "the target": (b"GET /", b"xxxxxx", 414),
    "the method": (b"G", b"GGGGGG", 414),
    "the extensions of a chunk": (CHUNKED + b"1", b";a=b", 431),
    "extensions of many chunks": (CHUNKED, b"1;a=b\r\nx\r\n", 431),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n", 431),
    "one trailer": (CHUNKED + b"0\r\nx: ", b"xxxxxx", 431),
    "digits of a chunk's size": (CHUNKED, b"000000", 431),
    "empty lines": (b"", b"\r\n\r\n\r\n", 400),
    "garbage": (b"\x16\x03\x01\x02\x00\x01", b"\xfc\x03\x03\x02\x00\x01", 400),
}


@pytest.mark.parametrize("what", WITHOUT_END)
def test_what_has_no_end_is_cut_off_at_its_bound(http1, what):
    """Whatever is sent: an answer, and the end of the connection a mebibyte later at the most."""
    beginning, more, status = WITHOUT_END[what]
    block = more * (8 * KIB // len(more))

    async def main() -> None:
        async with serving(Targets(), http1=http1) as server:
            streams = await connect(server)
            reader, writer = streams
            writer.write(beginning)
            sent = 0

            async def flood() -> None:
                nonlocal sent
                with contextlib.suppress(OSError):
                    while True:
                        writer.write(block)
                        await writer.drain()
                        sent += len(block)
                        await asyncio.sleep(0)

            flooding = asyncio.create_task(flood())
            async with asyncio.timeout(HANG):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head[9:12] == b"%d" % status
            async with asyncio.timeout(HANG):
                await flooding
            # Some of it is in the kernel's buffers, which differ.
            assert sent < 16 * KIB * KIB
            leave(streams)
            assert await visit(server) == OK

    asyncio.run(main())


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"1;a\r\nx\r\n", b"0001\r\nx\r\n"])
def test_many_small_chunks_cost_little(http1, chunk):
    """Calls, not seconds: one read of tens of thousands of them must not hold up everybody else."""
    engine = http1_engine(http1)(http1, Timeouts(), 0.0)
    engine.receive_data(CHUNKED, 0.0)
    count = 10_000
    calls = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        engine.receive_data(chunk * count, 0.0)
    finally:
        sys.setprofile(None)
    request, body = engine.take_events()
    assert isinstance(request, RequestReceived)
    assert body == DataReceived(1, b"x" * count)
    assert calls < 8 * count


def test_pipelining_without_reading(http1):
    """Answers that nobody reads are not made, and requests behind them are not read."""
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(64 * KIB)})

    async def main() -> None:
        async with serving(app, http1=http1) as server:
            streams = await connect(server, limit=KIB)
            _, writer = streams
            writer.transport.pause_reading()
            request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            writer.write(request * 500_000)  # 13 MB
            (connection,) = server._state.connections
            await until(lambda: connection._reading.paused)
            assert len(connection._engine._parser) < 512 * KIB
            assert asked < 500
            assert (await visit_bytes(server))[:15] == OK
            leave(streams)

    asyncio.run(main())


async def visit_bytes(server: Any) -> bytes:
    streams = await connect(server)
    streams[1].write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return await everything(streams)


def test_head_that_trickles_in(http1):
    """Slowloris: octets do not extend the time of a head."""

    async def main() -> None:
        timeouts = Timeouts(request_headers=0.2)
        async with serving(http1=http1, timeouts=timeouts) as server:
            streams = await connect(server)

            async def trickle() -> None:
                streams[1].write(b"GET / HTTP/1.1\r\n")
                for number in range(10_000):
                    await asyncio.sleep(0.01)
                    streams[1].write(b"x-%d: y\r\n" % number)

            trickling = asyncio.create_task(trickle())
            assert (await everything(streams))[9:12] == b"408"
            trickling.cancel()

    asyncio.run(main())


def test_input_behind_the_last_answer(http1):
    """It is dropped, for a while and up to a bound, and the answer arrives whole."""

    async def main() -> None:
        async with serving(http1=http1) as server:
            streams = await connect(server)
            streams[1].write(b"nonsense\r\n\r\n" + bytes(20 * KIB * KIB))
            assert (await everything(streams)).endswith(b"\r\n\r\nmalformed request line\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        LINE + b"Content-Length: 5\r\n\r\n",
        LINE + b"Content-Length: 5\r\n\r\nhe",
        CHUNKED,
        CHUNKED + b"5",
        CHUNKED + b"5\r\nhe",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10,
        b"nonsense\r\n\r\n",
    ],
)
def test_clients_that_vanish_in_any_state(http1, sent):
    """By FIN and by RST; the server must have nothing left, and say nothing."""

    async def main() -> None:
        async with serving(Targets(), http1=http1) as server:
            friend = await connect(server)
            for end in ("close", "abort"):
                _, writer = await connect(server)
                writer.write(sent)
                assert await ask(friend) == OK
                getattr(writer.transport, end)()
            leave(friend)

    asyncio.run(main())
