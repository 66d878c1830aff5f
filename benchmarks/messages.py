"""WebSocket echoes through driver, engine, codec and cycle: ``python -m benchmarks.messages``.

Microseconds of CPU time of one message in and the same one out, the least of some
repeats, with the event loop and the application of the other benchmarks but no
socket. What a client sends at once arrives in as few reads as the buffer allows.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from h2asgi.config import Config
from h2asgi.connection import READ_BUFFER_SIZE, Connection, ServerState
from h2asgi.process import keep_freed_memory

from .apps import plain
from .driver import Transport
from .echoes import HANDSHAKE, answer_size, frame

KIB = 1024


@dataclass(frozen=True)
class Work:
    """``messages`` of ``size`` octets that a client sends at once, ``batches`` times."""

    messages: int
    size: int
    batches: int

    def __str__(self) -> str:
        size = f"{self.size} B" if self.size < KIB else f"{self.size // KIB} KiB"
        return f"{self.messages} x {size}"


WORKS = Work(1, 64, 1000), Work(10, 64, 200), Work(100, 64, 20), Work(4, 64 * KIB, 20)


class Peer(Transport):
    """A client and the transport to it: sends the next batch when the last has come back."""

    def __init__(self, work: Work, done: asyncio.Future[None]) -> None:
        super().__init__()
        batch = frame(work.size) * work.messages
        size = READ_BUFFER_SIZE
        self._reads = [batch[start : start + size] for start in range(0, len(batch), size)]
        self._answers = answer_size(work.size) * work.messages
        self._batches_left = work.batches
        self._missing = 0
        self._done = done
        self._loop = done.get_loop()
        self._connection: Connection

    def connect(self, connection: Connection) -> None:
        """Send the handshake; its answer is followed by the first batch."""
        self._connection = connection
        connection.connection_made(self)
        self._feed(HANDSHAKE)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._missing -= len(data)
        if self._missing > 0:
            return
        if self._batches_left:
            self._batches_left -= 1
            self._missing = self._answers
            self._loop.call_soon(self._send)
        elif not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        for data in self._reads:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._connection.get_buffer(-1)[: len(data)] = data
        self._connection.buffer_updated(len(data))


async def echo(work: Work) -> float:
    """CPU seconds of one message."""
    loop = asyncio.get_running_loop()
    state = ServerState(plain.app, Config(), loop, SimpleNamespace(fields=[]))
    connection = Connection(state, tls=False, server=("127.0.0.1", 80), lost=lambda: None)
    peer = Peer(work, loop.create_future())
    start = time.process_time()
    peer.connect(connection)
    await peer._done
    used = time.process_time() - start
    connection.connection_lost(None)
    while state.tasks:
        await asyncio.sleep(0)
    return used / (work.batches * work.messages)


def loops() -> dict[str, Any]:
    """The event loops that can be had."""
    found: dict[str, Any] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        print("uvloop is left out: it is not installed")
    else:
        found["uvloop"] = uvloop.new_event_loop
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.messages", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--loop", help="only this one")
    parser.add_argument("--work", type=int, choices=range(len(WORKS)), help="only this one")
    options = parser.parse_args()
    keep_freed_memory()
    columns = loops()
    if options.loop:
        columns = {options.loop: columns[options.loop]}
    works = WORKS if options.work is None else [WORKS[options.work]]
    print(f"{'microseconds':16}" + "".join(f"{name:>12}" for name in columns))
    for work in works:
        figures = []
        for factory in columns.values():
            with asyncio.Runner(loop_factory=factory) as runner:
                figures.append(min(runner.run(echo(work)) for _ in range(options.repeats)) * 1e6)
        print(f"{work!s:16}" + "".join(f"{figure:12.1f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
