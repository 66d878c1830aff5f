"""Whose turn it is to get a new worker: one slot after the other, so that the others serve."""

from __future__ import annotations

from collections.abc import Iterable

from .crew import Slot


class Rotation:
    """The first in the line has a new worker coming up, the others wait."""

    def __init__(self) -> None:
        self._line: list[Slot] = []

    def __bool__(self) -> bool:
        return bool(self._line)

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._line

    def add(self, slots: Iterable[Slot]) -> None:
        """Put them at the end of the line, unless they stand in it."""
        idle = not self._line
        self._line += [slot for slot in slots if slot not in self._line]
        if idle:
            self._begin()

    def done(self, slot: Slot) -> None:
        """Its new worker serves, or there is none: the next one's turn."""
        if slot in self._line:
            slot.spawn_at = None
            first = slot is self._line[0]
            self._line.remove(slot)
            if first:
                self._begin()

    def clear(self) -> None:
        """Leave all others as they are."""
        self._line.clear()

    def _begin(self) -> None:
        if self._line:
            self._line[0].spawn_at = 0.0
