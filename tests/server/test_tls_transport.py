"""The TLS transport over real sockets: the handshake, and the TLS layer's own messages."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding
from tls_peer import HANG, LARGE, Pair, Recorder, connected, turns, until

from h2asgi import shared_by_transports
from h2asgi.listener import Listener
from h2asgi.shared_by_transports import SCRATCH_SIZE
from h2asgi.sockets import TCPAddress, listen
from h2asgi.tls_handshake import Handshake
from h2asgi.tls_object import PythonTLS, TLSObject
from h2asgi.tls_transport import ALERTS_LIMIT, TLSTransport

MAX_ALPN_SIZE = 2048  # of h2asgi.tls_pyopenssl, which is not always there

pytestmark = pytest.mark.usefixtures("no_complaints")

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.mark.parametrize("piece", [1, 65_536])
def test_handshake_in_pieces(run, contexts, piece):
    async def main() -> None:
        async with connected(contexts, piece=piece) as pair:
            assert pair.transport.get_extra_info("tls").alpn() == "h2"
            assert pair.protocol.events == ["made"]
            await pair.client.write(b"ping")
            await until(lambda: pair.protocol.received == b"ping")
            pair.transport.write(b"pong")
            assert await pair.client.read() == b"pong"

    run(main())


def test_data_that_comes_with_the_last_message_of_the_handshake(run, contexts):
    async def main() -> None:
        async with connected(contexts, last=b"early") as pair:
            await until(lambda: pair.protocol.received == b"early")

    run(main())


@pytest.mark.parametrize(
    ("garbage", "answer"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b""),
        (bytes(9000), b""),
        (b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x0a"),  # unexpected_message
    ],
)
def test_garbage_instead_of_a_client_hello_is_an_ssl_error(run, contexts, garbage, answer):
    """With an alert, where OpenSSL makes one: not for what is no TLS at all."""

    async def main() -> None:
        pair = Pair(contexts, Recorder())
        loop = asyncio.get_running_loop()
        with pair.client.sock:
            with pair.sock:
                await loop.sock_sendall(pair.client.sock, garbage)
                with pytest.raises(ssl.SSLError):
                    await pair.handshake()
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(pair.client.sock, 100) == answer

    run(main())


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("sent", [0, 1, 100])
def test_client_that_leaves_during_the_handshake_is_an_os_error(run, contexts, end, sent):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        with pair.sock:
            with pytest.raises(ssl.SSLWantReadError):
                pair.client.ssl.do_handshake()
            hello = pair.client.outgoing.read()
            await asyncio.get_running_loop().sock_sendall(pair.client.sock, hello[:sent])
            getattr(pair.client, end)()
            with pytest.raises(OSError):
                await pair.handshake()

    run(main())


class SlowSocket:
    """Takes a few octets, then none, in turn."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._full = False

    def send(self, data: bytes | memoryview) -> int:
        self._full = not self._full
        if self._full:
            raise BlockingIOError
        return self._sock.send(data[:100])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)
def test_handshake_whose_messages_go_out_in_pieces(run, contexts):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        whole, pair.sock = pair.sock, SlowSocket(pair.sock)
        with pair.client.sock, whole:
            async with asyncio.timeout(HANG):
                tls, _ = await asyncio.gather(pair.handshake(), pair.client.handshake())
            assert tls.alpn() == "h2"
            assert not pair.client.loop.remove_writer(whole.fileno())

    run(main())


def test_alert_that_goes_out_in_pieces(run, contexts):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        whole, pair.sock = pair.sock, SlowSocket(pair.sock)
        loop = asyncio.get_running_loop()
        with pair.client.sock, whole:
            await loop.sock_sendall(pair.client.sock, b"\x16\x03\x01\x00\x05hello")
            failing = asyncio.create_task(pair.handshake())
            assert await loop.sock_recv(pair.client.sock, 100) == b"\x15\x03\x03\x00\x02\x02\x0a"
            assert await loop.sock_recv(pair.client.sock, 100) == b""
            pair.client.close()
            with pytest.raises(ssl.SSLError):
                await failing
            assert not loop.remove_writer(whole.fileno())

    run(main())


def test_failed_handshake_keeps_nothing(run, contexts):
    """Nor does the traceback of its failure: of what OpenSSL has, the garbage collector is not
    told."""

    async def main() -> TLSObject:
        pair = Pair(contexts, Recorder())
        loop = asyncio.get_running_loop()
        with pair.client.sock, pair.sock:
            over = loop.create_future()
            shaking = Handshake(
                loop,
                pair.sock,
                contexts[0],
                pair.shared,
                lambda error: over.set_result(type(error)),
            )
            shaking.begin()
            await loop.sock_sendall(pair.client.sock, b"\x16\x03\x01\x00\x05hello")
            pair.client.close()
            assert issubclass(await over, ssl.SSLError)
            return shaking.tls

    tls: list[TLSObject] = []
    run(_keep(main(), tls))
    assert sys.getrefcount(tls.pop()) <= 2  # the list's is gone


async def _keep(result: Awaitable[TLSObject], kept: list[TLSObject]) -> None:
    kept.append(await result)


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)  # by its client
def test_fin_behind_data_that_came_with_the_handshake(run, contexts):
    """What is there is delivered before the end, in whatever order the loop looks at things."""

    async def main() -> None:
        pair = Pair(contexts, Recorder())
        loop = asyncio.get_running_loop()

        async def client() -> None:
            await pair.client.handshake(last=b"all I have to say")
            pair.client.sock.shutdown(socket.SHUT_WR)

        with pair.client.sock:
            sending = asyncio.create_task(client())
            tls = await pair.handshake()
            await sending
            pair.transport = TLSTransport(loop, pair.sock, tls, pair.shared)
            pair.transport.start(pair.protocol)
            pair.transport.read()  # as uvloop does before ``call_soon`` has its turn
            pair.transport.read()
            await pair.lost()
        assert pair.protocol.received == b"all I have to say"
        assert pair.protocol.events == ["made", "eof", "lost"]

    run(main())


def test_abandoned_handshake_leaves_the_loop_clean(run, contexts):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        with pair.sock, pair.client.sock:
            task = asyncio.create_task(pair.handshake())
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not asyncio.get_running_loop().remove_reader(pair.fd)

    run(main())


MANY_PROTOCOLS = [f"x{number:05}" for number in range(MAX_ALPN_SIZE // 7 + 1)]


@pytest.mark.parametrize("tls_engine", ["pyopenssl"], indirect=True)  # the other's is OpenSSL's own
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["http/1.1", "h2"], "h2"),
        (["h2c", "h", "http/1.1"], "http/1.1"),
        (["xh2", "h2\x02h2", "\x02h2"], None),  # with octets that look like it
        (["http/1.0"], None),
        (["h2", *MANY_PROTOCOLS], "h2"),
        ([*MANY_PROTOCOLS, "h2"], None),
    ],
)
def test_the_best_of_what_a_client_offers(run, contexts, offered, chosen):
    """RFC 7301 section 3.2. What stands behind hundreds of names is not looked for."""

    async def main() -> None:
        contexts[1].set_alpn_protocols(offered)
        async with connected(contexts) as pair:
            assert pair.transport.get_extra_info("tls").alpn() == chosen

    run(main())


def test_extra_info(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            info = pair.transport.get_extra_info
            assert info("socket") is pair.sock
            assert info("peername") == pair.client.sock.getsockname()
            assert info("compression", "none") == "none"
            assert not pair.transport.can_write_eof()
            pair.transport.abort()
            assert info("peername") is None

    run(main())


COMMANDS = {b"k\n": b"KEYUPDATE", b"K\n": b"KEYUPDATE", b"R\n": b"RENEGOTIATING"}
"""Lines that ``openssl s_client`` does not send but obeys, and what it then prints."""


async def openssl_client(contexts: Contexts, lines: list[bytes], *options: str) -> Recorder:
    """Serve one ``openssl s_client`` that reads ``lines``, until it is gone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    protocol = Recorder()
    sockets = listen([TCPAddress(("127.0.0.1",), 0)], 10)
    listener = Listener(
        sockets,
        lambda *_: protocol,
        ssl_context=contexts[0],
        handshake_timeout=10,
        limit=10,
        per_address=None,
        on_full=lambda: None,
    )
    listener.start()
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{sockets[0].address[1]}", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    async with asyncio.timeout(HANG):
        for line in lines:
            client.stdin.write(line)
            if line in COMMANDS:
                await client.stdout.readuntil(COMMANDS[line])
            else:
                await until(lambda: line in protocol.received)  # noqa: B023
        protocol.transport.write(b"seen\n")
        protocol.transport.close()
        output, _ = await client.communicate()
        await protocol.lost.wait()
    listener.stop()
    listener.end_handshakes()
    assert (b"seen\n" in output) is (lines[-1] not in COMMANDS)
    return protocol


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)
def test_key_updates(run, contexts):
    """RFC 8446 section 4.6.3: of the client's keys, and at its request of ours."""

    async def main() -> None:
        lines = [b"one\n", b"k\n", b"two\n", b"K\n", b"three\n"]
        protocol = await openssl_client(contexts, lines)
        assert protocol.received == b"one\ntwo\nthree\n"

    run(main())


@pytest.fixture
def key_log(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    return path


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)
def test_updated_keys_are_logged(run, key_log, contexts, capfd):
    async def main() -> None:
        await openssl_client(contexts, [b"one\n", b"K\n", b"two\n"])

    run(main())
    names = [line.split()[0] for line in key_log.read_text().splitlines()]
    assert {"CLIENT_TRAFFIC_SECRET_N", "SERVER_TRAFFIC_SECRET_N"} <= set(names)
    assert capfd.readouterr().err == ""


@pytest.fixture
def full_disk(monkeypatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/dev/full")


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)
@pytest.mark.parametrize("tls_engine", ["pyopenssl"], indirect=True)  # the other: Python's affair
def test_a_key_log_on_a_full_disk_ends_no_connection(run, full_disk, contexts, capfd):
    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.client.write(b"ping")
            await until(lambda: pair.protocol.received == b"ping")

    run(main())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_2], indirect=True)
def test_renegotiation_is_refused(run, contexts):
    """RFC 9113 section 9.2.1. This client then leaves."""

    async def main() -> None:
        protocol = await openssl_client(contexts, [b"one\n", b"R\n"], "-tls1_2")
        assert protocol.received == b"one\n"

    run(main())


def test_answers_of_the_tls_layer_do_not_pile_up(run, contexts):
    """A client that asks for alerts and reads none."""

    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            await turns()
            answer(pair, bytes(ALERTS_LIMIT))
            await pair.client.write(b"still within the limit")
            await until(lambda: pair.protocol.received)
            answer(pair, b"!")
            await pair.client.write(b"over it")
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionAbortedError)

    run(main())


def test_what_is_written_behind_many_answers_goes_out_with_them(run, contexts):
    """More than is sent at once: the rest is not left for the next write."""

    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.read_tickets()
            answer(pair, bytes(SCRATCH_SIZE))
            pair.transport.write(b"behind them")
            left = SCRATCH_SIZE + len(b"behind them")
            while left > 0:  # what is more is the record's header and tag
                async with asyncio.timeout(HANG):
                    left -= len(await pair.client.loop.sock_recv(pair.client.sock, 65_536))
            pair.transport.abort()

    run(main())


def answer(pair: Pair, octets: bytes) -> None:
    """Have the TLS layer want to send something by itself."""
    tls = pair.transport.get_extra_info("tls")
    if isinstance(tls, PythonTLS):
        tls._outgoing.write(octets)
    else:
        Binding().lib.BIO_write(tls._outgoing, octets, len(octets))


class HalfKeyUpdate:
    """An ``SSLObject`` that cannot write before it has read."""

    def __init__(self, tls: Any) -> None:
        self._ssl = tls._ssl
        self.blocked = True
        tls._ssl, tls._read = self, self.read

    def write(self, data: memoryview) -> int:
        if self.blocked:
            raise ssl.SSLWantReadError
        return self._ssl.write(data)

    def read(self, size: int, buffer: memoryview) -> Any:
        self.blocked = False
        return self._ssl.read(size, buffer)

    def unwrap(self) -> Any:
        return self._ssl.unwrap()


@pytest.mark.parametrize("tls_engine", ["ssl"], indirect=True)  # the other has nothing to replace
def test_writing_waits_for_the_other_half_of_a_key_update(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            await turns()
            half = HalfKeyUpdate(pair.transport.get_extra_info("tls"))
            pair.transport.write(b"delayed")
            assert pair.transport.get_write_buffer_size() == 7
            await pair.client.write(b"the other half")
            assert await pair.client.read() == b"delayed"
            half.blocked = True
            pair.transport.write(b"never")
            pair.transport.close()
            await turns()
            assert pair.transport.get_write_buffer_size() == 5

    run(main())


def test_scratch_space_is_shared(run, contexts, monkeypatch):
    """Nothing of it is left in a transport: two connections take turns in one buffer."""
    monkeypatch.setattr(shared_by_transports, "READ_SIZE", 1000)

    async def main() -> None:
        async with connected(contexts) as one, connected(contexts) as two:
            two.transport._ciphertext = one.transport._ciphertext
            await one.client.write(b"1" * 50_000)
            await two.client.write(b"2" * 50_000)
            await until(lambda: len(one.protocol.received) == len(two.protocol.received) == 50_000)
            assert set(one.protocol.received) == set(b"1")
            assert set(two.protocol.received) == set(b"2")

    run(main())
