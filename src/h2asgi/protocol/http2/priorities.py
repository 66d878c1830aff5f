"""What is said of the priorities of a connection's responses, and by whom (RFC 9218)."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorCode, PeerConnectionError
from .priority import DEFAULT, Priority, parse
from .sender import Sender
from .stream import Stream, StreamTable

MAX_EARLY_UPDATES: Final = 128
"""PRIORITY_UPDATE frames that are remembered for streams yet to be opened, however many streams the
operator allows. Browsers send none that early."""

_STREAM_ID_MASK: Final = 0x7FFFFFFF


def respond(stream: Stream) -> None:
    """Take what a response that has not waited yet says of itself. What it does not say stays
    (section 8)."""
    fields, stream.response_fields = stream.response_fields, None
    values = [value for name, value in fields or () if name == b"priority"]
    said = parse(b", ".join(values)) if values else None
    if said is not None:
        stream.own_priority = said
        stream.priority = said.over(stream.priority)


class Priorities:
    """Takes the signals of client and application to the streams they are for.

    A PRIORITY_UPDATE frame counts more than the request's field, whichever came
    first (section 7), and what the response itself says more than both (section 8).
    """

    __slots__ = ("_early", "_max_streams", "_sender", "_streams", "limit_known")

    def __init__(self, max_concurrent_streams: int, streams: StreamTable, sender: Sender) -> None:
        self._max_streams = max_concurrent_streams
        self._streams = streams
        self._sender = sender
        self._early: dict[int, Priority] = {}  # of streams that are still idle
        self.limit_known = False  # whether the client has acknowledged how many there may be

    def begin(self, stream: Stream, field: bytes | None) -> None:
        """Give a stream that has just been opened its priority; ``field`` is the request's."""
        if self._early:
            early = self._early.pop(stream.stream_id, None)
            self._forget_closed()
            if early is not None:
                stream.priority = early
                return
        if field is not None:
            said = parse(field)
            if said is not None:
                stream.priority = said.over(DEFAULT)

    def update(self, frame_stream_id: int, payload: memoryview) -> None:
        """Take a PRIORITY_UPDATE frame (section 7.1); raises PeerConnectionError.

        A value that cannot be parsed is ignored, as it is in a request.
        """
        if frame_stream_id:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            # RFC 9113 section 4.2.
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY_UPDATE is too short")
        stream_id = int.from_bytes(payload[:4], "big") & _STREAM_ID_MASK
        if stream_id % 2 == 0:
            # Neither 0 nor a push stream, of which there are none.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE for no request")
        said = parse(bytes(payload[4:]))
        if said is None:
            return
        priority = said.over(DEFAULT)
        stream = self._streams.open.get(stream_id)
        if stream is not None:
            own = stream.own_priority
            self._sender.prioritise(stream, priority if own is None else own.over(priority))
        elif stream_id > self._streams.highest:
            self._remember(stream_id, priority)

    def _remember(self, stream_id: int, priority: Priority) -> None:
        if stream_id not in self._early:
            self._forget_closed()
            if len(self._early) + len(self._streams.open) >= self._max_streams:
                if not self.limit_known:  # RFC 9113 section 6.5.3
                    return
                raise PeerConnectionError(
                    ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE for too many streams"
                )
            if len(self._early) >= MAX_EARLY_UPDATES:
                return
        self._early[stream_id] = priority

    def _forget_closed(self) -> None:
        """Forget streams that were refused, or skipped (RFC 9113 section 5.1.1)."""
        for stream_id in [one for one in self._early if one <= self._streams.highest]:
            del self._early[stream_id]
