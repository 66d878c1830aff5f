"""Clients that take connections and handshakes and do nothing with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Any

import pytest
from attacked_server import HANG, ask, connect, hello, leave, serving, until, visit

from h2asgi import connection, listener, process
from h2asgi import server as server_module
from h2asgi.config import Limits, Timeouts
from h2asgi.shared_by_transports import HANDSHAKES_PER_TURN
from h2asgi.tls_context import ServerContext

OK = b"HTTP/1.1 200 OK"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request) -> Any:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return lambda main: process.run(process.new_event_loop(request.param), main)


def limited(connections: int, per_address: int | None = None) -> Limits:
    return Limits(connections=connections, connections_per_address=per_address)


def test_idle_connections_up_to_the_limit(run, complaints):
    """Further ones wait in the kernel, and come in by themselves; who is there is served."""

    async def main() -> None:
        async with serving(limits=limited(4)) as server:
            idle = [await connect(server) for _ in range(4)]
            await until(lambda: len(server._state.connections) == 4)
            waiting = asyncio.create_task(visit(server))
            await until(lambda: bool(complaints))
            for streams in idle:
                assert await ask(streams) == OK
            assert not waiting.done()
            leave(*idle[:1])
            assert await waiting == OK
            for _ in range(3):  # the limit is reached again and again
                leave(await connect(server))
                assert await visit(server) == OK
            leave(*idle)
        warning = "there are 4 connections (--limit-connections): idle ones give way, others wait"
        assert complaints == [warning]
        complaints.clear()

    run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n",  # and no end of it
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    ],
    ids=["nothing", "half", "answered", "rejected", "HTTP/2"],
)
def test_idle_connections_give_way(run, certificate, complaints, monkeypatch, sent, tls):
    """To clients that come later; one with a request in work stays. No idle client closes."""
    monkeypatch.setattr(server_module, "IDLE_PATIENCE", 0.02)
    monkeypatch.setattr(connection, "GIVE_WAY_TIME", 0.02)
    monkeypatch.setattr(listener, "ROOM_INTERVAL", 0.02)
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await release.wait()
        await hello(scope, receive, send)

    async def main() -> None:
        certfile = certificate.certfile if tls else None
        protocol = "h2" if sent.startswith(b"PRI") else "http/1.1"
        context = certificate.client(protocol) if tls else None
        options = {"ssl": context, "server_hostname": "localhost"} if tls else {}
        async with serving(app, certfile=certfile, limits=limited(6)) as server:
            slow = await connect(server, **options | ({"ssl": certificate.client()} if tls else {}))
            slow[1].write(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
            idle = [await connect(server, **options) for _ in range(5)]
            for _, writer in idle:
                writer.write(sent)
                writer.transport.pause_reading()  # so that it does not notice the end either
            for _ in range(3):
                assert await visit(server, certificate.client() if tls else None) == OK
            release.set()
            assert await slow[0].readline() == OK + b"\r\n"
            leave(slow, *idle)
        assert set(complaints) <= {LIMIT_OF_6}
        complaints.clear()

    run(main())


LIMIT_OF_6 = "there are 6 connections (--limit-connections): idle ones give way, others wait"


def test_idle_connections_stay_while_nobody_waits(run, monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_PATIENCE", 0.0)

    async def main() -> None:
        async with serving(limits=limited(4)) as server:
            idle = [await connect(server) for _ in range(4)]
            for _ in range(3):
                for streams in idle:
                    assert await ask(streams) == OK
            leave(*idle)
            await until(lambda: not server._state.connections)

    run(main())


def test_idle_connections_of_one_address(run):
    """Its next connection is closed at once; those of others are not."""

    async def main() -> None:
        async with serving(limits=limited(10, per_address=2)) as server:
            idle = [await connect(server) for _ in range(2)]
            for _ in range(20):
                reader, writer = await connect(server)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
            other = await connect(server, local_addr=("127.0.0.2", 0))
            assert await ask(other) == OK
            leave(other, *idle)
            await until(lambda: not server._state.connections)
            assert await visit(server) == OK

    run(main())


def test_failed_handshakes_give_their_places_back(run, certificate):
    async def main() -> None:
        limits = limited(4, per_address=2)
        async with serving(certfile=certificate.certfile, limits=limits) as server:
            for _ in range(10):
                reader, writer = await connect(server)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
            assert await visit(server, certificate.client()) == OK

    run(main())


def test_handshakes_that_are_only_begun(run, certificate, monkeypatch):
    """They keep out nobody for long: the oldest gives way. Who is there is served all the time."""
    monkeypatch.setattr(listener, "HANDSHAKE_PATIENCE", 0.05)

    async def main() -> None:
        async with serving(certfile=certificate.certfile, limits=limited(10)) as server:
            context = certificate.client()
            friend = await connect(server, ssl=context, server_hostname="localhost")
            silent = [await connect(server) for _ in range(20)]
            for _ in range(3):
                assert await visit(server, context) == OK
                assert await ask(friend) == OK
                assert len(server._listener._arrivals) <= 5
            leave(friend, *silent)

    run(main())


def test_handshakes_that_are_young_do_not_give_way(run, certificate, monkeypatch):
    """A crowd that comes back at once, after a restart say, is served whole."""
    monkeypatch.setattr(listener, "MAX_HANDSHAKES", 4)

    async def main() -> None:
        async with serving(certfile=certificate.certfile, limits=limited(100)) as server:
            context = certificate.client()
            answers = await asyncio.gather(*(visit(server, context) for _ in range(40)))
            assert answers == [OK] * 40

    run(main())


@pytest.mark.interpreted
def test_a_turn_calculates_few_steps_of_handshakes(run, certificate, monkeypatch):
    """So a burst of handshakes does not hold up who is there."""
    steps: list[int] = []

    class Counted:
        def __init__(self, context: ServerContext) -> None:
            self._tls = begin(context)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tls, name)

        def do_handshake(self) -> bool:
            if not any(steps[-1:]):
                asyncio.get_running_loop().call_soon(lambda: steps.append(0))
            steps[-1] += 1
            return self._tls.do_handshake()

    begin = ServerContext.begin
    monkeypatch.setattr(ServerContext, "begin", lambda context: Counted(context))

    async def main() -> None:
        async with serving(certfile=certificate.certfile) as server:
            hello = client_hello(certificate.client())
            clients = [await connect(server) for _ in range(40)]
            await until(lambda: len(server._listener._arrivals) == 40)
            steps.append(0)
            for _, writer in clients:
                writer.write(hello)
            await until(lambda: sum(steps) == 40)
            assert max(steps) <= HANDSHAKES_PER_TURN
            leave(*clients)

    run(main())


def test_handshake_that_dribbles(run, certificate):
    """Octets that trickle in do not extend its time."""

    async def main() -> None:
        timeouts = Timeouts(tls_handshake=0.2)
        async with serving(certfile=certificate.certfile, timeouts=timeouts) as server:
            reader, writer = await connect(server)

            async def dribble() -> None:
                with contextlib.suppress(OSError):
                    for octet in b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(10_000):
                        writer.write(bytes([octet]))
                        await asyncio.sleep(0.005)

            dribbling = asyncio.create_task(dribble())
            async with asyncio.timeout(HANG):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            await until(lambda: not server._listener._arrivals)
            dribbling.cancel()
            writer.close()

    run(main())


IGNORED_RECORD = b"\x14\x03\x03\x00\x01\x01"
"""A change_cipher_spec (RFC 8446 section 5: to be dropped without further processing)."""

ENDLESS = 50_000_000
"""Octets that nobody should take."""


def test_handshake_without_end(run, certificate, caplog):
    """Records that TLS has to ignore are taken for a while; OpenSSL sees to that."""

    async def main() -> None:
        async with serving(certfile=certificate.certfile) as server:
            _, writer = await connect(server)
            writer.write(client_hello(certificate.client()))
            sent = 0
            with contextlib.suppress(OSError):
                while sent < ENDLESS:
                    writer.write(IGNORED_RECORD * 1000)
                    await writer.drain()
                    sent += 6000
                raise AssertionError("it goes on")
            writer.close()
            await until(lambda: not server._listener._arrivals)
            assert await visit(server, certificate.client()) == OK

    run(main())
    assert "failed before its first byte" in caplog.text


def client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_that_vanish_in_every_state_of_the_handshake(run, certificate, version, reset):
    """Cut off behind each of some octets of what an honest client sends; nothing is left of it."""

    async def main() -> None:
        async with serving(certfile=certificate.certfile, limits=limited(20)) as server:
            context = certificate.client(version=version)
            for cut in (0, 1, 5, 6, 100, 300, 520, 530, 560, 600, 620):
                await vanish(server, context, cut, reset)
            assert await visit(server, context) == OK

    run(main())


async def vanish(server: Any, context: ssl.SSLContext, cut: int, reset: bool) -> None:
    """Take part in a handshake until ``cut`` octets are sent, or it is over."""
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server.addresses[0])
        over = False
        while not over and cut >= 0:
            try:
                tls.do_handshake()
                over = True
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            await loop.sock_sendall(sock, data[:cut])
            cut -= len(data)
            if not over and cut > 0:
                incoming.write(await loop.sock_recv(sock, 65_536))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_connections_that_come_and_go(run):
    """Accepted, perhaps, after they are gone: hundreds of them leave nothing."""

    async def main() -> None:
        async with serving(hello, limits=limited(50)) as server:
            for _ in range(200):
                with socket.create_connection(server.addresses[0]) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert await visit(server) == OK

    run(main())
