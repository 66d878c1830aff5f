"""Clients that ask all the time, and know what became of each request and on which connection."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apps.letters import HANG
from h2client import H2Client
from serving import _Target

STREAMS = 5
"""Requests at a time on one connection of HTTP/2."""

PAUSE = 0.01
"""Seconds between them: the load is steady, and no benchmark."""

BODY = bytes(1000)
"""Of every other request, which is a POST."""

REFUSED_STREAM = 7

_LOSS = (OSError, http.client.HTTPException)
"""What the end of a connection looks like."""


@dataclass(eq=False, slots=True)
class Asked:
    """A request, told from others by ``name``; ``port`` is the client's end of its connection.

    ``over`` is when it was answered, or when the client saw that it would not be. One that the
    server says it has not processed (RFC 9113 section 8.7) is asked again by another name.
    """

    name: str
    port: int
    sent: float
    over: float = 0.0
    outcome: Literal["", "answered", "not processed", "failed"] = ""
    error: str = ""


class Steady:
    """``connections`` to ``target`` at a time of each protocol, from entering to leaving."""

    def __init__(self, target: _Target, connections: int = 3) -> None:
        self.asked: list[Asked] = []
        self.refused: list[OSError] = []
        """Connections that could not be opened."""
        self._target = target
        self._names = itertools.count()
        self._over = threading.Event()
        asks = [self._ask_http1, self._ask_http2] * connections
        self._threads = [threading.Thread(target=self._ask, args=(ask,)) for ask in asks]

    def __enter__(self) -> Steady:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self) -> None:
        """Wait until each connection has had one that it has asked for since."""
        since, deadline = time.monotonic(), time.monotonic() + HANG
        while len(self._ports_answered(since)) < len(self._threads):
            assert time.monotonic() < deadline
            time.sleep(PAUSE)

    def _ports_answered(self, since: float) -> set[int]:
        return {asked.port for asked in self.with_outcome("answered") if asked.sent > since}

    def with_outcome(self, outcome: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.outcome == outcome]

    def _ask(self, ask) -> None:
        while not self._over.is_set():
            try:
                sock = self._target.connect("http/1.1" if ask == self._ask_http1 else "h2")
            except OSError as error:
                self.refused.append(error)
                time.sleep(PAUSE)
                continue
            with sock, contextlib.suppress(*_LOSS):
                ask(sock, sock.getsockname()[1])

    def _next(self, port: int) -> Asked:
        asked = Asked(f"n{next(self._names)}", port, time.monotonic())
        self.asked.append(asked)
        return asked

    @contextlib.contextmanager
    def _noting(self, port: int, count: int) -> Iterator[list[Asked]]:
        """Begin ``count`` requests; what has no outcome in the end has failed."""
        batch = [self._next(port) for _ in range(count)]
        error = "it has closed"
        try:
            yield batch
        except _LOSS as caught:
            error = repr(caught)
            raise
        finally:
            for asked in batch:
                asked.over = time.monotonic()
                if not asked.outcome:
                    asked.outcome, asked.error = "failed", asked.error or error

    def _ask_http1(self, sock, port: int) -> None:
        while not self._over.is_set():
            goes_on = False
            with self._noting(port, 1) as (asked,):
                sock.sendall(self._http1_request(asked))
                response = http.client.HTTPResponse(sock)
                response.begin()
                response.read()
                if response.status == 200:
                    asked.outcome = "answered"
                    goes_on = not response.will_close
                else:
                    asked.error = str(response.status)
                response.close()
            if not goes_on:
                return
            time.sleep(PAUSE)

    def _http1_request(self, asked: Asked) -> bytes:
        head = f"/?{asked.name} HTTP/1.1\r\nhost: localhost\r\n"
        if _is_get(asked):
            return f"GET {head}\r\n".encode()
        return f"POST {head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY

    def _ask_http2(self, sock, port: int) -> None:
        client = H2Client(sock)
        while not (self._over.is_set() or client.goaways or client.closed):
            self._ask_at_once(client, port)
            time.sleep(PAUSE)

    def _ask_at_once(self, client: H2Client, port: int) -> None:
        streams: dict[int, Asked] = {}
        with self._noting(port, STREAMS) as batch:
            try:
                for asked in batch:
                    streams[client.h2.get_next_available_stream_id()] = asked
                    _start(client, asked)
                while not client.closed and not all(client.responses[id].over for id in streams):
                    client.read()
            finally:
                _conclude(client, streams)
                for asked in batch[len(streams) :]:
                    asked.outcome = "not processed"  # nor sent


def _start(client: H2Client, asked: Asked) -> None:
    if _is_get(asked):
        client.start(f"/?{asked.name}")
    else:
        client.send(
            client.start(f"/?{asked.name}", "POST", end_stream=False), BODY, end_stream=True
        )


def _conclude(client: H2Client, streams: dict[int, Asked]) -> None:
    last = min((last for last, _ in client.goaways), default=2**31 - 1)
    for stream_id, asked in streams.items():
        response = client.responses.get(stream_id)
        if response is not None and response.ended and response.status == 200:
            asked.outcome = "answered"
        elif stream_id > last or (response is not None and response.reset == REFUSED_STREAM):
            asked.outcome = "not processed"
        elif response is not None and response.over:
            asked.error = f"status {response.status}, reset {response.reset}"


def _is_get(asked: Asked) -> bool:
    return int(asked.name[1:]) % 2 == 0
