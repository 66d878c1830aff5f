"""Applications that have had a whole request for too long and began no response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .asgi.http import HTTPCycle
from .protocol.pace import LOOKS
from .timer import Timer

logger = logging.getLogger("h2asgi")


class Overdue:
    """Looks at ``cycles``, by stream, and gives up those that are ``timeout`` seconds late.

    All are looked at together every few parts of that time, so that requests cost nothing.
    """

    __slots__ = ("_cycles", "_give_up", "_loop", "_timeout", "_timer", "_unanswered")

    def __init__(
        self,
        cycles: dict[int, HTTPCycle],
        timeout: float,
        timer: Timer,
        loop: asyncio.AbstractEventLoop,
        give_up: Callable[[HTTPCycle], None],
    ) -> None:
        self._cycles = cycles
        self._timeout = timeout
        self._timer = timer
        self._loop = loop
        self._give_up = give_up
        self._unanswered: dict[int, int] = {}  # looks at those that owed a response so far

    def expect(self) -> None:
        """See that it is looked, now that there is something to look at."""
        if not self._timer.is_set(self._look):
            self._look_later()

    def _look_later(self) -> None:
        self._timer.set(self._look, self._loop.time() + self._timeout / LOOKS)

    def _look(self) -> None:
        before, self._unanswered = self._unanswered, {}
        for stream_id, cycle in list(self._cycles.items()):
            if cycle.owes_response:
                looks = self._unanswered[stream_id] = before.get(stream_id, -1) + 1
                if looks >= LOOKS:
                    line, ids = cycle.request_line(), cycle.log_ids()
                    logger.error("%s: no response within %g s", line, self._timeout, extra=ids)
                    self._give_up(cycle)
        if self._cycles:
            self._look_later()
