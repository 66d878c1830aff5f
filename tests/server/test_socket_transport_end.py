"""The transport in the clear: every way in which a connection ends."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest
from clear_peer import Clear, connected, unix_pair
from tls_peer import LARGE, MIB, Recorder, reset, turns, until

from h2asgi.shared_by_transports import SharedByTransports
from h2asgi.socket_transport import SocketTransport

pytestmark = pytest.mark.usefixtures("no_complaints")


def test_close_sends_what_is_left(run, make):
    async def main() -> None:
        async with connected(None, make) as pair:
            pair.transport.write(LARGE)
            pair.transport.close()
            pair.transport.close()
            assert pair.transport.is_closing()
            pair.transport.write(b"too late")
            pair.transport.resume_reading()
            assert not pair.loop.remove_reader(pair.fd)
            await turns()
            assert not pair.protocol.lost.is_set()
            assert await pair.receive_all() == LARGE
            await pair.lost()
            assert pair.protocol.error is None

    run(main())


def test_close_behind_write_eof_waits_for_what_is_left(run):
    async def main() -> None:
        async with connected() as pair:
            pair.transport.write(LARGE)
            pair.transport.write_eof()
            pair.transport.close()
            assert await pair.receive_all() == LARGE
            await pair.lost()

    run(main())


def test_abort_drops_what_is_left(run, make):
    async def main() -> None:
        async with connected(None, make) as pair:
            pair.transport.write(LARGE)
            pair.transport.abort()
            assert pair.protocol.events == ["made", "pause"]
            pair.transport.abort()
            pair.transport.close()
            pair.transport.write(b"too late")
            pair.transport.write_eof()
            pair.transport.pause_reading()
            pair.transport.resume_reading()
            pair.transport.set_write_buffer_limits(high=0)
            assert pair.transport.get_write_buffer_size() == 0
            await pair.lost()
            assert pair.protocol.error is None
            assert pair.protocol.events == ["made", "pause", "lost"]
            assert len(await pair.receive_all()) < len(LARGE)

    run(main())


@pytest.mark.parametrize("what", ["close", "abort"])
def test_end_at_the_very_start(run, make, what):
    class Brief(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"bye")
            getattr(transport, what)()

    async def main() -> None:
        async with connected(Brief(), make) as pair:
            assert pair.protocol.events == ["made"]
            assert await pair.receive_all() == b"bye"
            await pair.lost()
            assert pair.protocol.events == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("what", ["close", "abort"])
def test_end_within_the_delivery_of_input(run, make, what):
    class Brief(Recorder):
        def buffer_updated(self, size: int) -> None:
            super().buffer_updated(size)
            getattr(self.transport, what)()

    async def main() -> None:
        async with connected(Brief(1000), make) as pair:
            await pair.send(bytes(5000))
            await pair.lost()
            assert len(pair.protocol.received) == 1000
            assert pair.protocol.error is None

    run(main())


def test_end_while_both_directions_are_ready(run):
    """The loop has named the socket for reading and writing when its transport ends."""

    class Brief(Recorder):
        def buffer_updated(self, size: int) -> None:
            self.transport.abort()

    async def main() -> None:
        async with connected(Brief()) as pair:
            pair.transport.write(LARGE)
            await pair.send(b"!")
            pair.client.recv(MIB)
            await pair.lost()
            assert pair.protocol.events == ["made", "pause", "lost"]

    run(main())


def test_end_while_it_stands_in_line_to_read(run):
    async def main() -> None:
        shared = SharedByTransports(asyncio.get_running_loop())
        async with connected(None, unix_pair, shared) as pair:
            await pair.send(b"never read")
            shared._reads_left = 0
            assert not shared.may_read(pair.transport)
            pair.transport.abort()
            await turns()
            assert not pair.protocol.received
            assert pair.protocol.events == ["made", "lost"]

    run(main())


# Connections that break.


async def idle(pair: Clear) -> None:
    """Nothing is on its way."""


async def writing(pair: Clear) -> None:
    pair.transport.write(LARGE)


async def writing_while_paused(pair: Clear) -> None:
    pair.transport.pause_reading()
    pair.transport.write(LARGE)


async def writing_and_closing(pair: Clear) -> None:
    pair.transport.write(LARGE)
    pair.transport.close()


async def writing_the_last(pair: Clear) -> None:
    pair.transport.write(LARGE)
    pair.transport.write_eof()


async def lingering(pair: Clear) -> None:
    pair.transport.write_eof()


async def answering_behind_the_end(pair: Clear) -> None:
    pair.protocol.keeping = True
    pair.client.shutdown(socket.SHUT_WR)
    await until(lambda: "eof" in pair.protocol.events)
    pair.transport.write(LARGE)


async def behind_data(pair: Clear) -> None:
    await pair.send(b"last words")


async def behind_data_when_paused_with_output(pair: Clear) -> None:
    pair.protocol.pausing = True
    pair.transport.write(LARGE)
    await pair.send(b"last words")


STATES = [
    *(idle, writing, writing_while_paused, writing_and_closing, writing_the_last, lingering),
    *(answering_behind_the_end, behind_data, behind_data_when_paused_with_output),
]


@pytest.mark.parametrize("state", STATES)
def test_reset(run, state):
    """It is noticed without anything being sent, and without reading if output waits."""

    async def main() -> None:
        async with connected() as pair:
            await state(pair)
            reset(pair.client)
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionError)
            assert "resume" not in pair.protocol.events

    run(main())


@pytest.mark.parametrize("turns_between", [0, 1, 2, 5])
@pytest.mark.parametrize("paused", [False, True])
def test_reset_right_behind_data(run, paused, turns_between):
    """uvloop says only once that there is something, and that may be the data."""

    async def main() -> None:
        async with connected(Recorder(pausing=paused)) as pair:
            await pair.send(b"last words")
            await turns(turns_between)
            reset(pair.client)
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionResetError)
            assert pair.protocol.events == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("what", ["write", "close", "pause and resume", "write_eof"])
def test_reset_right_behind_data_meets_what_follows(run, what):
    """The loop watches no longer then, and uvloop's would raise if it was asked to."""

    async def main() -> None:
        async with connected() as pair:
            await pair.send(b"last words")
            reset(pair.client)
            while not pair.protocol.received:
                await asyncio.sleep(0)
            if what == "write":
                pair.transport.write(b"anybody there?")
            elif what == "pause and resume":
                pair.transport.pause_reading()
                pair.transport.resume_reading()
            else:
                getattr(pair.transport, what)()
            await pair.lost()
            assert pair.protocol.error is None or what != "close"
            assert pair.protocol.events == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("what", ["write", "close", "write_eof", "resume_reading"])
def test_reset_while_reading_is_paused(run, what):
    """Nobody hears of it until something is done."""

    async def main() -> None:
        async with connected() as pair:
            pair.transport.pause_reading()
            reset(pair.client)
            await turns()
            assert not pair.protocol.lost.is_set()
            getattr(pair.transport, what)(*[b"anybody there?"] if what == "write" else [])
            await pair.lost()
            if what != "close":
                assert isinstance(pair.protocol.error, OSError)

    run(main())


def test_unix_peer_that_leaves_without_reading(run):
    """What TCP says by RST, of the side that has sent."""

    async def main() -> None:
        async with connected(None, unix_pair) as pair:
            pair.transport.write(b"unread")
            await pair.send(b"last words")
            pair.client.close()
            await pair.lost()
            assert isinstance(pair.protocol.error, ConnectionError)

    run(main())


@pytest.mark.parametrize("callback", ["buffer_updated", "eof_received"])
def test_mistake_of_the_protocol_ends_the_connection_and_is_told_once(run, callback, caplog):
    def mistake(*_: Any) -> Any:
        raise ValueError("mistake")

    async def main() -> None:
        protocol = Recorder()
        setattr(protocol, callback, mistake)
        async with connected(protocol) as pair:
            await pair.send(b"anything")
            pair.client.shutdown(socket.SHUT_WR)
            await pair.lost()

    run(main())
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]
    caplog.clear()


class FullLoop:
    """Watches no further socket: the kernel has no room for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_reader(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_socket_that_the_loop_cannot_watch_is_lost(run):
    """The protocol, which has begun by then, hears of its end."""

    async def main() -> None:
        pair = Clear(Recorder())
        loop: Any = FullLoop(pair.loop)
        transport = SocketTransport(loop, pair.sock, SharedByTransports(pair.loop))
        with pair.client:
            with pytest.raises(OSError, match="no space left"):
                transport.start(pair.protocol)
            await pair.lost()
        assert pair.protocol.events == ["made", "lost"]

    run(main())


def test_mistake_of_the_protocol_at_the_start_aborts(run):
    class Mistaken(Recorder):
        def connection_made(self, transport: Any) -> None:
            raise ValueError("mistake")

    async def main() -> None:
        pair = Clear(Mistaken())
        with pair.client:
            with pytest.raises(ValueError, match="mistake"):
                pair.transport.start(pair.protocol)
            await pair.lost()

    run(main())
