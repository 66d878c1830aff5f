"""A table in memory that a supervisor and its workers share: who is alive, and how busy.

A row belongs to one worker, which alone writes it. Both columns, and what the
supervisor says to all, are machine words, which are written whole. So are the rows in which
each worker counts what happens, and one for the supervisor, if anybody watches.
"""

from __future__ import annotations

import mmap
import time

from . import tally
from .tally import Tallies, Tally

NOT_ACCEPTING = -1


class Scoreboard:
    """To be made before the workers are forked; ``rows`` is how many there may be at a time."""

    def __init__(self, rows: int, *, counted: bool = False) -> None:
        memory = memoryview(mmap.mmap(-1, 8 * (2 * rows + 1)))
        self._seen = memory[: 8 * rows].cast("d")
        self._connections = memory[8 * rows : 8 * 2 * rows].cast("q")
        self._draining = memory[8 * 2 * rows :].cast("q")
        self._free = set(range(rows))
        for row in self._free:
            self._connections[row] = NOT_ACCEPTING
        self._counted: list[memoryview] = []
        if counted:
            counts = memoryview(mmap.mmap(-1, tally.SIZE * (rows + 1)))
            begins = range(0, len(counts), tally.SIZE)
            self._counted = [counts[begin : begin + tally.SIZE] for begin in begins]

    def take_row(self) -> int | None:
        """Set a row aside for a worker; None if all are taken."""
        if not self._free:
            return None
        row = min(self._free)
        self._free.remove(row)
        self._connections[row] = NOT_ACCEPTING
        self.beat(row)
        return row

    def give_back(self, row: int) -> None:
        """Take note that the row's worker is gone."""
        self._connections[row] = NOT_ACCEPTING
        self._free.add(row)
        if self._counted:
            Tally(self._counted[row]).clear_gauges()

    def beat(self, row: int) -> None:
        """Show that the worker's loop goes round."""
        self._seen[row] = time.monotonic()

    def seen(self, row: int) -> float:
        """When it last did, on the monotonic clock, which all processes share."""
        return self._seen[row]

    def set_connections(self, row: int, count: int) -> None:
        """Say how many connections the worker has, or ``NOT_ACCEPTING``."""
        self._connections[row] = count

    def accepting(self) -> bool:
        """Say whether any worker accepts connections."""
        return any(count != NOT_ACCEPTING for count in self._connections)

    def drain(self) -> None:
        """Let the workers know that all of them are about to stop."""
        self._draining[0] = 1

    def draining(self) -> bool:
        """Say whether they are."""
        return bool(self._draining[0])

    def fewest_connections(self) -> int:
        """Give the count of the worker that has the fewest among those that accept, or 0."""
        counts = [count for count in self._connections if count != NOT_ACCEPTING]
        return min(counts, default=0)

    def tallies(self, row: int = -1) -> Tallies | None:
        """Give what is counted, by the worker of the row or by the supervisor; None if nothing is.

        The next worker of a row counts on where the last one has ended.
        """
        if not self._counted:
            return None
        every = list(map(Tally, self._counted))
        return Tallies(every[row], every)
