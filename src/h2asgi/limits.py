"""Budgets: what many connections may hold together, and what one peer may do in a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

UNREAD_BODIES: Final = 256 * 1024 * 1024
"""Octets of unread HTTP/2 request bodies of a whole process above which no window is larger than at
first: what 16 connections with the largest windows hold, or a thousand with one upload each."""


UNSENT: Final = 256 * 1024 * 1024
"""Octets of responses that wait for their clients, of a whole process: what sixteen clients hold
that ask for all they may and take nothing, or some thousands with a slow download each."""


class Budget:
    """An amount that is used by many and counted in one place; it tells, it does not forbid.

    Who holds something adds it to ``used``, and takes it away again.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def exhausted(self) -> bool:
        """Whether as much as ``limit`` is used, or more."""
        return self.used >= self.limit


class WatchedBudget(Budget):
    """One whose owner is called for whatever is added while it is exhausted."""

    __slots__ = ("on_exhausted",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.on_exhausted: Callable[[], None] | None = None

    def add(self, amount: int) -> None:
        """Count ``amount`` more."""
        self.used += amount
        if self.used >= self.limit and self.on_exhausted is not None:
            self.on_exhausted()


class RateBudget:
    """How often something may happen: ``burst`` times at once, ``per_second`` in the long run.

    A bucket of tokens that is filled up when somebody asks. Time is an argument,
    in seconds on any clock; one that stands still or runs backwards fills nothing.
    """

    __slots__ = ("_burst", "_filled_at", "_left", "_per_second")

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = self._left = burst
        self._per_second = per_second
        self._filled_at = 0.0

    def consume(self, now: float, amount: float = 1) -> bool:
        """Take ``amount`` of what is left; False, and nothing is taken, when there is less."""
        elapsed = now - self._filled_at
        if elapsed > 0:
            self._left = min(self._burst, self._left + elapsed * self._per_second)
            self._filled_at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
