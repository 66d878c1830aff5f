"""Requests whose responses have ended before them, and whose rest is on its way.

RFC 9113 section 8.1 lets a server ask a client to stop, by RST_STREAM(NO_ERROR).
There are clients, curl before 8 among them, that report an error then and lose
the response. When the rest is small they need not be asked: it comes at once.
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

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: dict[Stream, float] = {}  # since when

    def begin(self, stream: Stream, now: float) -> None:
        """Give the rest of a request its time, if the client needs no more credit for it.

        Otherwise it is to be asked to stop, as is one whose length nobody knows.
        """
        window, rest = stream.window, stream.body_left
        awaited = window is not None and not window.awaiting_continue
        small = window is not None and rest is not None and rest <= window.available
        self._streams[stream] = now if awaited and small else -inf

    @property
    def due(self) -> float:
        """When the first one is over, if nothing happens before; inf if there is none."""
        for since in self._streams.values():
            return since + DISCARD_TIMEOUT
        return inf

    def take_over(self, open_streams: Mapping[int, Stream], now: float) -> list[Stream]:
        """Give those, still open, whose time is over or whose request has ended."""
        over = []
        for stream, since in list(self._streams.items()):
            is_open = open_streams.get(stream.stream_id) is stream
            if is_open and not stream.request_ended and now < since + DISCARD_TIMEOUT:
                continue
            del self._streams[stream]
            if is_open:  # not reset by the peer
                over.append(stream)
        return over
