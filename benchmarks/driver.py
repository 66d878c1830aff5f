"""The whole path without sockets: ``python -m benchmarks.driver``.

Microseconds of CPU time of a request from ``buffer_updated`` to ``transport.write``, the least
of some repeats: driver, engine, cycle, task and application, on a real event loop, without
kernel and TLS. As many requests as are in flight on a connection come in one read.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from dataclasses import dataclass
from typing import Any, cast

from h2asgi.config import Config, HTTP1Config, HTTP2Config
from h2asgi.connection import Connection, ServerState
from h2asgi.process import new_event_loop

from .apps.plain import app
from .engines import KIB, Client, Work, http1_client, http2_client


class Defaults:
    def __init__(self) -> None:
        self.fields = [(b"server", b"h2asgi"), (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]


class Transport(asyncio.Transport):
    """Takes everything; ``written`` is how often."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000)})
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """Requests of one kind, ``together`` of which come in one read."""

    config: Config
    client: Client
    work: Work
    together: int

    def reads(self) -> list[bytes]:
        requests = list(self.client(self.work, self.work.batch))
        starts = range(0, len(requests), self.together)
        return [b"".join(requests[start : start + self.together]) for start in starts]


HELLO = Work("hello", 4000)
POST = Work("10 KB POST", 1000, sent=10 * KIB, target="/post")
HTTP1 = Config(http2=HTTP2Config(enabled=False))
HTTP2 = Config(http1=HTTP1Config(enabled=False))
ROWS = {
    "HTTP/2 hello, ten together": Row(HTTP2, http2_client, HELLO, 10),
    "HTTP/2 hello, one by one": Row(HTTP2, http2_client, HELLO, 1),
    "HTTP/2 10 KB POST, ten together": Row(HTTP2, http2_client, POST, 10),
    "HTTP/1.1 hello": Row(HTTP1, http1_client, HELLO, 1),
    "HTTP/1.1 10 KB POST": Row(HTTP1, http1_client, POST, 1),
}


async def measure(row: Row, reads: list[bytes]) -> float:
    """Serve all requests on one connection; gives the microseconds of each."""
    state = ServerState(
        app=cast(Any, app),
        config=row.config,
        loop=asyncio.get_running_loop(),
        default_headers=Defaults(),
    )
    connection = Connection(state, tls=False, server=("127.0.0.1", 8000), lost=lambda: None)
    transport = Transport()
    connection.connection_made(transport)
    buffer = connection.get_buffer(-1)
    start = time.process_time()
    for data in reads:
        size, written = len(data), transport.written
        buffer[:size] = data
        connection.buffer_updated(size)
        while state.in_work or transport.written == written:
            await asyncio.sleep(0)
    return (time.process_time() - start) / row.work.batch * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--row", choices=ROWS, action="append")
    options = parser.parse_args()
    loop = new_event_loop("auto")
    gc.collect()
    gc.freeze()
    for name in options.row or ROWS:
        row, reads = ROWS[name], ROWS[name].reads()
        figures = [loop.run_until_complete(measure(row, reads)) for _ in range(options.repeats)]
        print(f"{name:32} {min(figures):6.1f} us", flush=True)
    loop.close()


if __name__ == "__main__":
    main()
