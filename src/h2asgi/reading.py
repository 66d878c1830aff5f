"""Whether a connection is read. TCP holds back a peer where the protocol cannot: HTTP/1.1."""

from __future__ import annotations

import asyncio
from typing import Final

from .tcp import peer_has_closed
from .timer import Timer

LEAVE_CHECK_INTERVAL: Final = 1.0
"""Seconds between looks at whether a peer that is not read from has left: its end is not read
either, and an application that waits for it would keep the connection for ever."""


class Reading:
    """Pauses and resumes ``transport``.

    ``update`` is called with each flush, and there is one whenever ``timer`` has called something.
    """

    __slots__ = ("_loop", "_peer_has_left", "_timer", "_transport", "paused")

    def __init__(
        self, transport: asyncio.Transport, timer: Timer, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._timer = timer
        self._loop = loop
        self._peer_has_left = False
        self.paused = False

    def update(self, suspended: bool) -> None:
        """Pause if the engine wants no more input for now, as long as the peer is there."""
        if self.paused:
            # What a peer that has left still has to say lies in the kernel, which bounds it.
            self._peer_has_left = peer_has_closed(self._transport)
        suspended = suspended and not self._peer_has_left
        if suspended is self.paused:
            return
        self.paused = suspended
        if suspended:
            self._look_for_leaving()
            self._transport.pause_reading()
        else:
            self._timer.cancel(self._look_for_leaving)
            self._transport.resume_reading()

    def _look_for_leaving(self) -> None:
        """Have it looked again and again, with the flush, while reading is paused."""
        self._timer.set(self._look_for_leaving, self._loop.time() + LEAVE_CHECK_INTERVAL)
