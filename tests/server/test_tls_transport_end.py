"""The TLS transport: every way in which a connection ends."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import pytest
from tls_peer import LARGE, MIB, Pair, Recorder, TLSClient, connected, turns, until

from h2asgi.tls_transport import DISCARD_LIMIT

pytestmark = pytest.mark.usefixtures("no_complaints")

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


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


def test_what_tls_takes_is_freed_with_the_connection(run, contexts):
    """Not when the garbage collector comes, which counts objects and not their size."""

    async def main() -> None:
        async with connected(contexts) as pair:
            tls = pair.transport.get_extra_info("tls")
            pair.client.close()
            await pair.lost()
            assert sys.getrefcount(tls) <= 2  # nobody but this test has it
            assert pair.transport.get_extra_info("tls", "none") == "none"

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


@pytest.mark.parametrize("what", ["write", "close", "pause and resume"])
def test_reset_right_behind_data_meets_what_follows(run, contexts, what):
    """The loop watches no longer then, and uvloop's would raise if it was asked to."""

    async def main() -> None:
        async with connected(contexts) as pair:
            await pair.client.write(b"last words")
            pair.client.reset()
            while not pair.protocol.received:
                await asyncio.sleep(0)
            if what == "write":
                pair.transport.write(b"anybody there?")
            elif what == "close":
                pair.transport.close()
            else:
                pair.transport.pause_reading()
                pair.transport.resume_reading()
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionError)
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
