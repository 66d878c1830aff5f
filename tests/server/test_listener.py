"""Accepting, TLS handshakes, and what goes wrong before a connection's first byte."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from typing import Any

import pytest
from greeting_listener import Served, greeting, nothing_above_debug, until

from h2asgi import listener as listener_module
from h2asgi import tcp
from h2asgi.sockets import ListeningSocket, TCPAddress, UnixAddress, listen
from h2asgi.tls_context import ServerContext


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.DEBUG, "h2asgi")


@pytest.fixture
def server_context(authority) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_each_connection_is_told_the_address_it_came_in_by(run):
    async def main() -> None:
        async with Served(sockets=listen([TCPAddress(("0.0.0.0",), 0)], 100)) as served:
            port = served.address[1]
            for host in ("127.0.0.1", "127.0.0.2"):
                reader, writer = await asyncio.open_connection(host, port)
                assert await reader.readline() == repr((host, port)).encode() + b"\n"
                writer.transport.abort()

    run(main())


def test_a_unix_connection_is_told_the_path(run, tmp_path):
    path = str(tmp_path / "a.sock")

    async def main() -> None:
        async with Served(sockets=listen([UnixAddress(path)], 100)):
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.readline() == repr((path, None)).encode() + b"\n"
            writer.transport.abort()

    run(main())


def test_socket_options(run):
    async def main() -> None:
        async with Served() as served:
            await greeting(served)
            sock = served.made[0].transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                lowat = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
                assert lowat == tcp.NOTSENT_LOWAT

    run(main())


def test_a_burst_larger_than_one_turn_takes_is_accepted_whole(run, monkeypatch):
    monkeypatch.setattr(listener_module, "ACCEPTS_PER_TURN", 3)

    async def main() -> None:
        async with Served() as served:
            await asyncio.gather(*(greeting(served) for _ in range(20)))

    run(main())


def test_tls(run, server_context, client_context):
    async def main() -> None:
        async with Served(server_context) as served:
            options = {"ssl": client_context, "server_hostname": "localhost"}
            assert await greeting(served, **options) == repr(served.address).encode() + b"\n"

    run(main())


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\0" * 9000, b""],
)
def test_what_is_no_tls_leaves_a_debug_line_and_the_rest_undisturbed(
    run, server_context, client_context, caplog, sent
):
    """Field note 5: a peer's broken handshake is never a traceback."""

    async def main() -> None:
        async with Served(server_context) as served:
            reader, writer = await asyncio.open_connection(*served.address)
            writer.write(sent)
            if sent[:1] != b"\x16":
                writer.write_eof()
            else:
                writer.transport.abort()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
            await until(lambda: not served.listener._arrivals)
            assert await greeting(served, ssl=client_context, server_hostname="localhost")

    run(main())
    assert nothing_above_debug(caplog)
    assert "failed before its first byte" in caplog.text


def test_a_client_that_distrusts_the_certificate_is_a_debug_line(run, server_context, caplog):
    async def main() -> None:
        async with Served(server_context) as served:
            with pytest.raises(ssl.SSLError):
                await greeting(served, ssl=ssl.create_default_context())
            await until(lambda: not served.listener._arrivals)

    run(main())
    assert nothing_above_debug(caplog)


def test_a_handshake_has_a_deadline(run, server_context, caplog):
    async def main() -> None:
        async with Served(server_context, handshake_timeout=0.05) as served:
            reader, writer = await asyncio.open_connection(*served.address)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            await until(lambda: not served.listener._arrivals)

    run(main())
    assert nothing_above_debug(caplog)
    assert "failed before its first byte" in caplog.text


def test_a_fault_stays_one_when_its_client_outstays_the_deadline(run, server_context, caplog):
    """The alert was sent, and the client does not close."""

    async def main() -> None:
        async with Served(server_context, handshake_timeout=0.05) as served:
            reader, writer = await asyncio.open_connection(*served.address)
            writer.write(b"\x16\x03\x01\x00\x05hello")
            await asyncio.wait_for(reader.read(), 10)
            await until(lambda: not served.listener._arrivals)
            writer.close()

    run(main())
    assert nothing_above_debug(caplog)
    assert "failed before its first byte: [SSL" in caplog.text
    assert "took longer" not in caplog.text


def test_stopping_ends_handshakes_under_way(run, server_context, caplog):
    async def main() -> None:
        async with Served(server_context) as served:
            reader, writer = await asyncio.open_connection(*served.address)
            await until(lambda: bool(served.listener._arrivals))
            served.listener.stop()
            served.listener.end_handshakes()
            assert not served.listener._arrivals
            assert await reader.read() == b""
            writer.close()

    run(main())
    assert nothing_above_debug(caplog)


def test_stopping_ends_a_handshake_that_has_just_begun(run, server_context):
    """Its socket must be closed all the same."""

    async def main() -> None:
        async with Served(server_context) as served:
            with socket.create_connection(served.address) as client:
                client.setblocking(False)
                served.listener._accept(served.sockets[0].sock)
                assert len(served.listener._arrivals) == 1
                served.listener.stop()
                served.listener.end_handshakes()
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(client, 1) == b""

    run(main())


def test_stopping_lets_accepted_connections_in_the_clear_through(run):
    async def main() -> None:
        async with Served() as served:
            with socket.create_connection(served.address):
                served.listener._accept(served.sockets[0].sock)
                served.listener.stop()
                served.listener.end_handshakes()
                assert served.made[0].transport is not None

    run(main())


def test_stopping_refuses_new_connections_and_keeps_the_old(run):
    async def main() -> None:
        async with Served() as served:
            reader, writer = await asyncio.open_connection(*served.address)
            await reader.readline()
            served.listener.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*served.address)
            served.made[0].transport.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
            writer.transport.abort()

    run(main())


class FailingSocket:
    """A listening socket whose ``accept`` fails as often as it is told to."""

    def __init__(self, sock: socket.socket, error: OSError) -> None:
        self._sock = sock
        self._error = error
        self.failures = 0
        self.calls = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise self._error
        return self._sock.accept()

    def fileno(self) -> int:
        return self._sock.fileno()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def close(self) -> None:
        self._sock.close()


def failing(error: OSError) -> tuple[FailingSocket, list[ListeningSocket]]:
    real = listen([TCPAddress(("127.0.0.1",), 0)], 100)[0].sock
    fake = FailingSocket(real, error)
    return fake, [ListeningSocket(fake)]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_it_pauses_warns_once_and_resumes(run, monkeypatch, caplog, number):
    monkeypatch.setattr(listener_module, "EXHAUSTED_PAUSE", 0.05)

    async def main() -> None:
        fake, sockets = failing(OSError(number, "Too many open files"))
        fake.failures = 3
        async with Served(sockets=sockets) as served:
            assert await greeting(served)
            # Not once per turn of the loop: the pause keeps it from spinning.
            assert fake.failures == 0
            assert fake.calls < 10

    run(main())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "cannot accept connections (Too many open files): trying again every 0.05 s"
    ]


def test_running_out_again_later_warns_again(run, monkeypatch, caplog):
    monkeypatch.setattr(listener_module, "EXHAUSTED_PAUSE", 0.01)

    async def main() -> None:
        fake, sockets = failing(OSError(errno.EMFILE, "Too many open files"))
        async with Served(sockets=sockets) as served:
            for _ in range(2):
                fake.failures = 1
                assert await greeting(served)

    run(main())
    assert caplog.text.count("cannot accept connections") == 2


def test_stopping_during_the_pause_stays_stopped(run, monkeypatch):
    monkeypatch.setattr(listener_module, "EXHAUSTED_PAUSE", 0.01)

    async def main() -> None:
        fake, sockets = failing(OSError(errno.EMFILE, "Too many open files"))
        fake.failures = 1
        async with Served(sockets=sockets) as served:
            with socket.create_connection(served.address):
                await until(lambda: fake.failures == 0)
                served.listener.stop()
                await asyncio.sleep(0.05)  # longer than the pause: nothing must come of it
                assert served.made == []

    run(main())


def test_a_connection_that_was_gone_before_accept_does_not_stop_the_next(run, caplog):
    async def main() -> None:
        fake, sockets = failing(ConnectionAbortedError(errno.ECONNABORTED, "aborted"))
        fake.failures = 2
        async with Served(sockets=sockets) as served:
            assert await greeting(served)

    run(main())
    assert nothing_above_debug(caplog)


def test_a_factory_that_fails_is_an_error_of_ours_and_costs_one_connection(run, caplog):
    async def main() -> None:
        async with Served() as served:
            arrivals = served.listener._arrivals
            make, arrivals.factory = arrivals.factory, lambda *_: 1 / 0
            reader, writer = await asyncio.open_connection(*served.address)
            assert await reader.read() == b""
            writer.close()
            arrivals.factory = make
            assert await greeting(served)

    run(main())
    assert "ZeroDivisionError" in caplog.text
