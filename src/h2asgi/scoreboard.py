"""A table in memory that a supervisor and its workers share: who is alive, and how busy.

A row belongs to one worker, which alone writes it. Both columns are machine
words, which are written whole.
"""

from __future__ import annotations

import mmap
import time

NOT_ACCEPTING = -1


class Scoreboard:
    """To be made before the workers are forked; ``rows`` is how many there may be at a time."""

    def __init__(self, rows: int) -> None:
        memory = memoryview(mmap.mmap(-1, 2 * 8 * rows))
        self._seen = memory[: 8 * rows].cast("d")
        self._connections = memory[8 * rows :].cast("q")
        self._free = set(range(rows))
        for row in self._free:
            self._connections[row] = NOT_ACCEPTING

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

    def beat(self, row: int) -> None:
        """Show that the worker's loop goes round."""
        self._seen[row] = time.monotonic()

    def seen(self, row: int) -> float:
        """When it last did, on the monotonic clock, which all processes share."""
        return self._seen[row]

    def set_connections(self, row: int, count: int) -> None:
        """Say how many connections the worker has, or ``NOT_ACCEPTING``."""
        self._connections[row] = count

    def fewest_connections(self) -> int:
        """Give the count of the worker that has the fewest among those that accept, or 0."""
        counts = [count for count in self._connections if count != NOT_ACCEPTING]
        return min(counts, default=0)
