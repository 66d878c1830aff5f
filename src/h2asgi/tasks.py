"""How the tasks of applications begin, and what asyncio says of their ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, Final

EAGER: Final = sys.version_info >= (3, 12)
"""Whether a task runs up to its first real wait at once, which saves a turn of the loop."""


def begin_later(
    loop: asyncio.AbstractEventLoop,
    context: Context,
    tasks: set[asyncio.Task[None]],
    coro: Coroutine[Any, Any, None],
) -> asyncio.Task[None]:
    """Begin a task in the next turn of the loop, in ``context``, where there are no eager ones."""
    task = loop.create_task(coro, context=context)
    # One that is cancelled before that never runs, and so cannot say that it ended.
    task.add_done_callback(tasks.discard)
    return task


def retrieve(task: asyncio.Task[None]) -> None:
    """Spare asyncio its "exception was never retrieved"; whom it concerns has it."""
    if not task.cancelled():
        task.exception()


@coroutine
def turn_of_the_loop() -> Generator[None]:
    """Let everything that is scheduled already run first, a flush among it."""
    yield
