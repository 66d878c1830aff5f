"""The TLS transport: octets in both directions, pauses, buffers."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Any

import pytest
from tls_peer import HANG, LARGE, MIB, Pair, Recorder, connected, turns, until

from h2asgi.shared_by_transports import READ_SIZE
from h2asgi.tls_transport import MAX_READS, WRITE_SIZE

pytestmark = pytest.mark.usefixtures("no_complaints")

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


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


def test_small_writes_until_the_socket_takes_no_more(run, contexts):
    """Each goes out as a record of its own, until one does not fit as a whole."""

    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.set_write_buffer_limits(high=100_000)
            pieces = 0
            while "pause" not in pair.protocol.events:
                pair.transport.write(LARGE[pieces * 1000 : (pieces + 1) * 1000])
                pieces += 1
            read = bytearray()
            while len(read) < pieces * 1000:
                read += await pair.client.read(10_000)
            assert read == LARGE[: pieces * 1000]
            assert pair.protocol.events == ["made", "pause", "resume"]

    run(main())


def test_only_so_much_is_encrypted_before_the_socket_takes_it(run, contexts):
    async def main() -> None:
        async with connected(contexts) as pair:
            pair.transport.write(LARGE)
            assert len(pair.transport._unsent) < 1.1 * WRITE_SIZE
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
            assert turn <= MAX_READS * READ_SIZE

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_records_arrive_however_they_are_cut(run, contexts, seed):
    async def main() -> None:
        choice = random.Random(seed)
        async with connected(contexts) as pair:
            sent = bytearray()
            for _ in range(20):
                for _ in range(choice.randint(1, 3)):
                    data = choice.randbytes(choice.randint(1, 60))
                    pair.client.ssl.write(data)
                    sent += data
                records = pair.client.outgoing.read()
                cut = choice.choice((0, choice.randrange(len(records))))
                for piece in (records[:cut], records[cut:]):
                    await asyncio.get_running_loop().sock_sendall(pair.client.sock, piece)
                    await turns(2)
            await until(lambda: len(pair.protocol.received) == len(sent))
            assert pair.protocol.received == sent

    run(main())


def test_octets_within_a_record_that_look_like_a_record_of_their_own(run, contexts):
    """What a read begins with is a record's header only where the one before has ended."""

    async def main() -> None:
        size, found = 0, 0
        async with connected(contexts) as pair:
            while found < 3:
                pair.client.ssl.write(bytes(200))
                first = pair.client.outgoing.read()
                pair.client.ssl.write(b"next")
                records = first + pair.client.outgoing.read()
                size += 204
                cuts = [
                    cut
                    for cut in range(1, len(first) - 5)
                    if int.from_bytes(records[cut + 3 : cut + 5]) == len(records) - cut - 5
                ]
                found += len(cuts)
                cut = cuts[0] if cuts else 0
                for piece in filter(None, (records[:cut], records[cut:])):
                    await asyncio.get_running_loop().sock_sendall(pair.client.sock, piece)
                    await turns(2)
                await until(lambda size=size: len(pair.protocol.received) == size)

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
