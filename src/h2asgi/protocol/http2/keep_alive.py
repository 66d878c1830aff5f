"""PING on a silent connection (RFC 9113 section 6.7): the way stays open, a lost peer is found."""

from __future__ import annotations

from math import inf
from typing import Final

from ..pace import LOOKS

KEEP_ALIVE_PING: Final = b"h2asgi\x00\x03"


class KeepAlive:
    """When to send a PING, and whether a peer is lost; whatever it sends shows that it is not.

    The time for the answer is counted in looks, as in ``protocol.pace``: an application that
    blocks the loop for so long, with the answer unread in the kernel, does not lose its peer. A
    look counts only if octets were asked for since the one before: while the transport has enough,
    the PING waits in it, and whether the peer takes anything is the affair of ``--write-timeout``.
    """

    __slots__ = ("_heard_before", "_interval", "_looks", "_timeout", "due", "flushed", "heard")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self.heard = now  # from the peer, last
        self._heard_before = -inf  # when the PING went out that is unanswered
        self._looks = 0
        self.flushed = False  # since the last look
        self.due = now + interval if interval else inf

    def look(self, now: float) -> bool:
        """Whether a PING is to go out now; ``lost`` says the rest."""
        if self.heard == self._heard_before:
            self._looks += self.flushed
            self.flushed = False
            self.due = now + self._timeout / LOOKS
            return False
        self._looks = 0
        if now < self.heard + self._interval:
            self.due = self.heard + self._interval
            return False
        self._heard_before = self.heard
        self.flushed = False
        self.due = now + self._timeout / LOOKS
        return True

    @property
    def lost(self) -> bool:
        """Whether the peer has let a PING go unanswered for too long."""
        return self._looks >= LOOKS
