"""What the inspector costs: ``python -m benchmarks.inspector``.

Requests in a second of CPU time, on the whole path without sockets as in ``benchmarks.driver``:
without an inspector, with one that nobody looks at, and with a page open, which is told of all
that is recorded. Each is measured in turn, so that a machine that drifts does so for all.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

from h2asgi.connection import Connection, ServerState
from h2asgi.inspector.news import News
from h2asgi.inspector.recorder import TICK, Recorder
from h2asgi.process import new_event_loop

from .apps.plain import app
from .driver import ROWS, Defaults, Row, Transport

WARM_UP = 1.0
"""Seconds of CPU time before it counts: the first burst of requests is recorded whole."""

MODES = ("off", "nobody looks", "a page is open")


class Clock:
    """A loop's clock that goes by CPU time, and calls what is due when it is asked to.

    Recording has its bounds by time. Others who use the machine would give it more of them for the
    same work.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.time = time.process_time

    def call_later(self, delay: float, callback: Callable[[], None]) -> Clock:
        self._due.append((self.time() + delay, callback))
        return self

    def call_soon(self, callback: Callable[[], None]) -> Clock:
        return self.call_later(0, callback)

    def cancel(self) -> None:
        self._due.clear()

    def look(self) -> None:
        now = self.time()
        due = [callback for at, callback in self._due if at <= now]
        if due:
            self._due = [later for later in self._due if later[0] > now]
            for callback in due:
                callback()


async def measure(row: Row, reads: list[bytes], mode: str, seconds: float) -> float:
    """Serve the same requests again and again, on connections one after another."""
    state = ServerState(
        app=cast(Any, app),
        config=row.config,
        loop=asyncio.get_running_loop(),
        default_headers=Defaults(),
    )
    clock = Clock()
    recorder = None if mode == "off" else Recorder(state, cast(Any, clock))
    news = None
    if recorder is not None and mode == "a page is open":
        recorder.join()
        news = News(recorder)
    served, octets, began, told = 0, 0, 0.0, 0.0
    start = clock.time() + WARM_UP
    while (now := clock.time()) < start + seconds:
        if now >= start and not began:
            began, served = now, 0
        served += await _connection(state, row, reads, clock)
        if news is not None and clock.time() >= told + TICK:
            told = clock.time()
            octets += len(news.take().encode())
    rate = served / (clock.time() - began)
    if recorder is not None:
        assert recorder.recording is (octets > 0)
        recorder.stop()
    return rate


async def _connection(state: ServerState, row: Row, reads: list[bytes], clock: Clock) -> int:
    connection = Connection(state, tls=False, server=("127.0.0.1", 8000), lost=lambda: None)
    transport = Transport()
    connection.connection_made(transport)
    buffer = connection.get_buffer(-1)
    for data in reads:
        size, written = len(data), transport.written
        buffer[:size] = data
        connection.buffer_updated(size)
        while state.in_work or transport.written == written:
            await asyncio.sleep(0)
        clock.look()
    connection.connection_lost(None)
    return row.work.batch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspector", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--row", choices=ROWS, action="append")
    options = parser.parse_args()
    loop = new_event_loop("auto")
    gc.collect()
    gc.freeze()
    for name in options.row or ROWS:
        row, reads = ROWS[name], ROWS[name].reads()
        rates: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(options.rounds):
            for mode in MODES:
                run = measure(row, reads, mode, options.seconds)
                rates[mode].append(loop.run_until_complete(run))
        off = statistics.median(rates["off"])
        for mode in MODES:
            rate = statistics.median(rates[mode])
            print(f"{name:32} {mode:16} {rate:9,.0f} req/s {rate / off - 1:+7.1%}", flush=True)
    loop.close()


if __name__ == "__main__":
    main()
