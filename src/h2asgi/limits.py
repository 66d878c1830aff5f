"""Budgets: what many connections may hold together."""

from __future__ import annotations

UNREAD_BODIES = 256 * 1024 * 1024
"""Octets of unread HTTP/2 request bodies of a whole process above which no window is larger than at
first: what 16 connections with the largest windows hold, or a thousand with one upload each."""


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
