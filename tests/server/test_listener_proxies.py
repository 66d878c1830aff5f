"""Connections behind a load balancer: their PROXY header, read from a socket before all else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Any

import pytest
from greeting_listener import Served, nothing_above_debug, until
from proxy_peer import MALFORMED, VALID, v2

from h2asgi.protocol.proxy import ProxyHeader
from h2asgi.sockets import UnixAddress, listen
from h2asgi.tls_context import ServerContext
from h2asgi.trust import Trusted

HANG = 10
LOOPBACK = Trusted(["127.0.0.1"])


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.DEBUG, "h2asgi")


@pytest.fixture(params=["tls", "clear"])
def context(request, contexts_13) -> ssl.SSLContext | None:
    return contexts_13[0] if request.param == "tls" else None


@pytest.fixture
def contexts_13(authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class Client:
    """A load balancer's side: a header, then TLS or nothing, then what comes."""

    def __init__(self, address: Any, context: ssl.SSLContext | None) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (
            context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            if context
            else None
        )

    async def greeting(self, header: bytes, piece: int = 1 << 16) -> bytes:
        """Send the header together with the first octets of TLS; give the server's line."""
        loop = asyncio.get_running_loop()
        data = header
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            data += self.outgoing.read()
        for place in range(0, len(data), piece):
            await loop.sock_sendall(self.sock, data[place : place + piece])
            await asyncio.sleep(0)
        while self.tls is not None:
            self.incoming.write(await self.receive())
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                await loop.sock_sendall(self.sock, self.outgoing.read())
                break
        return await self._line()

    async def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if self.tls is None:
                line += await self.receive()
                continue
            try:
                line += self.tls.read(1024)
            except ssl.SSLWantReadError:
                self.incoming.write(await self.receive())
        return line

    async def receive(self) -> bytes:
        """Give what comes; nothing at the end, or when it is refused."""
        async with asyncio.timeout(HANG):
            with contextlib.suppress(ConnectionResetError):
                return await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        return b""


@contextlib.asynccontextmanager
async def client(served: Served, context: ssl.SSLContext | None = None):
    made = Client(served.address, context)
    try:
        yield made
    finally:
        made.sock.close()


@pytest.mark.parametrize("piece", [1 << 16, 1, 7])
@pytest.mark.parametrize("name", ["v1 IPv4", "v1 IPv6, longest", "v2 values", "v2 local"])
def test_a_header_is_read_and_nothing_behind_it(run, context, contexts_13, name, piece):
    async def main() -> None:
        async with Served(context, proxies=LOOPBACK) as served:
            async with client(served, context and contexts_13[1]) as peer:
                line = await peer.greeting(VALID[name], piece)
                assert line == repr(served.address).encode() + b"\n"
            (header,) = served.proxied
            assert header is not None
            assert header.version == int(name[1])
            assert header.relayed == ("local" not in name)

    run(main())


def test_what_came_with_the_header_in_the_clear_is_read(run):
    async def main() -> None:
        async with Served(proxies=LOOPBACK) as served, client(served) as peer:
            received = bytearray()
            make = served.listener._arrivals.factory

            def factory(*arguments: Any) -> Any:
                protocol = make(*arguments)
                buffer = bytearray(1024)
                protocol.get_buffer = lambda hint: buffer
                protocol.buffer_updated = lambda size: received.extend(buffer[:size])
                return protocol

            served.listener._arrivals.factory = factory
            await peer.greeting(v2() + b"and all that follows")
            await until(lambda: bytes(received) == b"and all that follows")

    run(main())


def test_others_are_refused_at_once(run, context, caplog):
    async def main() -> None:
        async with Served(context, proxies=Trusted(["10.0.0.0/8"])) as served:
            async with client(served) as peer:
                assert await peer.receive() == b""
            assert served.made == []
            assert served.listener._admission.taken == 0

    run(main())
    assert nothing_above_debug(caplog)
    assert "127.0.0.1 is none of --forwarded-allow-ips" in caplog.text


def test_a_unix_socket_is_believed_when_it_is_named(run, tmp_path):
    path = str(tmp_path / "a.sock")

    async def main(proxies: Trusted, answer: bool) -> None:
        served = Served(sockets=listen([UnixAddress(path)], 100), proxies=proxies)
        async with served, client(served) as peer:
            if answer:
                assert await peer.greeting(v2()) == repr((path, None)).encode() + b"\n"
            else:
                assert await peer.receive() == b""

    run(main(Trusted(["unix"]), True))
    run(main(LOOPBACK, False))


@pytest.mark.parametrize(
    "name", ["HTTP/1.1", "TLS", "v1 bare LF", "v1 zone", "v2 unknown family", "v2 value cut off"]
)
def test_what_is_no_header_ends_the_connection(run, context, caplog, name):
    async def main() -> None:
        async with Served(context, proxies=LOOPBACK) as served, client(served) as peer:
            await asyncio.get_running_loop().sock_sendall(peer.sock, MALFORMED[name])
            assert await peer.receive() == b""
            await until(lambda: not served.listener._arrivals)
            assert served.made == []
            assert served.listener._admission.taken == 0

    run(main())
    assert nothing_above_debug(caplog)
    assert "failed before its first byte" in caplog.text


def test_a_peer_that_leaves_in_its_header_is_a_debug_line(run, context, caplog):
    async def main() -> None:
        async with Served(context, proxies=LOOPBACK) as served, client(served) as peer:
            await asyncio.get_running_loop().sock_sendall(peer.sock, b"PROXY TCP4 1")
            peer.sock.shutdown(socket.SHUT_WR)
            assert await peer.receive() == b""
            await until(lambda: not served.listener._admission.taken)

    run(main())
    assert nothing_above_debug(caplog)
    assert "ended before its PROXY header did" in caplog.text


def test_a_header_has_the_deadline_of_the_handshake(run, context, caplog):
    async def main() -> None:
        async with Served(context, proxies=LOOPBACK, handshake_timeout=0.05) as served:
            for begin in (b"", b"PROXY", v2()[:-1]):
                async with client(served) as peer:
                    await asyncio.get_running_loop().sock_sendall(peer.sock, begin)
                    assert await peer.receive() == b""

    run(main())
    assert nothing_above_debug(caplog)
    assert caplog.text.count("its PROXY header took too long") == 3


def test_header_and_handshake_have_one_deadline(run, contexts_13, caplog):
    """Whoever dribbles its header has less left for TLS."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        served = Served(contexts_13[0], proxies=LOOPBACK, handshake_timeout=0.2)
        async with served, client(served) as peer:
            await until(lambda: bool(served.listener._arrivals))
            begun = served.listener._arrivals.oldest
            await asyncio.sleep(0.1)
            await loop.sock_sendall(peer.sock, v2())
            await until(lambda: bool(served.listener._arrivals) and _shakes_hands(served))
            assert served.listener._arrivals.oldest == begun
            assert served.listener._arrivals._deadline.when() == pytest.approx(begun + 0.2)
            assert await peer.receive() == b""

    run(main())
    assert "the handshake took longer than 0.2 s" in caplog.text


def _shakes_hands(served: Served) -> bool:
    arrival = next(iter(served.listener._arrivals._under_way))
    return arrival._handshake is not None


def test_stopping_ends_those_whose_header_is_awaited(run, context):
    async def main() -> None:
        async with Served(context, proxies=LOOPBACK) as served, client(served) as peer:
            await until(lambda: bool(served.listener._arrivals))
            served.listener.stop()
            served.listener.end_handshakes()
            assert await peer.receive() == b""
            assert served.listener._admission.taken == 0

    run(main())


def test_the_oldest_that_sends_no_header_gives_way(run, monkeypatch):
    monkeypatch.setattr("h2asgi.listener.HANDSHAKE_PATIENCE", 0.05)

    async def main() -> None:
        async with (
            Served(proxies=LOOPBACK, limit=4) as served,
            contextlib.AsyncExitStack() as stack,
        ):
            silent = [await stack.enter_async_context(client(served)) for _ in range(2)]
            await until(lambda: len(served.listener._arrivals) == 2)
            async with client(served) as peer:
                assert await peer.greeting(v2())
            assert await silent[0].receive() == b""

    run(main())


def test_places_count_for_the_client_that_the_header_names(run, caplog):
    """All come from one load balancer, which must not be held up by one client."""

    async def main() -> None:
        async with Served(proxies=LOOPBACK, per_address=1) as served:
            first, second, third, again = (Client(served.address, None) for _ in range(4))
            assert await first.greeting(v2("192.0.2.7"))
            assert await second.greeting(v2("192.0.2.8"))
            await asyncio.get_running_loop().sock_sendall(third.sock, v2("192.0.2.7"))
            assert await third.receive() == b""
            for _ in range(2):
                async with client(served) as check:
                    assert await check.greeting(VALID["v2 local"])
            first.sock.close()
            served.made[0].transport.abort()
            await served.made[0].lost.wait()
            assert await again.greeting(v2("192.0.2.7"))
            for peer in (second, third, again):
                peer.sock.close()

    run(main())
    assert nothing_above_debug(caplog)
    assert "192.0.2.7 has as many connections as one address may have" in caplog.text


def test_without_the_option_a_header_is_nothing_special(run):
    async def main() -> None:
        async with Served() as served, client(served) as peer:
            assert await peer.greeting(v2())
            assert served.proxied == [None]

    run(main())


def test_headers_differ_by_connection(run):
    async def main() -> None:
        async with Served(proxies=LOOPBACK) as served:
            for header in (v2("192.0.2.7", 1), v2("2001:db8::7", 2)):
                async with client(served) as peer:
                    assert await peer.greeting(header)
            sources = [header.source for header in served.proxied if header is not None]
            assert sources == [("192.0.2.7", 1), ("2001:db8::7", 2)]
            assert isinstance(served.proxied[0], ProxyHeader)

    run(main())
