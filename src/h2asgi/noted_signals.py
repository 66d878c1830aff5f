"""Signals for a process without an event loop: noted when they come, taken when there is time."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD")

NUMBERS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""What a process above workers reacts to."""


class NotedSignals:
    """While entered, signals are noted, and ``fd`` is readable when there are some."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._noted: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.fd, self._wakeup = os.pipe()
        for fd in (self.fd, self._wakeup):
            os.set_blocking(fd, False)
        self._previous_fd = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in self._numbers:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Leave early, in a new process."""
        if not self._previous:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self.fd)
        os.close(self._wakeup)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.append(number)

    def take(self) -> list[int]:
        """Give what was noted since the last call, in the order it came."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        noted, self._noted = self._noted, []
        return noted

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Put them off: one that a new process took for its parent's would be lost."""
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
