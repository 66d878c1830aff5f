"""What flow control allows at a moment, for those who watch (RFC 9113 section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_FLOWS: Final = 16
"""Streams of a connection that are looked at: more would be no picture but a crowd."""


@dataclass(slots=True)
class StreamFlow:
    """Octets of one stream: what either side may send, and what waits on ours, both ways."""

    stream_id: int
    send_window: int
    receive_window: int
    unread: int
    queued: int


@dataclass(slots=True)
class Flow:
    """The same of the connection, and of its ``streams``, the oldest ``MAX_FLOWS`` of them."""

    send_window: int
    receive_window: int
    unread: int
    queued: int
    streams: list[StreamFlow]
