"""What the parts of a connection ask of it, and when it is done: in turns of the loop.

Many connections are read in one turn, and each has a flush behind that. They have one callback
of the loop together: one for each would be 3 % of a small request.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

TURN: Final = 1024 * 1024
"""Octets that a writer may have written within ``send()`` before others have their turn."""


class Driver:
    """A connection, as its parts see it."""

    flush_scheduled: bool
    """Whether there is a flush to come, and so perhaps something in the engine to send."""

    def schedule_flush(self) -> None:
        """Have ``flush`` called in the next turn of the loop."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what there is."""
        raise NotImplementedError

    def push(self, size: int) -> bool:
        """Write what is queued at once; says whether its writer may go on without a turn."""
        raise NotImplementedError


class Flushes:
    """The connections of one server that flush in the next turn of the loop.

    They do so in a copy of ``context``, whoever has asked for it.
    """

    __slots__ = ("_call_soon", "_context", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._call_soon = loop.call_soon
        self._context = context
        self._waiting: list[Driver] = []

    def add(self, driver: Driver) -> None:
        """Have ``driver`` flush behind those that were added before."""
        if not self._waiting:
            self._call_soon(self._run, context=self._context.copy())
        self._waiting.append(driver)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        done = 0
        try:
            for driver in waiting:
                done += 1
                driver.flush()
        finally:  # an error is for the loop, as of any callback, and leaves the others
            for driver in waiting[done:]:
                self.add(driver)
