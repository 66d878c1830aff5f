"""Streams: those that are open, and what is remembered of those that are closed."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorCode, PeerConnectionError
from ..events import Headers
from .outgoing import Outgoing
from .priority import UNSAID, Priority, PriorityField
from .receive_window import ReceiveWindow

MAX_STREAM_ID: Final = 2**31 - 1

RESET_STREAMS_REMEMBERED: Final = 1000
"""Streams that we reset, and whose late frames are therefore no mistake. Such frames were in flight
and arrive within a round trip, long before so many others have been reset."""

ENDED_STREAMS_REMEMBERED: Final = 128
"""Streams that ended otherwise. A frame on one of them is a connection error in any case; only the
code differs from that for a stream that never was."""


class Stream:
    """One open stream: its state (RFC 9113 section 5.1), windows, queue and body length.

    A method is called when the section or frame that it names comes or goes;
    the caller has seen that the state allows it.
    """

    __slots__ = (
        "answered",
        "body_left",
        "outgoing",
        "own_priority",
        "priority",
        "request_ended",
        "response_ended",
        "response_fields",
        "response_started",
        "send_window",
        "stream_id",
        "tunnel",
        "window",
    )

    def __init__(self, stream_id: int, send_window: int) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        self.window: ReceiveWindow | None = None  # None when the request has no body
        self.outgoing: Outgoing | None = None  # None as long as nothing had to wait
        self.priority: Priority = UNSAID
        self.own_priority: PriorityField | None = None  # as the response says
        self.body_left: int | None = None  # octets that content-length still promises
        self.request_ended = False  # END_STREAM has come in
        self.response_fields: Headers | None = None  # until its body first has to wait
        self.response_started = False  # the final header section has gone out
        self.response_ended = False  # its last octet, or the trailers, are written or queued
        self.tunnel = False  # accepted: either half ends by itself
        self.answered = False  # whether any field section was written

    def receive_headers(self, end_stream: bool) -> None:
        """The request's header or trailer section."""
        self.request_ended = end_stream

    def receive_data(self, end_stream: bool) -> None:
        """A DATA frame."""
        self.request_ended = end_stream

    def send_informational(self) -> None:
        """A 1xx section."""

    def send_headers(self, end_stream: bool) -> None:
        """The final header section, or the trailers."""
        self.response_started = True

    def send_data(self, end_stream: bool) -> None:
        """A DATA frame."""


class StreamTable:
    """The streams of one connection, by id."""

    __slots__ = ("_ended", "_oldest_ended", "_reset", "highest", "open", "transfer_began")

    def __init__(self) -> None:
        self.open: dict[int, Stream] = {}
        self.highest = 0  # the highest id that the client has used
        self.transfer_began = False  # a body is to come, or octets wait: see ``transfers``
        self._reset: dict[int, None] = {}  # in order, and quick to look into: frames may be many
        self._ended: list[int] = []  # a ring, as a deque takes 760 octets when it is empty
        self._oldest_ended = 0  # its place in the ring, once that is full

    def take_id(self, stream_id: int) -> None:
        """Use up a new stream id (RFC 9113 section 5.1.1)."""
        if stream_id % 2 == 0:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "even stream id from a client")
        self.highest = stream_id

    def close(self, stream: Stream, *, by_us: bool) -> None:
        """Move a stream from the open to the closed ones; ``by_us`` if we sent RST_STREAM."""
        del self.open[stream.stream_id]
        if by_us:
            self.refuse(stream.stream_id)
        elif len(self._ended) < ENDED_STREAMS_REMEMBERED:
            self._ended.append(stream.stream_id)
        else:
            self._ended[self._oldest_ended] = stream.stream_id
            self._oldest_ended = (self._oldest_ended + 1) % ENDED_STREAMS_REMEMBERED

    def refuse(self, stream_id: int) -> None:
        """Note that a stream was reset without ever being open here."""
        self._reset[stream_id] = None
        if len(self._reset) > RESET_STREAMS_REMEMBERED:
            del self._reset[next(iter(self._reset))]

    def was_reset(self, stream_id: int) -> bool:
        """Whether we reset it, so that what is late on it is no mistake, whatever it is."""
        return stream_id in self._reset

    def not_idle(self, stream_id: int) -> Stream | None:
        """The stream of a frame that only idle streams may not have; None when it is closed."""
        stream = self.open.get(stream_id)
        if stream is None and (stream_id > self.highest or stream_id % 2 == 0):
            # Section 5.1, "idle".
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on an idle stream")
        return stream

    def check_late_frame(self, stream_id: int) -> None:
        """A DATA or HEADERS frame on a stream that is not open (section 5.1, "closed")."""
        if stream_id in self._reset:
            return
        if stream_id in self._ended:
            raise PeerConnectionError(ErrorCode.STREAM_CLOSED, "frame on a closed stream")
        # Section 5.1.1: idle, or skipped and so closed without ever having been used.
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on a stream that never was")
