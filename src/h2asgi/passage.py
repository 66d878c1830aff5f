"""The way of a tunnel that has its connection to itself, past the engine.

Over HTTP/1.1 a tunnel is the connection: nothing is to be done to its octets, and nobody
shares it. So what comes is shown to the tunnel where the transport has put it, and what
the tunnel sends mostly goes to the transport within ``send()``, which need not yield. The
engine has what must wait: input that there is no room for, and output behind other
output. Whatever it has goes first.

Answers to short messages that came together would each have a call of the kernel, over TLS a
record, and wake the peer one by one. As long as more of them are likely to follow at once they are
gathered, until the end of the turn of the loop at the latest. An application that blocks the loop
would make them wait for that. So it is only done where one has answered quickly many times in
a row, and no longer when it was slow once.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from .output import Output
from .turns import TURN, Driver

MESSAGE: Final = 16 * 1024
"""Octets that a message counts in a turn besides its own, for the work of an application on it: a
turn is 64 short ones."""

SHORT: Final = 16 * 1024
"""Octets of a message up to which it is gathered with others: larger ones fill segments and records
by themselves, and having them wait costs more than waking the peer."""

QUICK = 0.001
"""Seconds from one answer to the next that an application may take to be called quick."""

PROOF = 16
"""Times that it was quick in a row before its answers are gathered."""


class Passage:
    """The way out; the way in is a call of the tunnel, see ``Connection``."""

    __slots__ = (
        *("_driver", "_in_turn", "_last", "_left", "_loop", "_output", "_quick", "_transport"),
    )

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
        self._last = 0.0  # when the application last answered while more messages waited for it
        self._quick = 0  # times in a row that it was
        self._in_turn = False

    def write(self, data: bytes, more: bool) -> bool:
        """Give ``data`` to the output, or say that it has to go by way of the engine.

        ``more`` says that further octets are likely to follow in this turn of the loop.
        """
        output = self._output
        if self._driver.flush_scheduled or output.paused or self._transport.is_closing():
            return False
        self._left -= MESSAGE + len(data)
        if self._left < 0:
            self._left = TURN
            return False
        self._judge(more)
        if more and len(data) <= SHORT and self._quick >= PROOF:
            output.gather(data)
        else:
            output.hand_over(data)
        return True

    def _judge(self, more: bool) -> None:
        """Count how often the application was quick to answer while more was waiting for it."""
        if self._in_turn:
            now = monotonic()
            self._quick = self._quick + 1 if now - self._last < QUICK else 0
            self._last = now
        elif more:
            self._in_turn = True
            self._last = monotonic()
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._in_turn = False
        if self._output.release() and monotonic() - self._last >= QUICK:
            self._quick = 0  # it was busy with something that it did not answer
