"""The one timer of a connection, over everything that it is to do at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from .shared_by_transports import MAX_TURNS

Action = Callable[[], None]

LATE: Final = 0.1
"""Seconds by which a timer that fires was held up: an application has blocked the loop."""

INPUT_TURNS: Final = MAX_TURNS + 3
"""Turns of the loop in which all that has come is read. uvloop has timers before input; then
connections are read in some turns, and what they tell is acted upon in one more."""


def _nothing() -> None:
    """In the place of what is not to be called any more."""


class Timer:
    """Actions and their times, in seconds of the loop's clock; ``next`` is the earliest.

    ``on_time`` is called at the earliest of them, or of the time that ``update`` was last
    given. The loop's timer is only ever moved forward: one that fires too early looks
    again, which costs less than a new one for every request.
    """

    __slots__ = ("_handle", "_loop", "_on_time", "_times", "_when", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_time: Action) -> None:
        self._loop = loop
        self._on_time = on_time
        self._handle: asyncio.Handle | None = None
        self._when = inf  # of the handle: uvloop's do not say, where that is now
        self._times: dict[Action, float] = {}
        self.next = inf

    def set(self, action: Action, when: float) -> None:
        """Have ``action`` called at ``when`` instead of whenever it was to be called before."""
        self._times[action] = when
        self._find_next()
        self.update(None)

    def is_set(self, action: Action) -> bool:
        """Whether ``action`` is to be called."""
        return action in self._times

    def cancel(self, action: Action) -> None:
        """Do not call ``action``, if that was intended."""
        if self._times.pop(action, None) is not None:
            self._find_next()

    def clear(self) -> None:
        """Call nothing of all this."""
        self._times.clear()
        self.next = inf

    def run(self, now: float) -> None:
        """Call what is due, the earliest first; each may set and cancel others."""
        while self.next <= now:
            action = min(self._times, key=self._times.__getitem__)
            self.cancel(action)
            action()

    def update(self, due: float | None) -> None:
        """See that ``on_time`` is called at ``due`` or ``next`` at the latest."""
        if due is None or self.next < due:
            due = self.next
            if due == inf:
                return
        if self._handle is not None:
            if self._when <= due:
                return
            self._handle.cancel()
        self._when = due
        self._handle = self._loop.call_at(due, self._fire)

    def stop(self) -> None:
        """Call nothing any more, and nobody: who has this timer may be what it would call."""
        self.clear()
        self._on_time = _nothing
        if self._handle is not None:
            self._handle.cancel()

    def _find_next(self) -> None:
        self.next = min(self._times.values(), default=inf)

    def _fire(self) -> None:
        late = self._loop.time() - self._when
        self._handle = None
        if late < LATE:
            self._on_time()
        else:
            self._wait_for_input(INPUT_TURNS)

    def _wait_for_input(self, turns: int) -> None:
        """Read what peers have sent by now: it may be what they are late with."""
        if turns:
            self._loop.call_soon(self._wait_for_input, turns - 1)
        else:
            self._on_time()
