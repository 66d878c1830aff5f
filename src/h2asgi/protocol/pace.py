"""Whether a transfer moves, as seen by a coarse look now and then.

No transfer has a timer. Whoever watches some looks at all of them every
``interval`` seconds, or later, and only while one is waited for. What did not
move over so many looks in a row has waited for as long as it was allowed, and
for up to a quarter longer, because it may have moved right after a look. Looks
are counted rather than seconds: an application that blocks the loop for minutes,
with the peer's octets unread in the kernel, costs the peer one look.
"""

from __future__ import annotations

from math import ceil, inf
from typing import Final

LOOKS: Final = 4
"""In the shortest time that is watched."""

SHORTEST_STRETCH = 30.0  # not Final, which would compile it in: tests shorten it
"""Seconds over which the rate of a transfer is judged at the least: a phone that changes cells, or
a peer that collects its garbage, may be away for ten. It is longer where the time-out is, or the
rate would cut that short."""


class Pace:
    """What is asked of the transfers of one direction.

    ``timeout`` is how many seconds nothing may move, ``rate`` how many octets a
    second are to; 0 asks for neither.
    """

    __slots__ = ("rate", "stretch", "timeout")

    def __init__(self, timeout: float, rate: float) -> None:
        self.timeout = timeout
        self.rate = rate
        self.stretch = max(timeout, SHORTEST_STRETCH)

    @property
    def interval(self) -> float:
        """Seconds between looks that are close enough; infinite when nothing is asked."""
        if self.timeout:
            return self.timeout / LOOKS
        return self.stretch / LOOKS if self.rate else inf


class Transfer:
    """Octets in one direction, from the first look at which they were waited for.

    It begins anew, as another object, whenever they are not.
    """

    __slots__ = ("_at_stretch_start", "_looks", "_still", "_total")

    def __init__(self) -> None:
        self._total: int | None = None  # before the first look
        self._at_stretch_start = 0
        self._looks = self._still = 0

    def look(self, total: int, pace: Pace, interval: float, *, rated: bool) -> str:
        """Give what is wrong with it, or nothing, now that ``total`` octets have moved in all."""
        if self._total is None:
            self._total = self._at_stretch_start = total
            return ""
        self._looks += 1
        self._still = 0 if total != self._total else self._still + 1
        self._total = total
        if pace.timeout and self._still >= ceil(pace.timeout / interval):
            return "nothing moved for too long"
        if not (rated and pace.rate) or self._looks < ceil(pace.stretch / interval):
            return ""
        least = pace.rate * self._looks * interval
        moved = total - self._at_stretch_start
        self._looks = 0
        self._at_stretch_start = total
        return "slower than the minimum transfer rate" if moved < least else ""
