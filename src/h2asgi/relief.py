"""Who gives way when the responses that wait for their clients fill their budget.

A client that asks for much and takes nothing of it makes the process hold up to a
queue for each of its streams. While the budget is used up, all connections are
looked at now and then, and those that take next to nothing of what waits for them
are cut off, the ones for which most waits first. A client that takes what waits for
it within a minute stays. As long as there are only such, the budget may be
exceeded; at ``HARD_LIMIT`` times its limit those for which most waits are cut off
whatever they take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from .connection import Connection
from .limits import WatchedBudget
from .tally import UNSENT_LIMIT, Tally

logger = logging.getLogger("h2asgi")

LOOK_INTERVAL = 0.5
"""Seconds between two looks at all connections, as long as the budget is used up."""

LOOKS = 4
"""In a row at which a connection took too little: a phone may say nothing for two seconds, and when
the loop was blocked, what clients have said meanwhile may not have been read yet."""

PATIENCE = 60.0
"""Seconds within which a client is to take what waits for it, at the rate that it has: as long as
one may take nothing at all (``--write-timeout``) when there is room enough."""

HARD_LIMIT = 2
"""Times the budget, above which who takes much gives way too."""


class Relief:
    """Owns what was seen at the last look. ``budget`` counts what waits for ``connections``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: set[Connection],
        budget: WatchedBudget,
        tally: Tally | None = None,
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._budget = budget
        self._tally = tally
        self._look_due: asyncio.Handle | None = None
        self._cut_due: asyncio.Handle | None = None
        self._taken: dict[Connection, int] = {}  # octets in all, at the last look
        self._slow: dict[Connection, int] = {}  # looks in a row, those of them that are any
        self._told = False  # since the budget was used up
        budget.on_exhausted = self._exhausted

    def stop(self) -> None:
        """Look no more."""
        self._budget.on_exhausted = None
        for handle in (self._look_due, self._cut_due):
            if handle is not None:
                handle.cancel()

    def _exhausted(self) -> None:
        if self._look_due is None:
            self._look_due = self._loop.call_soon(self._look)
        if self._cut_due is None and self._budget.used >= HARD_LIMIT * self._budget.limit:
            self._cut_due = self._loop.call_soon(self._cut_largest)

    def _look(self) -> None:
        self._look_due = None
        if not self._budget.exhausted:
            self._taken, self._slow, self._told = {}, {}, False
            return
        taken = {one: one.taken for one in self._connections if one.unsent}
        self._slow = {
            one: self._slow.get(one, 0) + 1
            for one in taken
            if (before := self._taken.get(one)) is not None
            and (taken[one] - before) * PATIENCE < one.unsent * LOOK_INTERVAL
        }
        self._taken = taken
        self._cut(one for one, looks in self._slow.items() if looks >= LOOKS)
        self._look_due = self._loop.call_later(LOOK_INTERVAL, self._look)

    def _cut_largest(self) -> None:
        self._cut_due = None
        self._cut(self._connections)

    def _cut(self, candidates: Iterable[Connection]) -> None:
        """Cut off, of these, as many as it takes; what they hold is free in the next turn."""
        unsent = {one: one.unsent for one in candidates}
        excess = self._budget.used - self._budget.limit
        for one in sorted(unsent, key=unsent.__getitem__, reverse=True):
            if excess < 0 or not unsent[one]:
                return
            excess -= unsent[one]
            one.cut_off("responses that wait fill their budget")
            if self._tally is not None:
                self._tally.add(UNSENT_LIMIT)
            self._warn()

    def _warn(self) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "more than %d octets of responses wait for clients (--limit-unsent): "
                "cutting off those that take least",
                self._budget.limit,
            )
