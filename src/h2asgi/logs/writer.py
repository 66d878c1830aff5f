"""A thread that writes, so that whoever logs never waits for a disk or for the reader of a pipe.

What is to be written waits in a bounded queue. What does not fit is dropped, counted and
told. When it is quiet, an item is written at once; under load the thread takes all that has
come together every ``PAUSE``, since waking it up, and its turn with the interpreter, cost
more than a line does.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

logger = logging.getLogger("h2asgi")

PAUSE = 0.05
"""Seconds between two writes: short for who reads along, and long enough to cost nothing."""

EXIT_TIME = 2.0
"""Seconds for what waits to be written when the process ends: a busy disk, but not a dead one."""


class Writer(Generic[Item]):
    """Calls ``write`` from its thread while it is started, otherwise ``write_soon``, at once.

    ``name`` is what its messages call the log, ``limit`` the size of what may wait. Errors of
    either (``OSError``, ``ValueError``) are told once, and once when they are over. ``daemon``
    is false where ``write`` may get stuck with a lock that the interpreter wants at its end:
    then the process does not get there by itself.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[Item]], None],
        limit: int,
        *,
        write_soon: Callable[[list[Item]], None] | None = None,
        daemon: bool = True,
    ) -> None:
        self._name = name
        self._write = write
        self._write_soon = write_soon or write
        self._limit = limit
        self._daemon = daemon
        # Reentrant: a signal may come while its thread has the lock, and end the process.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[tuple[Item, int]] = deque()
        self._size = 0  # of what waits or is being written
        self._lines = 0  # of what waits or is being written
        self._before_next: Callable[[], None] | None = None
        self._idle = False  # whether the thread waits to be woken up
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._lost = 0  # lines since it could last be written

    @property
    def behind(self) -> bool:
        """Whether anything is yet to be written."""
        return bool(self._lines)

    def start(self) -> None:
        """Write in a thread from now on."""
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name=f"h2asgi {self._name}", daemon=self._daemon
        )
        self._thread.start()
        _started.add(self)

    def stop(self, timeout: float = EXIT_TIME) -> bool:
        """Write what waits and end the thread; says if that came about within ``timeout``.

        If not, what waits is lost, and so is all that follows: nobody waits for it.
        """
        thread = self._thread
        if thread is None:
            return True
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        thread.join(timeout)
        ended = not thread.is_alive()
        if ended:
            self._thread = None
            _started.discard(self)
        with self._changed:
            lost, self._lost = self._lost + self._lines, 0
        if lost:
            logger.warning("%s ends: up to %d lines were lost", self._name, lost)
        return ended

    def put(self, item: Item, size: int, lines: int, *, leave: int = 0) -> None:
        """Have an item of so many lines written, or drop it rather than leave less room."""
        if self._thread is None:
            self._attempt(self._write_soon, [item], lines)
            return
        with self._changed:
            fits = self._size + size + leave <= self._limit
            if fits:
                self._waiting.append((item, size))
                self._size += size
                self._lines += lines
                if self._idle:
                    self._idle = False
                    self._changed.notify_all()
        if not fits:
            self._note_loss(lines, "what it is written to does not take it fast enough")

    def before_next(self, action: Callable[[], None]) -> None:
        """Have ``action`` called where ``write`` is, before anything else is written."""
        if self._thread is None:
            action()
            return
        with self._changed:
            self._before_next = action
            self._idle = False
            self._changed.notify_all()

    def flush(self, timeout: float = EXIT_TIME) -> None:
        """Wait until all is written, for ``timeout`` seconds at the most."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        end = time.monotonic() + timeout
        with self._changed:
            self._changed.notify_all()
            while self._lines and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def forget_thread(self) -> None:
        """Go on without it in a forked process, which does not have it."""
        self._changed = threading.Condition(threading.RLock())
        self._thread = None
        self._waiting.clear()  # for the parent to write
        self._size = self._lines = 0

    # The thread.

    def _run(self) -> None:
        while self._take_turn():
            with self._changed:
                if not self._stopping:
                    self._changed.wait(PAUSE)

    def _take_turn(self) -> bool:
        """Wait for something to write, and write it; says whether there will be more."""
        with self._changed:
            while not (self._waiting or self._before_next or self._stopping):
                self._idle = True
                self._changed.wait()
            self._idle = False
            items = [item for item, _ in self._waiting]
            self._waiting.clear()
            size, lines = self._size, self._lines
            action, self._before_next = self._before_next, None
        if action is not None:
            action()
        if items:
            self._attempt(self._write, items, lines)
        with self._changed:
            self._size -= size
            self._lines -= lines
            self._changed.notify_all()
            return bool(self._waiting) or not self._stopping

    def _attempt(self, write: Callable[[list[Item]], None], items: list[Item], lines: int) -> None:
        try:
            write(items)
        except (OSError, ValueError) as error:
            self._note_loss(lines, getattr(error, "strerror", None) or str(error))
        else:
            if self._lost and not self._waiting:
                self._note_recovery()

    def _note_loss(self, lines: int, reason: str) -> None:
        with self._changed:
            first, self._lost = not self._lost, self._lost + lines
        if first:
            logger.warning("%s cannot be written: %s; going on without", self._name, reason)

    def _note_recovery(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, 0
        # What a stream still held may have been written after all.
        logger.warning("%s can be written again: up to %d lines were lost", self._name, lost)


_started: set[Writer[Any]] = set()
"""Those whose threads are to be waited for when the process ends."""


def flush_all(timeout: float) -> None:
    """Wait until all is written, for ``timeout`` seconds at the most."""
    end = time.monotonic() + timeout
    for writer in tuple(_started):
        writer.flush(max(0.0, end - time.monotonic()))


def _forget_threads() -> None:
    for writer in _started:
        writer.forget_thread()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
