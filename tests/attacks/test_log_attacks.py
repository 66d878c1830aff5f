"""Clients that try to write into the operator's logs, or into the terminal that shows them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import pytest
from attacked_server import HANG, connect, hello, serving, until
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request

from h2asgi import logs
from h2asgi.config import HTTP1Config, HTTP2Config

EVIL = "\r\n2026-01-01T00:00:00+0000 error    forged\x1b[2J\x9b31m\x00\u2028\u202e\x7f\t"
FORGED = EVIL.encode()


class App:
    """Raises with what it was sent, after it has logged it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
        elif b"x-ask" in dict(scope["headers"]):
            await hello(scope, receive, send)
        else:
            raise ValueError(f"cannot serve {scope['path']}: {scope['headers']!r}\n{EVIL}")


@pytest.fixture
def text() -> Iterator[io.StringIO]:
    """The server's log and the access log as a process of our own writes them, at every level."""
    stream = io.StringIO()
    output = logging.StreamHandler(stream)
    output.setFormatter(logs.LineFormatter(colours=False))
    logger = logging.getLogger("h2asgi")
    logger.addHandler(output)
    yield stream
    logger.removeHandler(output)


def assert_harmless(stream: io.StringIO) -> None:
    lines = stream.getvalue().splitlines()
    assert lines
    for line in lines:
        assert line.isprintable(), line
        assert not line.startswith("2026-01-01T00:00:00"), line


# Octets that no request may have, octets in every place where it may, and percent-encoded ones.
REQUESTS = [
    b"GET /" + FORGED + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    FORGED,
    b"GET\x1b[2J / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\x1b[2J\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\x1b[2J\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\x9b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x85\x9b31m\xe2\x80\xa8\r\n\r\n",
    b"GET /%0d%0a%1b%5b2J%00%e2%80%a8?%0a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%0d%0a%1b%5b2J?%0a HTTP/1.1\r\nHost: a\r\nX-Ask: 1\r\n\r\n",
    b'GET /" HTTP/1.1\r\nHost: a\r\nX-Ask: 1\r\n\r\n',
]


@pytest.mark.parametrize("engine", ["h11", "httptools"])
def test_control_characters_in_http1_requests(text, complaints, engine):
    pytest.importorskip(engine)

    async def main() -> None:
        async with serving(App(), http1=HTTP1Config(engine=engine)) as server:
            for request in REQUESTS:
                reader, writer = await connect(server)
                writer.write(request)
                writer.write_eof()
                async with asyncio.timeout(HANG):
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read()
                writer.close()

    asyncio.run(main())
    assert_harmless(text)
    complaints.clear()  # of the application


HEADS = [
    [(":method", "G\x1b"), (":path", "/")],
    [(":method", "GET"), (":path", "/" + EVIL)],
    [(":method", "GET"), (":path", "/"), ("x" + EVIL, "1")],
    [(":method", "GET"), (":path", "/"), ("x", EVIL)],
    [(":method", "GET"), (":path", "/%0d%0a%1b%5b2J%e2%80%a8")],
    [(":method", "GET"), (":path", "/%0a"), ("x-ask", "1")],
    [(":method", "CONNECT"), (":path", "/"), (":protocol", EVIL)],
]


@pytest.mark.parametrize("engine", ["h2", "ngh2"])
def test_control_characters_in_http2_requests_and_in_goaway(text, complaints, engine):
    pytest.importorskip(engine)
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False
    )

    async def main() -> None:
        async with serving(App(), http2=HTTP2Config(engine=engine)) as server:
            reader, writer = await connect(server)
            client = h2.connection.H2Connection(config)
            client.initiate_connection()
            for number, head in enumerate(HEADS):
                scheme = [(":scheme", "http"), (":authority", "a")]
                client.send_headers(2 * number + 1, head[:2] + scheme + head[2:], True)
            client.close_connection(additional_data=FORGED)
            writer.write(client.data_to_send())
            await until(lambda: text.getvalue().count("HTTP/2") >= 2)
            writer.write_eof()
            async with asyncio.timeout(HANG):
                await reader.read()
            writer.close()

    asyncio.run(main())
    assert_harmless(text)
    complaints.clear()  # of the application


def test_control_characters_in_websockets(text):
    """In subprotocols, extensions and the reason of a close."""

    async def main() -> None:
        async with serving(App()) as server:
            reader, writer = await connect(server)
            client = WSConnection(ConnectionType.CLIENT)
            target = "/%0a%1b%5b2J"
            writer.write(client.send(Request(host="a", target=target, subprotocols=["a", "b"])))
            accepted = False
            async with asyncio.timeout(HANG):
                while not accepted:
                    client.receive_data(await reader.read(65_536))
                    accepted = any(isinstance(event, AcceptConnection) for event in client.events())
                reason = EVIL[:40]
                writer.write(client.send(CloseConnection(code=3000, reason=reason)))
                await reader.read()
            writer.close()

    asyncio.run(main())
    assert "3000" in text.getvalue()
    assert_harmless(text)
