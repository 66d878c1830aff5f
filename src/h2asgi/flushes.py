"""Connections that have something to send in the next turn of the loop.

Many are read in one turn, and each has a flush behind that. They have one callback of
the loop together, which costs as much as a tenth of a small request by itself.
"""

from __future__ import annotations

import asyncio
from contextvars import Context


class Flushing:
    """Who flushes."""

    def flush(self) -> None:
        """Send what there is."""
        raise NotImplementedError


class Flushes:
    """Those of one server. They run in ``context``, whoever has asked for them."""

    __slots__ = ("_call_soon", "_context", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._call_soon = loop.call_soon
        self._context = context
        self._waiting: list[Flushing] = []

    def add(self, one: Flushing) -> None:
        """Have ``one`` flush in the next turn, behind those that were added before."""
        if not self._waiting:
            self._call_soon(self._run, context=self._context)
        self._waiting.append(one)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        done = 0
        try:
            for one in waiting:
                done += 1
                one.flush()
        finally:  # an error is for the loop, as of any callback, and leaves the others
            for one in waiting[done:]:
                self.add(one)
