"""Streams: those that are open, and what is remembered of those that are closed."""

from __future__ import annotations

from collections import deque
from typing import cast

from h2.connection import H2Connection
from h2.stream import H2Stream, StreamInputs, StreamState

from ...errors import ErrorCode, PeerConnectionError
from .receive_window import ReceiveWindow
from .send_queue import Outgoing

RESET_STREAMS_REMEMBERED = 1000
"""Streams that we reset, and whose late frames are therefore no mistake. Such frames were in flight
and arrive within a round trip, long before so many others have been reset."""

ENDED_STREAMS_REMEMBERED = 128
"""Streams that ended otherwise. A frame on one of them is a connection error in any case; only the
code differs from that for a stream that never was."""

_REQUEST_ENDED = (StreamState.HALF_CLOSED_REMOTE, StreamState.CLOSED)


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
        self.answered = False  # whether any field section was written

    @property
    def request_ended(self) -> bool:
        """Whether END_STREAM has come in: half-closed (remote), or closed and not yet settled."""
        return self.state_machine.state in _REQUEST_ENDED

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

    __slots__ = ("_ended", "_h2", "_reset", "open")

    def __init__(self, h2: H2Connection) -> None:
        self._h2 = h2
        self.open = cast("dict[int, Stream]", h2.streams)
        self._reset: deque[int] = deque(maxlen=RESET_STREAMS_REMEMBERED)
        self._ended: deque[int] = deque(maxlen=ENDED_STREAMS_REMEMBERED)

    @property
    def highest(self) -> int:
        """The highest stream id that a client has used."""
        return self._h2.highest_inbound_stream_id

    def take_id(self, stream_id: int) -> None:
        """Use up a new stream id (RFC 9113 section 5.1.1)."""
        if stream_id % 2 == 0:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "even stream id from a client")
        self._h2.highest_inbound_stream_id = stream_id

    def close(self, stream: Stream, *, by_us: bool) -> None:
        """Move a stream from the open to the closed ones; ``by_us`` if we sent RST_STREAM."""
        del self.open[stream.stream_id]
        (self._reset if by_us else self._ended).append(stream.stream_id)

    def refuse(self, stream_id: int) -> None:
        """Note that a stream was reset without ever being open here."""
        self._reset.append(stream_id)

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
