"""How a task of an application sleeps."""

from __future__ import annotations

import asyncio


async def wait_among(waiters: dict[asyncio.Future[None], None]) -> None:
    """Sleep until somebody sets what this puts into ``waiters``, and takes out again.

    Each caller has a future of its own, since cancelling a task cancels the
    future it waits for; and nothing is handed over through it, so a cancelled
    caller takes nothing away with it.
    """
    waiter = asyncio.get_running_loop().create_future()
    waiters[waiter] = None
    try:
        await waiter
    finally:
        del waiters[waiter]
