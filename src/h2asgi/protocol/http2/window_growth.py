"""How large receive windows are to be: as large as the way to a fast peer is long.

A window that is smaller than the bandwidth-delay product makes the peer wait
for credit in every round trip. Both are unknown, so one round trip is measured
now and then: a PING goes out with the credit, and what the application takes
until its acknowledgement comes is what one round trip delivers. When that fills
the window, and a window twice as large as the last time did bring more, it
doubles. The second condition ends it: once the way is full, whatever the window
has beyond that only queues on it, and longer round trips deliver more each.

Taken, not arrived: for an application that reads slowly nothing grows.
"""

from __future__ import annotations

from typing import Final

from ...config import HTTP2Config
from ...limits import Budget

MEASURING_PING: Final = b"h2asgi\x00\x02"

FASTER: Final = 1.25
"""How much more a second a doubled window must have brought to be doubled again. With less, the one
before it was four fifths of what the way holds."""

SHORTEST_ROUND_TRIP: Final = 0.001
"""Seconds. The clocks of event loops count in milliseconds, and may show none between events."""

FIRST_PAUSE: Final = 0.1
"""Seconds without a PING after a measurement that changed nothing; doubled after each other one."""

FRUITLESS_MEASUREMENTS: Final = 8
"""So many in a row, 12 s at the least, and it is over: the way is known, and some proxies
count PINGs. Windows that double 5 times cost no more than 40 in the life of a connection."""

_NEVER: Final = 2**63  # octets that nobody will ever take


class WindowGrowth:
    """The sizes of the windows of one connection, between their first and their largest.

    The first ones hold for everybody once ``budget`` is exhausted. The largest
    one of a stream is half of the connection's, so that no stream can take all of it.
    """

    __slots__ = (
        "_budget",
        "_connection_window",
        "_fruitless",
        "_largest",
        "_measuring_since",
        "_not_before",
        "_rate",
        "_stream_window",
        "enough",
        "first_connection_window",
        "first_stream_window",
        "half_connection_window",
        "taken",
    )

    def __init__(self, config: HTTP2Config, budget: Budget) -> None:
        self.first_stream_window = self._stream_window = config.stream_window
        self.first_connection_window = self._connection_window = config.connection_window
        self._largest = (
            max(config.stream_window, config.max_connection_window // 2),
            max(config.connection_window, config.max_connection_window),
        )
        self.half_connection_window = config.connection_window // 2
        """Half of the connection's window without a look at the budget."""
        self._budget = budget
        self.taken = 0
        """Octets that the application took since the last measurement began or ended."""
        self.enough = self._smallest_window if config.window_growth else _NEVER
        """How many of them there are to be before DATA that arrives calls ``begin``."""
        self._measuring_since: float | None = None  # while a PING is out
        self._not_before = 0.0
        self._rate = 0.0  # octets a second, when the windows grew last
        self._fruitless = 0

    @property
    def stream_window(self) -> int:
        """Octets that a stream may have on its way and unread, once it is read from."""
        return self.first_stream_window if self._budget.exhausted else self._stream_window

    @property
    def connection_window(self) -> int:
        """The same for the connection."""
        return self.first_connection_window if self._budget.exhausted else self._connection_window

    @property
    def _smallest_window(self) -> int:
        return min(self._stream_window, self._connection_window)

    def begin(self, due: int, now: float) -> bool:
        """Begin a measurement; True when a PING is to go out.

        A whole window was taken since the last one: small uploads measure
        nothing, and a window that has grown is in use by then. ``due`` is what
        the stream has taken without getting credit: it is to be next to
        nothing. Credit comes by half windows, so the octets of a round trip
        come in bursts, and one that begins in between misses a part of one.
        """
        if now < self._not_before or due * 8 > self._stream_window:
            return False
        self._measuring_since = now
        self.taken = 0
        self.enough = _NEVER
        return True

    def ping_acknowledged(self, now: float) -> None:
        """End a measurement; does nothing when the peer invents an acknowledgement."""
        if self._measuring_since is None:
            return
        rate = self.taken / max(now - self._measuring_since, SHORTEST_ROUND_TRIP)
        fills = self.taken * 3 > self._smallest_window * 2
        self._measuring_since = None
        self.taken = 0
        if fills and rate >= self._rate * FASTER and not self._budget.exhausted:
            self._rate = rate
            self._fruitless = 0
            self._grow()
        else:
            self._not_before = now + FIRST_PAUSE * 2**self._fruitless
            self._fruitless += 1
        if self._fruitless < FRUITLESS_MEASUREMENTS and self._grown != self._largest:
            self.enough = self._smallest_window

    def _grow(self) -> None:
        self._stream_window = min(self._stream_window * 2, self._largest[0])
        self._connection_window = min(self._connection_window * 2, self._largest[1])
        self.half_connection_window = self._connection_window // 2

    @property
    def _grown(self) -> tuple[int, int]:
        return self._stream_window, self._connection_window
