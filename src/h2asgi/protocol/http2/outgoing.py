"""What one stream has to send: a queue of octets that are cut into frames."""

from __future__ import annotations

from collections import deque

from ..engine import MAX_PIECES, SEND_HIGH_WATER, SEND_LOW_WATER
from ..events import Headers


class Outgoing:
    """What one stream has to send: octets, then perhaps trailers, then the end."""

    __slots__ = (
        "_above_high_water",
        "_offset",
        "_pieces",
        "credited",
        "queued",
        "scheduled",
        "trailers",
    )

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._offset = 0  # into the first piece, so that large pieces are never copied whole
        self._above_high_water = False
        self.queued = 0
        self.credited = 0  # octets that the peer has allowed since
        self.trailers: Headers | None = None
        self.scheduled = False  # whether its stream is in the send queue

    def append(self, data: bytes) -> None:
        """Add octets at the end."""
        self._pieces.append(data)
        self.queued += len(data)
        if self.queued > SEND_HIGH_WATER:
            self._above_high_water = True
        elif len(self._pieces) > MAX_PIECES:
            self._pieces = deque((b"".join(self._pieces),))  # the offset stays as it is

    def take(self, size: int) -> bytes | memoryview:
        """Remove ``size`` octets from the front; ``size`` must not exceed ``queued``.

        A view where that saves copying: of ``bytes``, so it stays good.
        """
        pieces = self._pieces
        self.queued -= size
        first = pieces[0]
        start = self._offset
        left = len(first) - start
        if size < left:
            self._offset = start + size
            return memoryview(first)[start : start + size]
        if size == left:
            self._offset = 0
            del pieces[0]
            return memoryview(first)[start:] if start else first
        taken: list[bytes | memoryview] = []
        while size:
            first = pieces[0]
            piece = memoryview(first)[self._offset : self._offset + size]
            taken.append(piece)
            size -= len(piece)
            self._offset += len(piece)
            if self._offset == len(first):
                pieces.popleft()
                self._offset = 0
        return b"".join(taken)

    def fell_to_low_water(self) -> bool:
        """Whether the writer is to be woken; says so once per time above the high-water mark."""
        if self._above_high_water and self.queued <= SEND_LOW_WATER:
            self._above_high_water = False
            return True
        return False

    def clear(self) -> None:
        """Drop everything: the stream is gone."""
        self._pieces.clear()
        self._offset = 0
        self.queued = 0
        self.trailers = None
