"""How the tasks of an application sleep until something changes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..compiled import mypyc_attr
from .waiting import wait_among


@mypyc_attr(allow_interpreted_subclasses=True)
class Wakeup:
    """Tasks that wait for a change of the object that this is a base of."""

    __slots__ = ("_waiters", "_woken")

    def __init__(self) -> None:
        # In the order they came, which is the order they are served in.
        self._waiters: dict[asyncio.Future[None], None] | None = None
        self._woken = False  # all of them, who have not had their turn yet

    def wait(self) -> Coroutine[Any, Any, None]:
        """Sleep until something changes."""
        if self._waiters is None:
            self._waiters = {}
        self._woken = False
        return wait_among(self._waiters)

    def wake(self) -> None:
        """Let everybody who sleeps look again."""
        if self._waiters and not self._woken:
            self._woken = True
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
