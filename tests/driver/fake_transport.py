"""A loop, a clock and a transport that do nothing but what a test tells them to."""

from __future__ import annotations

import asyncio
from typing import Any

TURNS = 25
"""Turns of the loop after which nothing is left to do in any of these tests."""


class FakeLoop(asyncio.SelectorEventLoop):
    """Runs a turn at a time, under a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        self._timers: list[asyncio.TimerHandle] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    def turn(self) -> None:
        """Run what is ready now, and nothing that this makes ready."""
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self, turns: int = TURNS) -> None:
        for _ in range(turns):
            self.turn()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def timers_left(self) -> list[float]:
        """In how many seconds the timers that are set will fire."""
        return sorted(
            timer.when() - self.now
            for timer in self._timers
            if not timer.cancelled() and timer.when() > self.now
        )

    @property
    def timers_made(self) -> int:
        return len(self._timers)


class Negotiated:
    """What a ``TLSObject`` says after a handshake without a certificate of the client."""

    server_cert = covers = cipher_suites = None
    resumed = False

    def __init__(self, alpn: str | None) -> None:
        self._alpn = alpn

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> str:
        return "TLS_AES_128_GCM_SHA256"

    def alpn(self) -> str | None:
        return self._alpn

    def client_certificate(self) -> None:
        return None


class NoSocket:
    """Knows nothing of what the peer has acknowledged."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes | int]] = []

    def fileno(self) -> int:
        return -1

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        self.options.append((level, option, value))


class FakeTransport(asyncio.Transport):
    """Behaves as asyncio's do: writes are lost after close(), an error after write_eof().

    ``arrived`` is what the peer can read. While the transport is stalled, what is
    written stays in its buffer; abort() loses that, close() does not.
    """

    def __init__(self, loop: FakeLoop, protocol: Any, peername: Any, alpn: Any) -> None:
        tls = alpn is not False
        negotiated = Negotiated(alpn) if tls else None
        super().__init__({"peername": peername, "tls": negotiated, "socket": NoSocket()})
        self._loop = loop
        self._protocol = protocol
        self._tls = tls
        self._buffer = bytearray()
        self._stalled = False
        self._paused = False
        self._closing = False
        self._high = 64 * 1024
        self.arrived = bytearray()
        self.writes: list[int] = []  # the size of each
        self.reading = True
        self.write_eof_called = False
        self.aborted = False
        self.breaks = False  # at the next write
        self.stalls_at = 0  # the number of the write behind which the peer no longer reads
        self.lost = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: Any) -> None:
        assert data, "an empty write"
        if self.write_eof_called:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing:
            return
        self.writes.append(len(data))
        if self.breaks:
            self.abort()
            return
        self._buffer += data
        if len(self.writes) == self.stalls_at:
            self._stalled = True
        if not self._stalled:
            self._empty()
        elif len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def stall(self) -> None:
        """The peer no longer reads."""
        self._stalled = True

    def drain(self) -> None:
        """The peer reads again."""
        self._stalled = False
        self._empty()
        if self._closing:
            self._loop.call_soon(self._lose, None)
        elif self._paused:
            self._paused = False
            self._protocol.resume_writing()

    def take(self) -> bytes:
        """What has arrived since the last call."""
        data = bytes(self.arrived)
        self.arrived.clear()
        return data

    def _empty(self) -> None:
        self.arrived += self._buffer
        self._buffer.clear()

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        assert not self._tls
        self.write_eof_called = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer and not self._tls:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self.aborted = self._closing = True
        self._buffer.clear()
        self._loop.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self._closing = True
            self._protocol.connection_lost(error)

    def lose(self, error: Exception | None = None) -> None:
        """The connection breaks, or a TLS peer has answered close_notify."""
        self._lose(error)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
