"""Requests whose responses have ended before them, and whose rest is on its way.

RFC 9113 section 8.1 lets a server ask a client to stop, by RST_STREAM(NO_ERROR).
There are clients, curl before 8 among them, that report an error then and lose
the response. When the rest may be small they are not asked: it comes at once, or
needs more credit, which it does not get. Until then the stream is open, so that
what breaks a rule on it is answered, whether the response was quicker or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from .stream import Stream

DISCARD_TIMEOUT: Final = 1.0
"""Seconds that the rest of a request may take before its stream is reset."""


class Discards:
    """Streams that are half-closed by us, in the order in which they came to be so."""

    __slots__ = ("streams",)

    def __init__(self) -> None:
        self.streams: dict[Stream, float] = {}  # since when

    def begin(self, stream: Stream, now: float) -> None:
        """Give the rest of a request its time, unless it is known to be for nothing.

        That it is for a client that waits for us, or has more to send than it may.
        """
        window, rest = stream.window, stream.body_left
        awaited = window is not None and not (window.awaiting_continue or window.asks_for_tunnel)
        fits = window is not None and (rest is None or rest <= window.available)
        self.streams[stream] = now if awaited and fits else -inf

    def hurry(self) -> None:
        """Wait for nothing more: the connection is to end."""
        for stream in self.streams:
            self.streams[stream] = -inf

    @property
    def due(self) -> float:
        """When the first one is over, if nothing happens before; inf if there is none."""
        for since in self.streams.values():
            return since + DISCARD_TIMEOUT
        return inf

    def take_over(self, open_streams: Mapping[int, Stream], now: float) -> list[Stream]:
        """Give those, still open, whose time or credit is over or whose request has ended."""
        over = []
        for stream, since in list(self.streams.items()):
            is_open = open_streams.get(stream.stream_id) is stream
            in_time = now < since + DISCARD_TIMEOUT and not _needs_credit(stream)
            if is_open and not stream.request_ended and in_time:
                continue
            del self.streams[stream]
            if is_open:  # not reset by the peer
                over.append(stream)
        return over


def _needs_credit(stream: Stream) -> bool:
    window = stream.window
    return window is not None and window.available <= 0
