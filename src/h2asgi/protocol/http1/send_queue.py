"""The bytes that wait for the transport of an HTTP/1.1 connection."""

from __future__ import annotations

from typing import Final

from ..engine import MAX_PIECES, SEND_HIGH_WATER

LARGEST_JOIN: Final = 128 * 1024
"""Octets that are joined from several pieces: larger joins cost more than the calls they save."""


class SendQueue:
    """Bytes that wait for the transport. A large piece is sliced, never moved."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self.size = 0

    def push(self, data: bytes) -> None:
        """Append bytes."""
        if data:
            self._pieces.append(data)
            self.size += len(data)
            if len(self._pieces) > MAX_PIECES:
                self._join()

    def push_chunk(self, data: bytes) -> None:
        """Append bytes as a chunk (RFC 9112 section 7.1); an empty one would end the body."""
        if data:
            size = b"%x\r\n" % len(data)
            self._pieces += (size, data, b"\r\n")
            self.size += len(size) + len(data) + 2
            if len(self._pieces) > MAX_PIECES:
                self._join()

    def _join(self) -> None:
        """Make one piece of many, unless they are many because they are large."""
        if self.size <= SEND_HIGH_WATER:
            self._pieces = [b"".join(self._pieces)]

    def take(self, limit: int) -> bytes | memoryview:
        """Remove up to ``limit`` bytes from the front; they are a view where that saves a copy.

        Fewer, but at least ``LARGEST_JOIN``, when more would have to be joined.
        """
        pieces = self._pieces
        if limit > LARGEST_JOIN and self.size > LARGEST_JOIN:
            limit = max(LARGEST_JOIN, min(limit, len(pieces[0])))
        if self.size <= limit:
            self._pieces = []
            self.size = 0
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        count = 0
        room = limit
        while len(pieces[count]) <= room:
            room -= len(pieces[count])
            count += 1
        selected = pieces[:count]
        if room:
            view = memoryview(pieces[count])
            selected.append(view[:room])
            pieces[count] = view[room:]
        del pieces[:count]
        self.size -= limit
        return selected[0] if len(selected) == 1 else b"".join(selected)
