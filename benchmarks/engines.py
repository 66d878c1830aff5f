"""The engines alone, in memory: ``python -m benchmarks.engines``.

Microseconds of CPU time of one request and its answer, the least of some repeats: what a
connection would do without sockets, TLS, event loop and application. The
client's frames are made beforehand, so that its time does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from hpack import Encoder

from h2asgi.config import HTTP1Config, HTTP2Config, Timeouts
from h2asgi.protocol.engine import Engine
from h2asgi.protocol.engines import ENGINES
from h2asgi.protocol.events import DataReceived, RequestEnded, RequestReceived

KIB, MIB = 1024, 1024 * 1024
READ_SIZE = 64 * KIB
"""Octets that the engine gets at a time, and asks for at a time."""

PIECE = bytes(64 * KIB)
"""What the application sends at a time."""

WINDOW = 2**31 - 1 - 65535
WINDOW_UPDATE = b"\0\0\4\x08\0\0\0\0\0" + WINDOW.to_bytes(4)
SETTINGS = b"\0\0\6\4\0\0\0\0\0" + b"\0\4" + (2**31 - 1).to_bytes(4)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS + WINDOW_UPDATE
MAX_FRAME = 16384
FIELDS = {"user-agent": "benchmark/1.0", "accept": "*/*", "accept-encoding": "gzip, deflate"}

Client = Callable[["Work", int], Iterator[bytes]]


@dataclass(frozen=True)
class Work:
    """One kind of request, ``batch`` of which are timed together on one connection."""

    name: str
    batch: int
    changing: bool = False
    sent: int = 0
    answered: int = 13
    target: str = "/"

    def path(self, number: int) -> str:
        return f"/items/{number}?page={number % 7}" if self.changing else self.target

    @property
    def method(self) -> str:
        return "POST" if self.sent else "GET"


WORKS = (
    Work("hello", 500),
    Work("changing paths", 500, changing=True),
    Work("10 KB POST", 200, sent=10 * KIB),
    Work("1 MB upload", 5, sent=MIB),
    Work("1 MB download", 5, answered=MIB),
)


def http1_client(work: Work, count: int) -> Iterator[bytes]:
    """The octets of each request."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items())
    length = f"content-length: {work.sent}\r\n" if work.sent else ""
    for number in range(count):
        head = f"{work.method} {work.path(number)} HTTP/1.1\r\nhost: a.example\r\n{fields}{length}"
        yield f"{head}\r\n".encode() + bytes(work.sent)


def http2_client(work: Work, count: int) -> Iterator[bytes]:
    """The octets of each request, the first with the preface; windows are never in the way."""
    encoder = Encoder()
    for number in range(count):
        pseudo = {":method": work.method, ":scheme": "https", ":authority": "a.example"}
        fields = [*pseudo.items(), (":path", work.path(number)), *FIELDS.items()]
        if work.sent:
            fields.append(("content-length", str(work.sent)))
        stream_id = 2 * number + 1
        frames = [b"" if number else PREFACE]
        end = 0 if work.sent else 1
        frames.append(_frame(1, 4 | end, stream_id, encoder.encode(fields)))
        for start in range(0, work.sent, MAX_FRAME):
            size = min(MAX_FRAME, work.sent - start)
            frames.append(_frame(0, int(start + size == work.sent), stream_id, bytes(size)))
        yield b"".join(frames)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream_id.to_bytes(4) + payload


@dataclass
class Server:
    """Answers the requests of one connection, as the driver and an application would."""

    engine: Engine
    work: Work
    answered: int = 0
    sent: int = 0
    headers: list[tuple[bytes, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        length = b"%d" % self.work.answered
        self.headers = [(b"content-type", b"text/plain"), (b"content-length", length)]

    def receive(self, request: memoryview) -> None:
        engine = self.engine
        for start in range(0, len(request), READ_SIZE):
            engine.receive_data(request[start : start + READ_SIZE], 0.0)
            self._take_events()
            self._flush()

    def _take_events(self) -> None:
        engine = self.engine
        for event in engine.take_events():
            if isinstance(event, DataReceived):
                engine.acknowledge_received_data(event.stream_id, len(event.data))
            elif isinstance(event, RequestEnded) or (
                isinstance(event, RequestReceived) and event.end_stream
            ):
                self._answer(event.stream_id)

    def _answer(self, stream_id: int) -> None:
        engine, left = self.engine, self.work.answered
        engine.send_headers(stream_id, 200, self.headers, False)
        while left > len(PIECE):
            left -= len(PIECE)
            engine.send_data(stream_id, PIECE, False)
            self._flush()
        engine.send_data(stream_id, PIECE[:left], True)
        self.answered += 1

    def _flush(self) -> None:
        while data := self.engine.data_to_send(READ_SIZE, 0.0):
            self.sent += len(data)


def microseconds(engine: Callable[[], Engine], client: Client, work: Work, repeats: int) -> float:
    """The least time of a request over ``repeats`` connections."""
    requests = [memoryview(request) for request in client(work, work.batch)]
    best = float("inf")
    for _ in range(repeats):
        server = Server(engine(), work)
        start = time.process_time()
        for request in requests:
            server.receive(request)
        best = min(best, time.process_time() - start)
        if server.answered != work.batch or server.sent < work.batch * work.answered:
            raise AssertionError(f"{server.engine.name}: {work.name}: not all was answered")
    return best / work.batch * 1e6


def engines() -> Iterator[tuple[str, Callable[[], Engine], Client]]:
    """Those that can be had, with the client for each; says which cannot."""
    protocols: dict[str, tuple[object, Client]] = {
        "http2": (HTTP2Config(), http2_client),
        "http1": (HTTP1Config(), http1_client),
    }
    for protocol, (config, client) in protocols.items():
        for name, load in ENGINES[protocol].items():
            try:
                kind: Callable[..., Engine] = load()
            except ImportError as error:
                print(f"{name} is left out: {error}")
                continue
            yield name, partial(kind, config, Timeouts(), 0.0), client


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    columns = list(engines())
    print(f"{'microseconds':16}" + "".join(f"{name:>12}" for name, _, _ in columns))
    for work in WORKS:
        figures = (microseconds(make, client, work, options.repeats) for _, make, client in columns)
        row = "".join(f"{figure:12.1f}" for figure in figures)
        print(f"{work.name:16}{row}", flush=True)


if __name__ == "__main__":
    main()
