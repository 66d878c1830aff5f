"""How a connection says that it ends (RFC 9113 section 6.8)."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorCode
from ...tally import GOAWAYS_SENT, Tally
from . import frames
from .sender import Sender
from .stream import MAX_STREAM_ID, StreamTable

SHUTDOWN_GRACE: Final = 1.0
"""Seconds for the answer to the PING between the two GOAWAY frames."""

IDLE_SHUTDOWN_GRACE: Final = 0.5
"""The same when nothing is open: a client that is just sending its next request needs a round trip,
one that sleeps should not hold up a restart."""

SHUTDOWN_PING: Final = b"h2asgi\x00\x01"


class Goaway:
    """What was said, and by whom.

    Our own end has two stages. The first GOAWAY, with 2^31-1, asks the client
    to open nothing new; after a round trip the second names the last stream
    that is served. No request falls in between.
    """

    __slots__ = (
        *("_sender", "_streams", "_tally"),
        *("begun", "deadline", "last_stream_id", "peer_is_leaving"),
    )

    def __init__(self, sender: Sender, streams: StreamTable, tally: Tally) -> None:
        self._sender = sender
        self._streams = streams
        self._tally = tally
        self.begun = False
        self.deadline: float | None = None  # while the PING is out
        self.last_stream_id = MAX_STREAM_ID  # above it nothing is served
        self.peer_is_leaving = False

    @property
    def due(self) -> bool:
        """Whether the connection is to end as soon as no stream is open."""
        return self.peer_is_leaving or (self.begun and self.deadline is None)

    def begin(self, now: float) -> None:
        """Say the first GOAWAY; once."""
        if self.begun:
            return
        self.begun = True
        self.deadline = now + (SHUTDOWN_GRACE if self._streams.open else IDLE_SHUTDOWN_GRACE)
        self._sender.write(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))
        self._tally.code(GOAWAYS_SENT, ErrorCode.NO_ERROR)
        self._sender.write(frames.ping(SHUTDOWN_PING, ack=False))

    def ping_acknowledged(self) -> None:
        """Go on to the second GOAWAY: the client has seen the first, or had its time."""
        if self.deadline is not None:
            self.deadline = None
            self.say(ErrorCode.NO_ERROR)

    def say(self, error_code: int, reason: str = "") -> None:
        """Name the last stream that is served. It may only ever fall."""
        self.last_stream_id = min(self.last_stream_id, self._streams.highest)
        self._sender.write(frames.goaway(self.last_stream_id, error_code, reason.encode()))
        self._tally.code(GOAWAYS_SENT, error_code)
