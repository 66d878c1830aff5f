"""What transports of one loop share: turns at reading, a look for resets, and what TLS needs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

READ_SIZE: Final = 64 * 1024
"""Octets taken from the socket at once: a peer's share of the loop's time. In TLS 2,400 key
updates fit in, which take 20 to 40 ms."""

SCRATCH_SIZE: Final = 96 * 1024
"""Octets of records that are sent at once: what is encrypted together (``WRITE_SIZE``), and answers
of the TLS layer itself."""

READS_PER_TURN: Final = 16
"""Connections that are read in one turn of the loop, before answers go out. Requests that are in
work at the same time fall out of the processor's cache together: with a hundred connections of ten
streams, each request then cost twice as much."""

MAX_TURNS: Final = 4
"""Turns within which all that are ready have been read; more are read in each if need be. The loop
names those that wait again in each turn, so that many turns for thousands would cost more than the
cache saves."""

HANDSHAKES_PER_TURN: Final = 8
"""Steps of handshakes that are calculated in one turn of the loop: 0.1 to 0.8 ms each, so that a
burst of new clients holds up those who are there by 6 ms at the most, and is done soon."""

RESET_CHECK_INTERVAL: Final = 0.1
"""Seconds until it is looked for an RST behind what was read and not answered."""


def pending_error(sock: socket.socket) -> OSError | None:
    """Take what the kernel has to say of a connection that is broken, such as an RST."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number)) if number else None


class Watched(Protocol):
    """Who reads and may not answer for a while. It is also called after its end."""

    def end_watch(self) -> None:
        """Look for an RST."""


class Reader(Watched, Protocol):
    """What a transport offers here. It is also called after its end."""

    def read(self) -> None:
        """Take a piece of input: the turn has come."""


class SharedByTransports:
    """One for the transports of a loop.

    Handshakes: steps that were lined up are taken a few in each turn of the loop.

    Turns: ``may_read`` lets the first few of a turn read at once; the others
    stand in line and are called in the turns after. A line, because the loop
    names them in an order that lets quick clients keep slow ones waiting.

    Resets: when an RST has come right behind octets, uvloop says once that there
    is something, and then watches no longer. Whoever sends hears of it; who waits
    would do so for ever. Asking the kernel after each read would cost more than
    decrypting a request, so it is asked later, if nothing was sent by then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ciphertext = memoryview(bytearray(READ_SIZE))
        self.scratch = memoryview(bytearray(SCRATCH_SIZE))
        self._steps: deque[Callable[[], None]] = deque()
        self._steps_due = False  # whether they are scheduled
        self._reads_left = READS_PER_TURN
        self._share = READS_PER_TURN  # of the line, in each turn
        self._line: dict[Reader, None] = {}
        self._turn_ends = False  # whether that is scheduled
        self._watched: list[Watched] = []  # at most once each

    def line_up(self, step: Callable[[], None]) -> None:
        """Have a step of a handshake taken, in this turn of the loop or soon."""
        self._steps.append(step)
        if not self._steps_due:
            self._steps_due = True
            self._loop.call_soon(self._take_steps)

    def _take_steps(self) -> None:
        try:
            for _ in range(min(HANDSHAKES_PER_TURN, len(self._steps))):
                self._steps.popleft()()
        finally:
            self._steps_due = bool(self._steps)
            if self._steps_due:
                self._loop.call_soon(self._take_steps)

    def may_read(self, reader: Reader) -> bool:
        """Whether ``reader`` is to read now; if not, it is called when its turn has come."""
        if not self._turn_ends:
            self._turn_ends = True
            self._loop.call_soon(self._end_turn)
        if self._line or not self._reads_left:
            self._line[reader] = None
            return False
        self._reads_left -= 1
        return True

    def _end_turn(self) -> None:
        self._reads_left = self._share = READS_PER_TURN
        self._turn_ends = bool(self._line)
        if self._turn_ends:
            # Not at once: the answers to this turn's requests stand behind.
            self._loop.call_soon(self._read_line)

    def _read_line(self) -> None:
        line = self._line
        try:
            self._share = max(self._share, -(-len(line) // MAX_TURNS))
            for reader in list(islice(line, self._share)):
                del line[reader]
                reader.read()
        finally:
            # Behind the answers to what was read.
            self._loop.call_soon(self._read_line if line else self._end_turn)

    def watch(self, watched: Watched) -> None:
        """Have it look for an RST soon, together with others."""
        if not self._watched:
            self._loop.call_later(RESET_CHECK_INTERVAL, self._look)
        self._watched.append(watched)

    def _look(self) -> None:
        all_watched, self._watched = self._watched, []
        for watched in all_watched:
            watched.end_watch()
