"""Frames to messages and back (RFC 6455 sections 5 to 7): the interface and its events.

A codec knows nothing of HTTP: octets of the tunnel go in by ``receive_data``
and messages come out; what goes out is returned as octets. It never raises for
what a peer does: a peer's mistake becomes ``ConnectionFailed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .deflate import PerMessageDeflate


@dataclass(slots=True)
class MessageReceived:
    """A whole message: ``str`` if it is text, ``bytes`` if it is binary (RFC 6455 section 5.6)."""

    data: str | bytes


@dataclass(slots=True)
class PongReceived:
    """A Pong, asked for or not (RFC 6455 section 5.5.3). Pings need no event."""

    payload: bytes


@dataclass(slots=True)
class CloseReceived:
    """The peer's Close frame, the last event; 1005 if it has no code (RFC 6455 section 7.1.5).

    If it began the closing handshake, its answer waits in ``take_answers``.
    """

    code: int
    reason: str


@dataclass(slots=True)
class ConnectionFailed:
    """The peer broke a rule, the last event; its Close frame waits in ``take_answers``.

    ``code`` is 1002, 1007 or 1009 (RFC 6455 sections 7.1.7 and 7.4.1).
    """

    code: int
    reason: str


WebSocketEvent = MessageReceived | PongReceived | CloseReceived | ConnectionFailed


class Codec:
    """The server's end of one WebSocket, open from the start.

    ``close_sent`` says that our Close frame is out or waits in ``take_answers``:
    after it nothing may be sent (RFC 6455 section 5.5.1), so that whatever would
    be sent then is empty. ``over`` says that the last event has been given.
    """

    name: ClassVar[str]

    def __init__(self, max_message_size: int, deflate: PerMessageDeflate | None = None) -> None:
        self.close_sent = False
        self.over = False

    def receive_data(self, data: bytes) -> list[WebSocketEvent]:
        """Take octets from the peer and give what they complete, oldest first.

        Messages that come after our own Close are dropped, and after
        ``CloseReceived`` and ``ConnectionFailed`` nothing is looked at any more.
        """
        raise NotImplementedError

    def take_answers(self) -> bytes:
        """Give the Pong and Close frames that are owed, fewer octets than have been received.

        To be called after ``receive_data``, and sent before anything else.
        """
        raise NotImplementedError

    def send_message(self, data: str | bytes) -> bytes:
        """Give the frame of a whole message: text if ``data`` is ``str``, binary if ``bytes``."""
        raise NotImplementedError

    def ping(self, payload: bytes) -> bytes:
        """Give a Ping frame with at most 125 octets (RFC 6455 section 5.5.2)."""
        raise NotImplementedError

    def close(self, code: int, reason: str) -> bytes:
        """Give the Close frame that begins the closing handshake.

        1005 leaves the code out. A reason is cut to 123 octets of UTF-8. Raises
        ``IllegalMessage`` for a code that no endpoint may send (RFC 6455 section 7.4).
        """
        raise NotImplementedError
