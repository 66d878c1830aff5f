"""Streams: those that are open, and what is remembered of those that are closed."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from typing import cast

from h2.connection import H2Connection
from h2.stream import H2Stream, StreamInputs, StreamState

from ...errors import ErrorCode, PeerConnectionError
from .receive_window import ReceiveWindow
from .send_queue import Outgoing

CLOSED_STREAMS_REMEMBERED = 1000
"""How many closed streams are told apart from streams that never were. Frames that were in flight
when a stream closed arrive within a round trip, long before so many others have closed."""


class ClosedBy(Enum):
    """How a stream ended, which decides what a late frame on it means (RFC 9113 section 5.1)."""

    US = auto()  # we sent RST_STREAM, and the peer may not have seen it yet
    PEER = auto()  # the peer sent RST_STREAM and must be silent from then on
    BOTH = auto()  # END_STREAM went both ways


class Stream(H2Stream):
    """h2's stream, with what this engine keeps beside it: windows, queue and body length."""

    def __init__(self, stream_id: int, connection: H2Connection, receive_window: int) -> None:
        super().__init__(
            stream_id,
            config=connection.config,
            inbound_window_size=receive_window,
            outbound_window_size=connection.remote_settings.initial_window_size,
        )
        self.max_outbound_frame_size = connection.max_outbound_frame_size
        self.window = ReceiveWindow(receive_window)
        self.outgoing = Outgoing()
        self.body_left: int | None = None  # octets that content-length still promises

    @property
    def request_ended(self) -> bool:
        """Whether END_STREAM has come in: half-closed (remote)."""
        return self.state_machine.state is StreamState.HALF_CLOSED_REMOTE

    @property
    def response_started(self) -> bool:
        """Whether the final header section has gone out."""
        return bool(self.state_machine.headers_sent)

    def step(self, step: StreamInputs) -> None:
        """Move h2's state machine; raises h2's ProtocolError for what cannot be."""
        self.state_machine.process_input(step)


class StreamTable:
    """The streams of one connection. The open ones are h2's own dictionary, so that its SETTINGS
    changes reach them."""

    __slots__ = ("_closed", "_h2", "open")

    def __init__(self, h2: H2Connection) -> None:
        self._h2 = h2
        self.open = cast("dict[int, Stream]", h2.streams)
        self._closed: OrderedDict[int, ClosedBy] = OrderedDict()

    @property
    def highest(self) -> int:
        """The highest stream id that a client has used."""
        return self._h2.highest_inbound_stream_id

    def take_id(self, stream_id: int) -> None:
        """Use up a new stream id (RFC 9113 section 5.1.1)."""
        if stream_id % 2 == 0:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "even stream id from a client")
        self._h2.highest_inbound_stream_id = stream_id

    def close(self, stream: Stream, closed_by: ClosedBy) -> None:
        """Move a stream from the open to the closed ones."""
        del self.open[stream.stream_id]
        self.remember(stream.stream_id, closed_by)

    def remember(self, stream_id: int, closed_by: ClosedBy) -> None:
        """Note how a stream ended."""
        self._closed[stream_id] = closed_by
        if len(self._closed) > CLOSED_STREAMS_REMEMBERED:
            self._closed.popitem(last=False)

    def not_idle(self, stream_id: int) -> Stream | None:
        """The stream of a frame that only idle streams may not have; None when it is closed."""
        stream = self.open.get(stream_id)
        if stream is None and (stream_id > self.highest or stream_id % 2 == 0):
            # Section 5.1, "idle".
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on an idle stream")
        return stream

    def check_late_frame(self, stream_id: int) -> None:
        """A DATA or HEADERS frame on a stream that is not open (section 5.1, "closed")."""
        closed_by = self._closed.get(stream_id)
        if closed_by is None:
            # Section 5.1.1: idle, or skipped and so closed without ever having been used.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on a stream that never was")
        if closed_by is not ClosedBy.US:
            raise PeerConnectionError(ErrorCode.STREAM_CLOSED, "frame on a closed stream")
