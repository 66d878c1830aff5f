"""What one stream has to send: a queue of octets that are cut into frames."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..engine import MAX_PIECES, SEND_HIGH_WATER, SEND_LOW_WATER
from ..events import Headers

LARGE_CUT: Final = 1024
"""Octets of a cut that has others like it behind it, for which a view is kept: it costs some 300
octets a stream, which windows of an octet for each of many must not (CVE-2019-9511)."""


class Outgoing:
    """What one stream has to send: octets, then perhaps trailers, then the end."""

    __slots__ = (
        "_above_high_water",
        "_first",
        "_offset",
        "_pieces",
        "_view",
        "credited",
        "frame_header",
        "queued",
        "scheduled",
        "trailers",
    )

    def __init__(self) -> None:
        self._first = b""  # the piece that is being sent
        self._view: memoryview | None = None  # of it, once something large was cut off
        self._offset = 0  # into it, so that large pieces are never copied whole
        self._pieces: deque[bytes] = deque()  # behind it
        self._above_high_water = False
        self.queued = 0
        self.credited = 0  # octets that the peer has allowed since
        self.frame_header = b""  # of its frames of full size, once there was one
        self.trailers: Headers | None = None
        self.scheduled = False  # whether its stream is in the send queue

    def append(self, data: bytes) -> None:
        """Add octets at the end."""
        if self.queued:
            self._pieces.append(data)
        else:
            self._first = data
        self.queued += len(data)
        if self.queued > SEND_HIGH_WATER:
            self._above_high_water = True
        elif len(self._pieces) > MAX_PIECES:
            self._pieces = deque((b"".join(self._pieces),))

    def take(self, size: int) -> bytes | memoryview:
        """Remove ``size`` octets from the front; ``size`` must not exceed ``queued``.

        A view where that saves copying: of ``bytes``, so it stays good.
        """
        start = self._offset
        end = start + size
        left = len(self._first) - end
        if left < 0:
            return self._take_pieces(size)
        self.queued -= size
        if not left:
            return self._take_rest(start)
        self._offset = end
        view = self._view
        if view is None:
            view = memoryview(self._first)
            if size >= LARGE_CUT:
                self._view = view
        return view[start:end]

    def _take_rest(self, start: int) -> bytes | memoryview:
        """Remove the first piece, from ``start`` on."""
        rest: bytes | memoryview = self._first
        if start:
            rest = (memoryview(self._first) if self._view is None else self._view)[start:]
        self._view = None
        self._offset = 0
        self._first = self._pieces.popleft() if self._pieces else b""
        return rest

    def _take_pieces(self, size: int) -> bytes:
        """Remove octets of several pieces."""
        taken: list[bytes | memoryview] = []
        while size:
            piece = self.take(min(size, len(self._first) - self._offset))
            taken.append(piece)
            size -= len(piece)
        return b"".join(taken)

    def fell_to_low_water(self) -> bool:
        """Whether the writer is to be woken; says so once per time above the high-water mark."""
        if self._above_high_water and self.queued <= SEND_LOW_WATER:
            self._above_high_water = False
            return True
        return False

    def clear(self) -> None:
        """Drop everything: the stream is gone."""
        self._first = b""
        self._view = None
        self._pieces.clear()
        self._offset = 0
        self.queued = 0
        self.trailers = None
