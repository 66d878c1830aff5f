"""Who blocks the event loop: a thread that looks, for ``--debug-loop``.

While an application computes, or waits in a call that is not awaited, nobody else is
served. A thread asks the loop for a sign of life again and again. When none comes, it
looks at the stack of the loop's thread, which names what runs there and where it is.
That costs the loop a callback each time, and works with every event loop alike.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import sysconfig
import threading
import time
from types import FrameType
from typing import Self

from .places import describe

logger = logging.getLogger("h2asgi")

BLOCKED = 0.25
"""Seconds without a sign of life that are told. Everybody else waits for so long: a quarter of a
second is what users notice, and more than collecting garbage or a busy machine takes."""

INTERVAL = 0.05
"""Seconds between a sign of life and the next question: a block that is longer by this is seen."""

_STDLIB = sysconfig.get_path("stdlib")
_LOOP_ITSELF = tuple(
    os.path.join(folder, name)
    for folder, name in (
        (os.path.dirname(asyncio.__file__), "base_events.py"),
        (os.path.dirname(asyncio.__file__), "events.py"),
        (os.path.dirname(__file__), "process.py"),
    )
)


class LoopWatch:
    """Warns of whatever blocks the running loop while it is entered, within that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="h2asgi loop watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._alive.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self._alive.clear()
            if self._stopped.is_set():
                return  # or what was cleared was the word of it, and no other would come
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._alive.wait(BLOCKED):
                self._tell(asked)

    def _tell(self, asked: float) -> None:
        logger.warning("the event loop is blocked by %s", self._culprit())
        self._alive.wait()
        logger.warning("the event loop was blocked for %.2f s", time.monotonic() - asked)

    def _culprit(self) -> str:
        task = asyncio.current_task(self._loop)
        calls = _calls(sys._current_frames().get(self._loop_thread))
        if not calls:
            return "something that is not known: it was over when it was looked at"
        by = calls[-1].f_code.co_qualname
        if task is not None:
            by = f"task {task.get_name()} ({by})"
        return f"{by} {describe(calls)}"


def _calls(frame: FrameType | None) -> list[FrameType]:
    """The calls within the callback that the loop is in, the innermost first."""
    calls = []
    while frame is not None and frame.f_code.co_filename not in _LOOP_ITSELF:
        calls.append(frame)
        frame = frame.f_back
    if calls and calls[0].f_code.co_filename == os.path.join(_STDLIB, "selectors.py"):
        return []  # it waits for something to do
    return calls
