"""The TLS transport over real sockets, against a client that does everything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tls_peer import HANG, Pair, Recorder, TLSClient, connected, turns, until

from h2asgi import process, tls_transport
from h2asgi.listener import Listener
from h2asgi.sockets import TCPAddress, listen
from h2asgi.tls_transport import ALERTS_LIMIT, DISCARD_LIMIT, READ_SIZE, WRITE_SIZE

MIB = 1024 * 1024
LARGE = bytes(range(256)) * 4 * 4096  # 4 MiB, far more than the sockets hold

Run = Callable[[Coroutine[Any, Any, None]], None]
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request) -> Run:
    """Run a coroutine on each event loop; nothing may reach the loop's exception handler."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def run(main: Coroutine[Any, Any, None]) -> None:
        process.run(process.new_event_loop(request.param), main)

    return run


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def contexts(request, authority) -> Contexts:
    """Of server and client, for each version of TLS."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options |= ssl.OP_NO_RENEGOTIATION
    authority.issue_cert("localhost").configure_cert(server)
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.set_alpn_protocols(["h2"])
    client.minimum_version = client.maximum_version = request.param
    return server, client


@pytest.fixture(autouse=True)
def _no_complaints(caplog):
    yield
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


# The handshake.


@pytest.mark.parametrize("piece", [1, 65_536])
def test_handshake_in_pieces(run, contexts, piece):
    async def main() -> None:
        async with connected(contexts, piece=piece) as pair:
            ssl_object = pair.transport.get_extra_info("ssl_object")
            assert ssl_object.selected_alpn_protocol() == "h2"
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


def test_handshake_has_a_deadline(run, contexts):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        with pair.sock, pair.client.sock:
            await asyncio.get_running_loop().sock_sendall(pair.client.sock, b"\x16\x03\x01\x02")
            with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"):
                await pair.transport.handshake(0.05)
            assert not asyncio.get_running_loop().remove_reader(pair.fd)

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
                    await pair.transport.handshake(HANG)
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
                await pair.transport.handshake(HANG)

    run(main())


def test_cancelled_handshake_leaves_the_loop_clean(run, contexts):
    async def main() -> None:
        pair = Pair(contexts, Recorder())
        with pair.sock, pair.client.sock:
            task = asyncio.create_task(pair.transport.handshake(HANG))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not asyncio.get_running_loop().remove_reader(pair.fd)

    run(main())


# What the transport tells.


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


# Output.


def test_more_than_the_socket_takes(run, contexts):
    """The reader is slow: the protocol is paused and resumed, and nothing is lost or doubled."""

    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.set_write_buffer_limits(high=100_000)
            pair.transport.write(LARGE)
            pair.transport.write(b"the end")
            assert pair.protocol.events == ["made", "pause"]
            assert pair.transport.get_write_buffer_size() > 100_000
            read = bytearray()
            while len(read) < len(LARGE) + 7:
                read += await pair.client.read(10_000)
            assert read == LARGE + b"the end"
            assert pair.protocol.events == ["made", "pause", "resume"]
            assert pair.transport.get_write_buffer_size() == 0

    run(main())


def test_only_so_much_is_encrypted_before_the_socket_takes_it(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            assert len(pair.transport._unsent) < 2 * WRITE_SIZE
            assert pair.transport._backlog[0].obj is LARGE  # as it was given

    run(main())


def test_protocol_that_writes_whenever_it_may(run, contexts):
    class Source(Recorder):
        left = 100

        def resume_writing(self) -> None:
            super().resume_writing()
            self.go_on()

        def go_on(self) -> None:
            while self.left and self.writable.is_set():
                self.left -= 1
                self.transport.write(self.left.to_bytes() * 50_000)
            if not self.left:
                self.transport.close()

    async def main() -> None:
        async with connected(contexts, Source()) as pair:
            pair.protocol.go_on()
            read = await pair.client.read_all()
            assert read == b"".join(left.to_bytes() * 50_000 for left in range(99, -1, -1))

    run(main())


def test_nothing_is_written_after_the_close(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(b"")
            pair.transport.write(b"last")
            pair.transport.close()
            pair.transport.write(b"too late")
            assert await pair.client.read_all() == b"last"

    run(main())


# Input.


@pytest.mark.parametrize("buffer_size", [1000, 256 * 1024])
@pytest.mark.parametrize("pausing", [False, True])
def test_upload(run, contexts, buffer_size, pausing):
    async def main() -> None:
        size = MIB if buffer_size > 1000 else 100_000
        async with connected(contexts, Recorder(buffer_size, pausing=pausing)) as pair:
            sending = asyncio.create_task(pair.client.write(LARGE[:size]))
            async with asyncio.timeout(HANG):
                while len(pair.protocol.received) < size:
                    pair.transport.resume_reading()
                    await asyncio.sleep(0)
            await sending
            assert pair.protocol.received == LARGE[:size]

    run(main())


def test_pause_holds_back_what_is_decrypted_already(run, contexts):
    async def main() -> None:
        async with connected(contexts, Recorder(1000, pausing=True)) as pair:
            await pair.client.write(LARGE[:2500])  # one record
            for received in (1000, 2000, 2500):
                await until(lambda: pair.protocol.received)
                await turns()
                assert len(pair.protocol.received) == received
                pair.transport.resume_reading()
                await turns(2)

    run(main())


def test_pause_holds_back_the_end_too(run, contexts):
    async def main() -> None:
        async with connected(contexts, Recorder(1000, pausing=True)) as pair:
            await pair.read_tickets()
            await pair.client.write(LARGE[:2500])
            pair.client.close()
            await until(lambda: pair.protocol.received)
            await turns()
            assert pair.protocol.events == ["made"]
            pair.protocol.pausing = False
            pair.transport.resume_reading()
            await pair.lost()
            assert len(pair.protocol.received) == 2500
            assert pair.protocol.events == ["made", "eof", "lost"]

    run(main())


def test_one_wake_up_takes_a_bounded_piece(run, contexts):
    """However much has come, the others get their turn."""

    async def main() -> None:
        pieces = []

        class Pieces(Recorder):
            def buffer_updated(self, size: int) -> None:
                pieces.append(size)
                asyncio.get_running_loop().call_soon(pieces.append, 0)

        async with connected(contexts, Pieces()) as pair:
            await pair.client.write(LARGE)
            await until(lambda: sum(pieces) == len(LARGE))
        turn = 0
        for piece in pieces:
            turn = turn + piece if piece else 0
            assert turn <= READ_SIZE

    run(main())


def test_broken_record_breaks_the_connection_behind_what_came_before(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.client.write(b"good")
            pair.client.ssl.write(b"bad")
            record = bytearray(pair.client.outgoing.read())
            record[-1] ^= 1
            await asyncio.get_running_loop().sock_sendall(pair.client.sock, record)
            await pair.lost()
            assert pair.protocol.received == b"good"
            assert isinstance(pair.protocol.error, ssl.SSLError)
            with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
                await pair.client.read()

    run(main())


def test_mistake_of_the_protocol_aborts_and_is_told_once(run, contexts, caplog):
    class Mistaken(Recorder):
        def buffer_updated(self, size: int) -> None:
            raise ValueError("mistake")

    async def main() -> None:
        async with connected(contexts, Mistaken()) as pair:
            await pair.client.write(b"anything")
            await pair.lost()

    run(main())
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]
    caplog.clear()


def test_mistake_of_the_protocol_at_the_start_aborts(run, contexts):
    class Mistaken(Recorder):
        def connection_made(self, transport: Any) -> None:
            raise ValueError("mistake")

    async def main() -> None:
        pair = Pair(contexts, Mistaken())
        with pair.client.sock:
            with pytest.raises(ExceptionGroup, match="TaskGroup") as caught:
                await pair.connect()
            assert caught.group_contains(ValueError)
            await pair.lost()

    run(main())


# Close.


def test_close_sends_what_is_left_then_close_notify_then_the_end(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            pair.transport.close()
            assert pair.transport.is_closing()
            assert await pair.client.read_all() == LARGE
            assert await asyncio.get_running_loop().sock_recv(pair.client.sock, 1) == b""
            await turns()
            assert not pair.protocol.lost.is_set()  # until the client has closed
            pair.client.close()
            await pair.lost()
            assert pair.protocol.error is None
            assert "eof" not in pair.protocol.events

    run(main())


@pytest.mark.parametrize("paused", [False, True])
def test_input_after_the_close_does_not_destroy_the_answer(run, contexts, paused):
    """Unread, it would make the kernel send RST as soon as the socket is closed."""

    async def main() -> None:
        async with connected(contexts) as pair:
            if paused:
                pair.transport.pause_reading()
            pair.transport.write(LARGE)
            pair.transport.close()
            pair.transport.resume_reading()
            pair.transport.pause_reading()
            await pair.client.write(bytes(DISCARD_LIMIT // 2))
            assert await pair.client.read_all() == LARGE
            assert pair.protocol.received == b""

    run(main())


def test_client_that_goes_on_sending_after_the_close_is_cut_off(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.close()
            with pytest.raises(OSError):
                await pair.client.write(bytes(8 * DISCARD_LIMIT))
            await pair.lost()
            assert pair.protocol.error is None

    run(main())


def test_client_that_sends_without_reading_gets_the_rest_before_it_is_cut_off(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            pair.transport.close()
            sending = asyncio.create_task(pair.client.write(bytes(2 * DISCARD_LIMIT)))
            await until(lambda: pair.transport._input_over)
            assert not pair.protocol.lost.is_set()
            read = bytearray()
            while len(read) < MIB:  # the kernel's buffers are behind it then
                read += await pair.client.read()
            assert LARGE.startswith(read)
            sending.cancel()

    run(main())


def test_close_notify_of_the_client_is_the_end_and_is_answered(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.client.write(b"last words")
            await pair.client.close_notify()
            assert await pair.client.read_all() == b""
            assert pair.protocol.received == b"last words"
            assert pair.protocol.events == ["made", "eof"]
            pair.client.close()
            await pair.lost()
            assert pair.protocol.error is None

    run(main())


def test_close_notify_of_the_client_while_an_answer_is_on_its_way(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            await pair.client.close_notify()
            await until(lambda: "eof" in pair.protocol.events)
            taken = 0
            loop = asyncio.get_running_loop()
            while data := await loop.sock_recv(pair.client.sock, 65_536):
                taken += len(data)
            assert taken > len(LARGE)

    run(main())


def test_end_of_tcp_without_close_notify_is_the_end(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.read_tickets()
            await pair.client.write(b"last words")
            pair.client.close()
            await pair.lost()
            assert pair.protocol.received == b"last words"
            assert pair.protocol.events == ["made", "eof", "lost"]

    run(main())


async def handshake_and_read(client: TLSClient) -> None:
    await client.handshake(last=b"unwanted")
    await client.read_all()


@pytest.mark.parametrize("what", ["close", "abort"])
def test_end_at_the_very_start(run, contexts, what):
    class Brief(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            getattr(transport, what)()

    async def main() -> None:
        pair = Pair(contexts, Brief())
        serving = asyncio.create_task(pair.serve())
        with pair.client.sock:
            if what == "close":
                await pair.client.handshake(last=b"unwanted")
                assert await pair.client.read_all() == b""
            else:
                with pytest.raises(OSError):  # which in TLS 1.2 comes before the handshake's end
                    await handshake_and_read(pair.client)
        await serving
        await pair.lost()
        assert pair.protocol.received == b""

    run(main())


def test_close_within_the_delivery_of_input(run, contexts):
    class Brief(Recorder):
        def buffer_updated(self, size: int) -> None:
            super().buffer_updated(size)
            self.transport.close()

    async def main() -> None:
        async with connected(contexts, Brief(1000)) as pair:
            await pair.client.write(bytes(5000))
            assert await pair.client.read_all() == b""
            assert len(pair.protocol.received) == 1000

    run(main())


def test_abort_drops_what_is_left_and_sends_no_close_notify(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            pair.transport.abort()
            pair.transport.abort()
            pair.transport.close()
            assert pair.transport.get_write_buffer_size() == 0
            with pytest.raises(OSError):
                await pair.client.read_all()
            await pair.lost()
            assert pair.protocol.error is None
            assert pair.protocol.events == ["made", "pause", "lost"]

    run(main())


# Resets.


async def idle(pair: Pair) -> None:
    """Nothing is on its way."""


async def writing(pair: Pair) -> None:
    pair.transport.write(LARGE)


async def writing_while_paused(pair: Pair) -> None:
    pair.transport.pause_reading()
    pair.transport.write(LARGE)


async def closing(pair: Pair) -> None:
    pair.transport.close()


async def writing_and_closing(pair: Pair) -> None:
    pair.transport.write(LARGE)
    pair.transport.close()


async def closed_by_the_client(pair: Pair) -> None:
    pair.transport.write(LARGE)
    await pair.client.close_notify()
    await until(lambda: "eof" in pair.protocol.events)


STATES = [idle, writing, writing_while_paused, closing, writing_and_closing, closed_by_the_client]


@pytest.mark.parametrize("state", STATES)
def test_reset(run, contexts, state):
    async def main() -> None:
        async with connected(contexts) as pair:
            await state(pair)
            pair.client.reset()
            await pair.lost()
            assert pair.protocol.error is None or isinstance(pair.protocol.error, OSError)

    run(main())


@pytest.mark.parametrize("closing", [False, True])
def test_reset_right_behind_data(run, contexts, closing):
    """uvloop says only once that there is something, and that may be the data."""

    async def main() -> None:
        async with connected(contexts) as pair:
            if closing:
                pair.transport.close()
            await pair.client.write(b"last words")
            pair.client.reset()
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionResetError)
            assert pair.protocol.events == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("what", ["write", "close"])
def test_reset_that_shows_only_when_something_is_sent(run, contexts, what):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.pause_reading()
            pair.client.reset()
            await turns()
            assert not pair.protocol.lost.is_set()
            if what == "write":
                pair.transport.write(b"anybody there?")
            else:
                pair.transport.close()
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionError)

    run(main())


# The TLS layer's own messages.


COMMANDS = {b"k\n": b"KEYUPDATE", b"K\n": b"KEYUPDATE", b"R\n": b"RENEGOTIATING"}
"""Lines that ``openssl s_client`` does not send but obeys, and what it then prints."""


async def openssl_client(contexts: Contexts, lines: list[bytes], *options: str) -> Recorder:
    """Serve one ``openssl s_client`` that reads ``lines``, until it is gone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    protocol = Recorder()
    sockets = listen([TCPAddress(("127.0.0.1",), 0)], 10)
    listener = Listener(sockets, lambda _: protocol, ssl_context=contexts[0], handshake_timeout=10)
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
    await listener.cancel_handshakes()
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
            pair.transport._outgoing.write(bytes(ALERTS_LIMIT))
            await pair.client.write(b"still within the limit")
            await until(lambda: pair.protocol.received)
            pair.transport._outgoing.write(b"!")
            await pair.client.write(b"over it")
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionAbortedError)

    run(main())


class HalfKeyUpdate:
    """An ``SSLObject`` that cannot write before it has read."""

    def __init__(self, ssl_object: ssl.SSLObject) -> None:
        self._ssl = ssl_object
        self.blocked = True

    def write(self, data: memoryview) -> int:
        if self.blocked:
            raise ssl.SSLWantReadError
        return self._ssl.write(data)

    def read(self, size: int, buffer: memoryview) -> Any:
        self.blocked = False
        return self._ssl.read(size, buffer)

    def unwrap(self) -> Any:
        return self._ssl.unwrap()


def test_writing_waits_for_the_other_half_of_a_key_update(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            await turns()
            pair.transport._ssl = HalfKeyUpdate(pair.transport._ssl)
            pair.transport.write(b"delayed")
            assert pair.transport.get_write_buffer_size() == 7
            await pair.client.write(b"the other half")
            assert await pair.client.read() == b"delayed"
            pair.transport._ssl.blocked = True
            pair.transport.write(b"never")
            pair.transport.close()
            await turns()
            assert pair.transport.get_write_buffer_size() == 5

    run(main())


def test_scratch_space_is_shared(run, contexts, monkeypatch):
    """Nothing of it is left in a transport: two connections take turns in one buffer."""
    monkeypatch.setattr(tls_transport, "READ_SIZE", 1000)

    async def main() -> None:
        async with connected(contexts) as one, connected(contexts) as two:
            two.transport._ciphertext = one.transport._ciphertext
            await one.client.write(b"1" * 50_000)
            await two.client.write(b"2" * 50_000)
            await until(lambda: len(one.protocol.received) == len(two.protocol.received) == 50_000)
            assert set(one.protocol.received) == set(b"1")
            assert set(two.protocol.received) == set(b"2")

    run(main())
