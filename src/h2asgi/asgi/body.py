"""The part of a request body that has arrived and that the application has not taken yet."""

from __future__ import annotations

from typing import Final

from .fields import Fields
from .wakeup import Wakeup

SMALL_PIECE: Final = 1024
"""Octets below which a piece is copied behind the one before it.

An object of its own costs some 40 octets beside its content, which is little
for a piece of this size and forty times the content for one of a single octet:
a peer that sends tiny DATA frames must not multiply what it may store. Copying
less than this costs less than the object saved.
"""


class RequestBody(Wakeup):
    """Octets in order, between the connection that feeds them and ``receive()``.

    Memory stays within twice ``unread`` (and a constant), however the octets
    were cut up. The bound on ``unread`` itself is the receive window, which
    opens only as the cycle acknowledges what it takes.
    """

    __slots__ = ("_pieces", "closed", "ended", "trailers", "unread")

    def __init__(self) -> None:
        self.unread = 0
        """Octets that ``take()`` would give."""
        self.ended = False
        """Whether the last octet has arrived."""
        self.closed = False
        """Whether nobody will read on; what still arrives is dropped."""
        self.trailers: Fields = []
        """What came behind the last octet."""
        self._pieces: list[bytes | bytearray] = []
        # As in Wakeup, without the call: there is one of these a request.
        self._waiters = None
        self._woken = False

    def feed(self, data: bytes) -> None:
        """Store a piece of the body; one that is not small is kept, not copied."""
        if self.closed or not data:
            return
        self.unread += len(data)
        pieces = self._pieces
        if not pieces or len(data) >= SMALL_PIECE:
            pieces.append(data)
        else:
            last = pieces[-1]
            if isinstance(last, bytearray):
                last += data
            elif len(last) < SMALL_PIECE:
                pieces[-1] = bytearray(last + data)
            else:
                pieces.append(bytearray(data))
        self.wake()

    def end(self) -> None:
        """Take note that the body is complete."""
        self.ended = True
        self.wake()

    def close(self) -> None:
        """Drop what is unread and whatever else arrives."""
        self.closed = True
        self.unread = 0
        self._pieces.clear()
        self.wake()

    def take(self) -> bytes:
        """Give everything unread, perhaps nothing; a single piece is handed out as it is."""
        self.unread = 0
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        return b"".join(pieces)  # gives back the very object when it is one of bytes
