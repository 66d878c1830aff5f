"""``--redirect-http``: a port in the clear that sends clients to https, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from apps.letters import HANG
from serving import Certificate

import h2asgi
from h2asgi import further_port, redirect
from h2asgi.errors import ConfigurationError
from h2asgi.options import make_config
from h2asgi.sockets import TCPAddress, UnixAddress, parse_redirect


async def never(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan", "the application hears of a redirect"


@contextlib.asynccontextmanager
async def serving(certificate: Certificate, **options: Any) -> AsyncIterator[h2asgi.Server]:
    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    settings = {"port": 0, "redirect_http": 0, "redirect_to": 443, **files, **options}
    config = make_config(never, **settings)
    async with asyncio.timeout(HANG), h2asgi.Server(never, config) as server:
        yield server


async def ask(server: h2asgi.Server, request: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Give status and fields of the answer; the connection ends after it."""
    host, port = server.redirect_addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert body == b"" or b"location" not in head
    lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:])
    return lines[0].split(b" ")[1], fields


def run(certificate: Certificate, test: Callable[[h2asgi.Server], Awaitable[None]], **options: Any):
    async def main() -> None:
        async with serving(certificate, **options) as server:
            await test(server)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_head", "location"),
    [
        (b"GET /a/%2F?q=1&r HTTP/1.1\r\nHost: a.example\r\n\r\n", b"https://a.example/a/%2F?q=1&r"),
        (
            b"POST / HTTP/1.1\r\nHost: A.example:80\r\nContent-Length: 0\r\n\r\n",
            b"https://A.example/",
        ),
        (b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", b"https://[::1]/"),
        (b"GET //evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n", b"https://a//evil.example/x"),
        (b"GET /\\evil.example HTTP/1.1\r\nHost: a\r\n\r\n", b"https://a/\\evil.example"),
        (b"GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n", b"https://b.example/x"),
        (b"HEAD / HTTP/1.0\r\nHost: a\r\n\r\n", b"https://a/"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"https://a/",
        ),
    ],
)
def test_clients_are_sent_to_the_same_host_and_target(
    certificate: Certificate, request_head: bytes, location: bytes
) -> None:
    async def test(server: h2asgi.Server) -> None:
        status, fields = await ask(server, request_head)
        assert (status, fields[b"location"]) == (b"308", location)

    run(certificate, test, root_path="/app")


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a@b.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\\@b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a%2Fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET http://u@b.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET @b.example HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_has_no_safe_target_gets_none(certificate: Certificate, request_head: bytes) -> None:
    async def test(server: h2asgi.Server) -> None:
        status, fields = await ask(server, request_head)
        assert status in (b"400", b"505")
        assert b"location" not in fields

    run(certificate, test)


def test_the_port_is_the_one_listened_on(certificate: Certificate) -> None:
    async def test(server: h2asgi.Server) -> None:
        _, fields = await ask(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert fields[b"location"] == b"https://localhost:%d/" % server.addresses[0][1]

    run(certificate, test, redirect_to=None)


def test_a_head_has_its_own_small_bound(certificate: Certificate) -> None:
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * further_port.MAX_HEAD_SIZE + b"\r\n\r\n"

    async def test(server: h2asgi.Server) -> None:
        assert (await ask(server, long))[0] == b"431"

    run(certificate, test)


def test_connections_have_their_own_small_bound(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes too much waits; the application's port is not concerned."""
    monkeypatch.setattr(redirect, "MAX_CONNECTIONS", 2)

    async def test(server: h2asgi.Server) -> None:
        address = server.redirect_addresses[0]
        silent = [await asyncio.open_connection(*address) for _ in range(2)]
        while len(server._state.connections) < 2:
            await asyncio.sleep(0)
        asked = asyncio.create_task(ask(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        while not caplog.records:
            await asyncio.sleep(0)
        assert "2 connections (the limit of --redirect-http)" in caplog.text
        assert not asked.done()
        for _, writer in silent:
            writer.close()
        assert (await asked)[0] == b"308"

    caplog.set_level("WARNING")
    run(certificate, test, host="127.0.0.1")


def test_a_stop_ends_its_connections_too(certificate: Certificate) -> None:
    async def main() -> None:
        async with serving(certificate) as server:
            address = server.redirect_addresses[0]
            reader, writer = await asyncio.open_connection(*address)
            while not server._state.connections:
                await asyncio.sleep(0)
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    asyncio.run(main())


@pytest.mark.tool("curl")
def test_curl_follows(certificate: Certificate) -> None:
    answers = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            body = (await receive())["body"]  # or curl may find itself cut off
            answers.append((scope["scheme"], scope["method"], scope["path"], body))
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"here"})

    async def main() -> None:
        files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
        config = make_config(app, port=0, redirect_http=0, **files)
        async with asyncio.timeout(HANG), h2asgi.Server(app, config) as server:
            port = server.redirect_addresses[0][1]
            done = await asyncio.to_thread(
                subprocess.run,
                [
                    *("curl", "--silent", "--show-error", "--location", "--data", "x=1"),
                    *("--cacert", certificate.ca_file, f"http://localhost:{port}/path"),
                ],
                capture_output=True,
                timeout=HANG,
                check=False,
            )
        assert (done.stdout, done.stderr) == (b"here", b"")

    asyncio.run(main())
    assert answers == [("https", "POST", "/path", b"x=1")]


def test_its_hosts_are_those_of_the_server() -> None:
    addresses = [TCPAddress(("127.0.0.1", "::1"), 8443), TCPAddress(("::1",), 1), UnixAddress("/x")]
    assert parse_redirect(addresses, 80) == [TCPAddress(("127.0.0.1", "::1"), 80)]


def test_mistakes_are_one_sentence(certificate: Certificate) -> None:
    with pytest.raises(ConfigurationError, match=r"^redirect_http is given without a certfile$"):
        make_config(never, redirect_http=80)
    with pytest.raises(ConfigurationError, match=r"^redirect_to is given without redirect_http$"):
        make_config(never, redirect_to=443)
    with pytest.raises(ConfigurationError, match=r"has no host to listen on: give one"):
        parse_redirect([UnixAddress("/x")], 80)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: the address is in use"):
            run(certificate, lambda server: asyncio.sleep(0), host="127.0.0.1", redirect_http=port)
