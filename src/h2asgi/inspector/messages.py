"""WebSocket messages, counted as their frames pass by (RFC 6455 section 5.2)."""

from __future__ import annotations

_LONG = {126: 2, 127: 8}
"""Octets of a length that does not fit into seven bits."""


class MessageCounter:
    """Counts the messages of one direction; it reads headers of frames and skips the rest."""

    __slots__ = ("_head", "_left", "count")

    def __init__(self) -> None:
        self._head = b""  # of a frame, as long as it is not whole
        self._left = 0  # octets of a payload that are to come
        self.count = 0

    def feed(self, data: bytes) -> None:
        """Take octets of a tunnel."""
        offset, end = 0, len(data)
        while offset < end:
            if self._left:
                skipped = min(self._left, end - offset)
                self._left -= skipped
                offset += skipped
                continue
            self._head += data[offset : offset + 1]
            offset += 1
            self._look()

    def _look(self) -> None:
        head = self._head
        if len(head) < 2:
            return
        length = head[1] & 0x7F
        long = _LONG.get(length, 0)
        if len(head) < 2 + long:
            return
        if long:
            length = int.from_bytes(head[2:], "big")
        self._left = length + (4 if head[1] & 0x80 else 0)  # with the masking key
        self._head = b""
        if head[0] & 0x80 and not head[0] & 0x08:  # FIN, and no control frame
            self.count += 1
