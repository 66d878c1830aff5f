"""The transport in the clear: octets in both directions, pauses, turns, half-closed connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from clear_peer import connected, unix_pair
from tls_peer import HANG, LARGE, MIB, Recorder, turns, until

from h2asgi.shared_by_transports import READS_PER_TURN, SharedByTransports
from h2asgi.socket_transport import MAX_BACKLOG_PIECES

pytestmark = pytest.mark.usefixtures("no_complaints")


def test_extra_info(run):
    async def main() -> None:
        async with connected() as pair:
            info = pair.transport.get_extra_info
            assert info("socket") is pair.sock
            assert info("peername") == pair.client.getsockname()
            assert info("ssl_object") is None
            assert info("compression", "none") == "none"
            assert pair.transport.can_write_eof()
            pair.transport.abort()
            assert info("peername") is None

    run(main())


# Octets in both directions.


def test_both_ways(run, make):
    async def main() -> None:
        async with connected(None, make) as pair:
            assert pair.protocol.events == ["made"]
            await pair.send(b"ping")
            await until(lambda: pair.protocol.received == b"ping")
            pair.transport.write(b"")
            pair.transport.write(b"pong")
            assert pair.transport.get_write_buffer_size() == 0
            assert await pair.receive() == b"pong"

    run(main())


def test_more_than_the_socket_takes(run, make):
    """The reader is slow: the protocol is paused and resumed at the marks."""

    async def main() -> None:
        async with connected(None, make) as pair:
            pair.transport.set_write_buffer_limits(high=100_000)
            pair.transport.write(LARGE)
            pair.transport.write(b"the end")
            assert pair.protocol.events == ["made", "pause"]
            read = bytearray()
            while "resume" not in pair.protocol.events:
                assert pair.transport.get_write_buffer_size() > 25_000
                read += await pair.receive(10_000)
            assert pair.transport.get_write_buffer_size() <= 25_000
            read += await pair.receive_exactly(len(LARGE) + 7 - len(read), 10_000)
            assert read == LARGE + b"the end"
            assert pair.protocol.events == ["made", "pause", "resume"]
            assert pair.transport.get_write_buffer_size() == 0

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1000, 7777, 300_000])
def test_any_chunking_arrives_to_the_octet(run, make, kind, size):
    """More pieces wait than are kept apart, and what waits is neither lost nor doubled."""

    async def main() -> None:
        async with connected(None, make) as pair:
            for start in range(0, len(LARGE), size):
                pair.transport.write(kind(LARGE[start : start + size]))
                assert len(pair.transport._backlog) <= MAX_BACKLOG_PIECES
            assert await pair.receive_exactly(len(LARGE)) == LARGE
            await turns()
            assert pair.transport.get_write_buffer_size() == 0
            pair.transport.write(b"at once again")
            assert pair.transport.get_write_buffer_size() == 0
            assert await pair.receive() == b"at once again"

    run(main())


def test_what_waits_is_kept_as_it_was_given(run):
    async def main() -> None:
        async with connected() as pair:
            pair.transport.write(LARGE)
            pair.transport.write(LARGE)
            assert [piece.obj is LARGE for piece in pair.transport._backlog] == [True, True]

    run(main())


def test_mark_below_what_waits_pauses_at_once(run):
    """As asyncio's do: whoever sets it to 0 is told when everything is with the kernel."""

    async def main() -> None:
        async with connected() as pair:
            pair.transport.set_write_buffer_limits(high=len(LARGE))
            pair.transport.write(LARGE)
            assert pair.protocol.events == ["made"]
            pair.transport.set_write_buffer_limits(high=0)
            assert pair.protocol.events == ["made", "pause"]
            assert await pair.receive_exactly(len(LARGE)) == LARGE
            await until(lambda: "resume" in pair.protocol.events)
            assert pair.transport.get_write_buffer_size() == 0

    run(main())


def test_protocol_that_writes_whenever_it_may(run):
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
        async with connected(Source()) as pair:
            pair.protocol.go_on()
            read = await pair.receive_all()
            assert read == b"".join(left.to_bytes() * 50_000 for left in range(99, -1, -1))

    run(main())


@pytest.mark.parametrize("buffer_size", [1000, 256 * 1024])
@pytest.mark.parametrize("pausing", [False, True])
def test_upload(run, make, buffer_size, pausing):
    async def main() -> None:
        size = MIB if buffer_size > 1000 else 100_000
        async with connected(Recorder(buffer_size, pausing=pausing), make) as pair:
            sending = asyncio.create_task(pair.send(LARGE[:size]))
            async with asyncio.timeout(HANG):
                while len(pair.protocol.received) < size:
                    pair.transport.resume_reading()
                    await asyncio.sleep(0)
            await sending
            assert pair.protocol.received == LARGE[:size]

    run(main())


def test_pause_within_the_delivery_of_input_stops_reading(run):
    async def main() -> None:
        async with connected(Recorder(1000, pausing=True)) as pair:
            await pair.send(LARGE[:2500])
            pair.client.close()
            for received in (1000, 2000, 2500):
                await until(lambda: pair.protocol.received)
                await turns()
                assert len(pair.protocol.received) == received
                assert pair.protocol.events == ["made"]  # the end waits, too
                pair.transport.resume_reading()
                await turns(2)
            await pair.lost()
            assert pair.protocol.events == ["made", "eof", "lost"]

    run(main())


def test_pause_before_the_start_of_reading(run):
    class Patient(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        async with connected(Patient()) as pair:
            await pair.send(b"later")
            await turns()
            assert not pair.protocol.received
            pair.transport.resume_reading()
            await until(lambda: pair.protocol.received == b"later")

    run(main())


@pytest.mark.parametrize("resumed", ["before its turn", "after its turn"])
def test_pause_while_it_stands_in_line_to_read(run, resumed):
    async def main() -> None:
        shared = SharedByTransports(asyncio.get_running_loop())
        async with connected(None, unix_pair, shared) as pair:
            await pair.send(b"once")
            shared._reads_left = 0
            assert not shared.may_read(pair.transport)
            pair.transport.pause_reading()
            if resumed == "after its turn":
                await turns()
                assert not pair.protocol.received
            pair.transport.resume_reading()
            await until(lambda: pair.protocol.received == b"once")
            await pair.send(b", twice")
            await until(lambda: pair.protocol.received == b"once, twice")

    run(main())


def test_one_piece_each_turn(run):
    """However much has come, the others get their turn."""

    async def main() -> None:
        pieces = []

        class Pieces(Recorder):
            def buffer_updated(self, size: int) -> None:
                super().buffer_updated(size)
                pieces.append(size)
                asyncio.get_running_loop().call_soon(pieces.append, 0)

        async with connected(Pieces(1000)) as pair:
            await pair.send(LARGE[:50_000])
            await until(lambda: sum(pieces) == 50_000)
            await turns(2)
        assert pieces == [1000, 0] * 50

    run(main())


def test_turns_at_reading(run):
    """Of many that have input at once, some are read and answered before the next."""

    async def main() -> None:
        order: list[str] = []

        class Answering(Recorder):
            def buffer_updated(self, size: int) -> None:
                order.append("read")
                asyncio.get_running_loop().call_soon(order.append, "answer")

        shared = SharedByTransports(asyncio.get_running_loop())
        async with contextlib.AsyncExitStack() as stack:
            count = 2 * READS_PER_TURN + 1
            for _ in range(count):
                pair = await stack.enter_async_context(
                    connected(Answering(), unix_pair, shared, start=False)
                )
                pair.client.send(b"!")
                pair.transport.start(pair.protocol)
            await until(lambda: len(order) == 2 * count)
        assert order == [
            *["read"] * READS_PER_TURN,
            *["answer"] * READS_PER_TURN,
            *["read"] * READS_PER_TURN,
            *["answer"] * READS_PER_TURN,
            *["read", "answer"],
        ]

    run(main())


# Half-closed connections.


def test_end_of_the_peer_is_the_end(run, make):
    async def main() -> None:
        async with connected(None, make) as pair:
            await pair.send(b"last words")
            pair.client.close()
            await pair.lost()
            assert pair.protocol.received == b"last words"
            assert pair.protocol.events == ["made", "eof", "lost"]
            assert pair.protocol.error is None

    run(main())


def test_peer_that_has_ended_its_side_gets_the_answer(run, make):
    async def main() -> None:
        async with connected(Recorder(keeping=True), make) as pair:
            await pair.send(b"question")
            pair.client.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in pair.protocol.events)
            # The end has been read: there is nothing to pause, and nothing to go on with.
            pair.transport.pause_reading()
            pair.transport.resume_reading()
            assert not pair.loop.remove_reader(pair.fd)
            pair.transport.write(LARGE)
            assert await pair.receive_exactly(len(LARGE)) == LARGE
            assert not pair.transport.is_closing()
            pair.transport.close()
            assert await pair.receive() == b""
            await pair.lost()
            assert "pause" in pair.protocol.events
            assert pair.protocol.events.count("eof") == 1

    run(main())


def test_what_waits_at_the_end_of_the_peer_is_sent_although_it_is_not_kept(run, make):
    async def main() -> None:
        async with connected(None, make) as pair:
            pair.transport.write(LARGE)
            pair.client.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in pair.protocol.events)
            assert pair.transport.is_closing()
            assert await pair.receive_all() == LARGE
            await pair.lost()
            assert pair.protocol.error is None

    run(main())


@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_linger(run, make, size):
    """What was written and FIN go out; input goes on until the end of the connection."""

    async def main() -> None:
        async with connected(None, make) as pair:
            pair.transport.write(LARGE[:size])
            pair.transport.write_eof()
            pair.transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                pair.transport.write(b"too late")
            assert await pair.receive_all() == LARGE[:size]
            assert not pair.transport.is_closing()
            await pair.send(b"still talking")
            await until(lambda: pair.protocol.received == b"still talking")
            pair.transport.close()
            await pair.lost()
            assert "eof" not in pair.protocol.events

    run(main())


def test_both_sides_end_one_after_the_other(run, make):
    async def main() -> None:
        async with connected(Recorder(keeping=True), make) as pair:
            pair.transport.write_eof()
            assert await pair.receive() == b""
            pair.client.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in pair.protocol.events)
            assert not pair.protocol.lost.is_set()
            pair.transport.close()
            await pair.lost()
            assert pair.protocol.error is None

    run(main())
