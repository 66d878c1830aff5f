"""The end of a connection, in the way that lets what is on its way out arrive.

A socket that is closed with unread input makes the kernel send RST, which destroys
the answer the peer has not read yet. So when the peer may still be sending, input is
read and dropped for a while before the end (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .timer import Timer

LINGER_TIME = 1.0
LINGER_OCTETS = 1024 * 1024
"""How long and how much input is dropped after the last answer, so that the answer arrives."""

CLOSE_TIME = 30.0
"""Seconds for a slow peer to take some of what the transport still holds once we are done. One that
never reads would otherwise keep its connection for ever."""


class Closing:
    """A connection that neither serves nor answers any more. ``timer`` has no other use then."""

    __slots__ = ("_left", "_loop", "_octets_dropped", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, timer: Timer, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._timer = timer
        self._loop = loop
        self._octets_dropped = 0
        self._left = 0  # to write, when the closing time last began
        timer.clear()

    def linger(self) -> None:
        """End our half, and drop input for a while before closing."""
        if self._transport.can_write_eof():
            with suppress(OSError):  # reset by the peer, which we are about to hear
                self._transport.write_eof()
        self._timer.set(self.close, self._loop.time() + LINGER_TIME)

    def drop(self, data: memoryview) -> int:
        """Take note of input, which is lost; gives how much that is: all."""
        self._octets_dropped += len(data)
        if self._octets_dropped > LINGER_OCTETS and not self._transport.is_closing():
            self.close()
        return len(data)

    def close(self) -> None:
        """Let the transport write what it has, and go."""
        self._transport.close()
        self._wait_for_peer(self._transport.get_write_buffer_size())

    def _wait_for_peer(self, left: int) -> None:
        self._left = left
        self._timer.cancel(self.close)
        self._timer.set(self._abort_unless_taken, self._loop.time() + CLOSE_TIME)

    def _abort_unless_taken(self) -> None:
        """Wait on for a peer that goes on taking what is left for it."""
        left = self._transport.get_write_buffer_size()
        if left < self._left:
            self._wait_for_peer(left)
        else:
            self._transport.abort()
