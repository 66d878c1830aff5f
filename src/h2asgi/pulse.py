"""What is not counted as it happens, but looked at now and then: how late the loop is, and what
is in progress. Costs four timers a second, and nothing with each request."""

from __future__ import annotations

import asyncio

from .state import ApplicationState
from .tally import REQUESTS_IN_PROGRESS, Tally

INTERVAL = 0.25
"""Seconds between two looks. They meet a block of the loop of that length or more for sure, and a
shorter one as often as it takes up of the time."""


class Pulse:
    """Looks at the loop of ``state`` and its requests, and puts what it sees into ``tally``."""

    def __init__(self, state: ApplicationState, tally: Tally) -> None:
        self._state = state
        self._loop = state.loop
        self._tally = tally
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Look from now on."""
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._beat)

    def stop(self) -> None:
        """Look no more; nothing is in progress."""
        if self._timer is not None:
            self._timer.cancel()
        self._tally.words[REQUESTS_IN_PROGRESS] = 0

    def _beat(self) -> None:
        self._tally.loop_lag(max(0.0, self._loop.time() - self._due))
        self._tally.words[REQUESTS_IN_PROGRESS] = self._state.in_work
        self.start()
