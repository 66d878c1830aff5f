"""The way of a tunnel that has its connection to itself, past the engine.

Over HTTP/1.1 a tunnel is the connection: nothing is to be done to its octets, and nobody
shares it. So what comes is shown to the tunnel where the transport has put it, and what
the tunnel sends goes to the transport within ``send()``, which then need not yield. The
engine has what must wait: input that there is no room for, and output behind other
output. Whatever it has goes first.

Answers to short messages that came together would wake the peer one by one. As long as more
of them are likely to follow at once, the kernel is told to hold back segments that are
not full. They are in its buffer all the same, and it sends them after 200 ms by itself,
should the application block the loop meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from .output import Output
from .tcp import cork, corkable_socket

TURN: Final = 1024 * 1024
MESSAGE: Final = 16 * 1024
"""What a tunnel writes before it lets others have a turn of the loop, in octets, and what a message
counts besides: 64 short messages, and the work of an application on them."""

SHORT: Final = 16 * 1024
"""Octets of a message up to which it is worth holding it back: larger ones fill segments, and
having them wait for the next costs more than waking the peer."""


class Driver(Protocol):
    """What a passage asks of its connection."""

    flush_scheduled: bool
    """Whether the engine may have something to send."""


class Passage:
    """The way out; the way in is a call of the tunnel, see ``Connection``."""

    __slots__ = ("_corked", "_driver", "_left", "_loop", "_output", "_sock", "_transport")

    def __init__(
        self,
        driver: Driver,
        transport: asyncio.Transport,
        output: Output,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._driver = driver
        self._transport = transport
        self._output = output
        self._loop = loop
        self._left = TURN
        self._sock = corkable_socket(transport)
        self._corked = False

    def write(self, data: bytes, more: bool) -> bool:
        """Give ``data`` to the transport, or say that it has to go by way of the engine.

        ``more`` says that further octets are likely to follow in this turn of the loop.
        """
        output = self._output
        if self._driver.flush_scheduled or output.paused or self._transport.is_closing():
            return False
        self._left -= MESSAGE + len(data)
        if self._left < 0:
            self._left = TURN
            return False
        if more and not self._corked and len(data) <= SHORT:
            self._cork()
        output.hand_over(data)
        if self._corked and not more:
            self._uncork()
        return True

    def _cork(self) -> None:
        if self._sock is not None:
            self._corked = True
            cork(self._sock, True)
            self._loop.call_soon(self._uncork)

    def _uncork(self) -> None:
        if self._corked and self._sock is not None:
            self._corked = False
            cork(self._sock, False)
