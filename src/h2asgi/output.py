"""What a transport is given to write, and whether its peer takes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from .config import Timeouts
from .limits import WatchedBudget
from .protocol.engine import Engine
from .protocol.pace import Pace, Transfer
from .tally import SENT_OCTETS, TRANSPORT_STALLS, Tally
from .timer import Timer

WRITE_SIZE: Final = 128 * 1024
"""Octets asked of an HTTP/2 engine at once, and the transport's high-water mark. What is in the
transport can no longer be reprioritised."""

LARGEST_WRITE: Final = 256 * 1024
"""The same as long as the kernel takes all of it at once: a peer that is quicker than this one
sleeps, and is woken, half as often. Larger joins fall out of the processor's cache."""

HTTP1_WRITE_SIZE: Final = 1024 * 1024
"""The same for HTTP/1.1, whose bodies are neither joined nor reprioritised: one call of the kernel
for a large piece. A bound, because the closing time runs over what the transport has."""

GATHERED_SIZE: Final = 16 * 1024
"""Octets that are gathered before they are written: what a TLS record holds."""

MAX_WRITES: Final = 256
"""Writes after which it is looked whether a transport keeps them, as it does when the peer does
not read. Each costs it up to 800 octets beside its content, so tiny ones wait in the engine."""


def _nobody(reason: str) -> None:
    """In the place of who is not to be told any more."""


class Output:
    """The way from an engine to a transport; ``paused`` says that this has enough.

    ``on_stall`` is called, with the reason, when the peer has taken nothing, or next to
    nothing, for too long. What a transport has when it pauses is counted in ``unsent`` until it
    goes on; less is not.
    """

    __slots__ = (
        "_emptied",
        "_gathered",
        "_gathered_size",
        "_is_closing",
        "_largest",
        "_loop",
        "_on_stall",
        "_pace",
        "_size",
        "_tally",
        "_timer",
        "_transfer",
        "_transport",
        "_unsent",
        "_usual",
        "_write",
        "_writes",
        "_written",
        "held",
        "paused",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        timer: Timer,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts,
        unsent: WatchedBudget,
        on_stall: Callable[[str], None],
        tally: Tally | None = None,
    ) -> None:
        self._transport = transport
        # Made once, not for every request.
        self._write = transport.write
        self._is_closing = transport.is_closing
        self._timer = timer
        self._loop = loop
        self._pace = Pace(timeouts.write, timeouts.min_transfer_rate)
        self._unsent = unsent
        self._on_stall = on_stall
        self._tally = tally
        self.paused = False
        self._gathered: list[bytes | memoryview] = []  # goes before anything else
        self._gathered_size = 0
        self._writes = 0  # since it was last looked whether they are kept
        self._written = 0  # octets, in all
        self._transfer: Transfer | None = None  # if the transport was paused at the last look
        self._emptied: asyncio.Future[None] | None = None  # awaited by whoever asked last
        self.held = 0  # octets that the transport had when it paused, as long as it does
        # Asked of the engine at once: now, as a rule, and while the kernel takes it all.
        self._size = self._usual = WRITE_SIZE
        self._largest = LARGEST_WRITE
        transport.set_write_buffer_limits(high=WRITE_SIZE)

    @property
    def taken(self) -> int:
        """Octets, in all, that have left the transport."""
        return self._written - self.waiting

    @property
    def waiting(self) -> int:
        """Octets that the transport still has."""
        return self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Stop asking the engine."""
        self.paused = True
        if self._tally is not None:
            self._tally.add(TRANSPORT_STALLS)
        self._hold(self.waiting)
        if not self._timer.is_set(self._look):
            self._look_later()

    def resume(self) -> None:
        """Go on at the next flush."""
        self.paused = False
        self._hold(0)
        self._transport.set_write_buffer_limits(high=WRITE_SIZE)  # see MAX_WRITES
        self._tell_emptied()

    def stop(self) -> None:
        """Take note that the transport is lost, with what it had; nobody is told of a stall."""
        self._on_stall = _nobody
        self._gathered = []
        self._gathered_size = 0
        self._hold(0)
        self._tell_emptied()

    def emptied(self) -> asyncio.Future[None] | None:
        """Give what sees to the kernel, or lost, all that was written; None if nothing waits."""
        if not self.waiting:
            return None
        emptied = self._emptied = self._loop.create_future()
        self._transport.set_write_buffer_limits(high=0)  # pauses until it is empty
        return emptied

    def _tell_emptied(self) -> None:
        emptied, self._emptied = self._emptied, None
        if emptied is not None and not emptied.done():
            emptied.set_result(None)

    def outlet(self) -> int:
        """Give a descriptor of the socket, the caller's to close, or -1 if there is none.

        What is written to it overtakes what the transport has.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.is_closing():
            return -1
        try:
            return os.dup(sock.fileno())
        except OSError:
            return -1

    def note_passed(self, size: int) -> None:
        """Count octets that went to an outlet."""
        self._written += size
        if self._tally is not None:
            self._tally.add(SENT_OCTETS, size)

    def _hold(self, size: int) -> None:
        self._unsent.add(size - self.held)
        self.held = size

    def ask_for(self, size: int) -> None:
        """Ask the engine for ``size`` octets at once, whatever the kernel takes."""
        self._size = self._usual = self._largest = size

    def write(self, engine: Engine, now: float) -> bool:
        """Hand over what there is to send, until the transport has enough of it.

        Gives whether to come back in the next turn of the loop, see ``Engine.awaits_writer``.
        """
        self.release()
        if self._size > self._usual and self.waiting:
            self._size = self._usual  # smaller writes were kept since the last large one
        while not (self.paused or self._is_closing()):
            data = engine.data_to_send(self._size, now)
            if data:
                self.hand_over(data)
            if engine.awaits_writer:
                return True
            if len(data) < WRITE_SIZE:
                break
            self._size = self._usual if self.waiting else self._largest
        return False

    def gather(self, data: bytes | memoryview) -> None:
        """Keep octets that are of no engine for the next write, or until ``release``."""
        if self._gathered_size + len(data) > GATHERED_SIZE:
            self.release()
        self._gathered.append(data)
        self._gathered_size += len(data)

    def release(self) -> bool:
        """Hand over what was gathered; says whether there was anything."""
        gathered = self._gathered
        if not gathered:
            return False
        self._gathered, self._gathered_size = [], 0
        self.hand_over(b"".join(gathered))
        return True

    def hand_over(self, data: bytes | memoryview) -> None:
        """Hand over octets, of an engine or of nobody, unless ``paused``."""
        if self._gathered:  # which goes first
            self.gather(data)
            self.release()
            return
        self._write(data)
        self._written += len(data)
        if self._tally is not None:
            self._tally.add(SENT_OCTETS, len(data))
        self._writes += 1
        if self._writes > MAX_WRITES:
            self._look_whether_kept()

    def _look_whether_kept(self) -> None:
        self._writes = 0
        if 0 < self.waiting < WRITE_SIZE // 2:
            self._transport.set_write_buffer_limits(high=0)  # pauses until it is empty

    def write_all(self, engine: Engine) -> None:
        """Hand over whatever is left."""
        self.release()
        while not self._transport.is_closing():
            data = engine.data_to_send(self._size, self._loop.time())
            if not data:
                return
            self._transport.write(data)
            if self._tally is not None:
                self._tally.add(SENT_OCTETS, len(data))

    def _look_later(self) -> None:
        self._timer.set(self._look, self._loop.time() + self._pace.interval)

    def _look(self) -> None:
        """See whether what the transport holds becomes less: then the peer takes it.

        A transport that is not paused holds little, and the application goes on.
        """
        if not self.paused:
            self._transfer = None
            return
        self._look_later()
        self._transfer = self._transfer or Transfer()
        if reason := self._transfer.look(self.taken, self._pace, self._pace.interval, rated=True):
            self._on_stall(reason)
