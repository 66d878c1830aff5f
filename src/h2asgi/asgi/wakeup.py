"""How the tasks of an application sleep until something changes."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Tasks that wait for a change of the object that this is a base of."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        # In the order they came, which is the order they are served in.
        self._waiters: dict[asyncio.Future[None], None] | None = None

    async def wait(self) -> None:
        """Sleep until something changes.

        Each caller has a future of its own, since cancelling a task cancels the
        future it waits for; and nothing is handed over through it, so a cancelled
        caller takes nothing away with it.
        """
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    def wake(self) -> None:
        """Let everybody who sleeps look again."""
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
