"""The receiving half of a connection: what each frame means, and what a broken rule costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...config import HTTP2Config
from ...errors import ErrorCode, PeerConnectionError, PeerStreamError
from ...limits import Budget
from ...tally import GOAWAYS_RECEIVED, RESETS_RECEIVED, RESETS_SENT, STREAMS_LIMIT, Tally
from ..events import (
    DataReceived,
    Event,
    Headers,
    PingAcknowledged,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RequestTimedOut,
    StreamReset,
)
from ..headers import RequestError, RequestHead
from . import frames
from .field_block import FieldBlock, check_dependency
from .frames import Flag, FrameReader, FrameType
from .goaway import SHUTDOWN_PING, Goaway
from .keep_alive import KEEP_ALIVE_PING
from .peer_budgets import PeerBudgets
from .peer_settings import DEFAULT_WINDOW
from .priorities import Priorities
from .receive_window import ConnectionWindow, ReceiveWindow
from .sections import RequestSections
from .sender import Sender
from .stream import MAX_STREAM_ID, Stream, StreamTable
from .window_growth import MEASURING_PING, WindowGrowth

OCTETS_DECODED: Final = 16
"""Of a late field block, that count as a frame. It had to be decoded, which takes as long as some
frames for each field; the trailers of a stream that was reset are a few frames' worth."""

HTTP_VERSION: Final = "2"


class Receiver:
    """Owns the input and the credit for it; leaves what happened in ``events``.

    ``receive`` raises PeerConnectionError. Stream errors are dealt with here.
    """

    def __init__(
        self,
        config: HTTP2Config,
        sections: RequestSections,
        stream_type: type[Stream],
        streams: StreamTable,
        sender: Sender,
        goaway: Goaway,
        priorities: Priorities | None,
        budgets: PeerBudgets,
        unread_bodies: Budget,
        tally: Tally,
    ) -> None:
        self._config = config
        self._tally = tally
        self._sections = sections
        self._stream_type = stream_type
        self._streams = streams
        self._sender = sender
        self._goaway = goaway
        self._priorities = priorities  # None: nobody is asked for any
        self._budgets = budgets
        self._last_stream_id = budgets.last_stream_id
        self._now = 0.0
        self._reader = FrameReader(config.max_frame_size)
        self._block = FieldBlock(config.max_header_list_size)
        self._growth = WindowGrowth(config, unread_bodies)
        self._window = ConnectionWindow(self._growth, config.max_connection_window, unread_bodies)
        self.settings_received = False
        self.events: list[Event] = []
        # SETTINGS do not raise the connection window (RFC 9113 section 6.9.2).
        increment = self._window.available - DEFAULT_WINDOW
        if increment > 0:
            sender.write(frames.window_update(0, increment))

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take input; ``receive`` is to be called until nothing of it is left."""
        self._reader.feed(data)

    @property
    def awaited(self) -> int | None:
        """See ``FrameReader``."""
        return self._reader.awaited

    @property
    def window(self) -> ConnectionWindow:
        """The credit of the connection, to be looked at."""
        return self._window

    @property
    def window_open(self) -> bool:
        """Whether the peer may send DATA on the connection."""
        return self._window.available > 0

    @property
    def block_since(self) -> float | None:
        """When the field block under way began, if one is."""
        return self._block.since

    def receive(self, now: float) -> bool:
        """Act on the next frame that is there whole; False if there is none."""
        reader = self._reader
        if not reader.next():
            return False
        kind, stream_id = reader.kind, reader.stream_id
        if kind > FrameType.HEADERS or not stream_id:
            reader.check()
        self._now = now
        if self._block.since is not None and kind != FrameType.CONTINUATION:
            # Section 6.10: nothing comes between the frames of a field block.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame inside a field block")
        if not self.settings_received and kind != FrameType.SETTINGS:
            # Section 3.4.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
        if kind == FrameType.DATA:
            self._receive_data_frame(reader.flags, stream_id, reader.payload)
        elif kind == FrameType.HEADERS:
            self._receive_headers_frame(reader.flags, stream_id, reader.payload)
        else:
            self._receive_other_frame(kind, reader.flags, stream_id, reader.payload)
        return True

    def _receive_other_frame(
        self, kind: int, flags: int, stream_id: int, payload: memoryview
    ) -> None:
        self._budgets.take_control_frame(self._now)
        if kind <= FrameType.CONTINUATION:  # section 5.5: frames of unknown types are ignored
            _RECEIVE[kind - FrameType.PRIORITY](self, flags, stream_id, payload)
        elif kind == FrameType.PRIORITY_UPDATE and self._priorities is not None:
            self._priorities.update(stream_id, payload)

    def _receive_data_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        size = len(payload)
        self._window.receive(size)
        payload = frames.strip_padding(flags, payload)
        stream = self._streams.open.get(stream_id)
        if stream is None or stream.window is None:
            # Dropped, but it has used the connection window (section 5.1).
            self._window.acknowledge(size)
            self._give_connection_credit()
            if stream is None:
                self._receive_late_frame(stream_id)
            else:
                # Section 5.1, "half-closed (remote)".
                self._fail(stream, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        elif not stream.window.receive(size):
            # Section 6.9.1.
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the stream window")
        elif stream.request_ended:
            self._fail(stream, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        else:
            if size != len(payload):
                self.acknowledge(stream, size - len(payload))  # nobody consumes padding
            growth = self._growth
            if growth.taken >= growth.enough and growth.begin(stream.window.due, self._now):
                self._sender.write(frames.ping(MEASURING_PING, ack=False))
            stream.window.content += len(payload)
            self._receive_body(stream, payload, bool(flags & Flag.END_STREAM))
            # The window grows as unread octets arrive; their reader may never come.
            self._give_connection_credit()

    def _receive_body(self, stream: Stream, payload: memoryview, end_stream: bool) -> None:
        promised = stream.body_left
        if promised is not None:
            # Section 8.1.1: content-length and DATA must agree.
            left: int = promised - len(payload)
            stream.body_left = left
            if left < 0 or (end_stream and left):
                self._fail(stream, ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
                return
        stream.receive_data(end_stream)
        if payload:
            if stream.window is not None and stream.window.discarded:
                self.acknowledge(stream, len(payload))
            else:
                self.events.append(DataReceived(stream.stream_id, payload.tobytes()))
        elif not end_stream:
            self._budgets.take_control_frame(self._now)
        if end_stream:
            self.events.append(RequestEnded(stream.stream_id))

    def _receive_late_frame(self, stream_id: int, work: int = 1) -> None:
        """DATA or HEADERS on a stream that is not open."""
        self._streams.check_late_frame(stream_id)
        self._budgets.take_control_frame(self._now, work)

    def _receive_headers_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if flags & ~Flag.END_STREAM == Flag.END_HEADERS:  # the whole block and nothing else, mostly
            self._receive_block(stream_id, payload.tobytes(), flags != Flag.END_HEADERS)
            return
        block = self._block.begin(flags, stream_id, payload, self._now)
        if block is not None:
            self._receive_block(stream_id, bytes(block), self._block.end_stream)

    def _receive_continuation_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        block = self._block.go_on(flags, stream_id, payload)
        if block is not None:
            self._receive_block(stream_id, bytes(block), self._block.end_stream)

    def _receive_block(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        # It is decoded first, whatever becomes of the stream.
        streams = self._streams
        stream = streams.open.get(stream_id)
        try:
            if stream is not None:
                self._receive_trailers(stream, self._sections.trailers(block), end_stream)
                return
            head = self._sections.request(block, end_stream)
            if stream_id <= streams.highest:
                self._receive_late_frame(stream_id, 1 + len(block) // OCTETS_DECODED)
                return
            streams.take_id(stream_id)
            self._receive_request(stream_id, head, end_stream)
        except PeerStreamError as error:
            if stream is not None:
                self._fail(stream, error.error_code, error.reason)
                return
            streams.refuse(stream_id)
            self._tally.code(RESETS_SENT, error.error_code)
            self._sender.answer(frames.rst_stream(stream_id, error.error_code))
            self._budgets.lose_request(self._now)

    def _receive_request(
        self, stream_id: int, head: RequestHead | RequestError, end_stream: bool
    ) -> None:
        self._sender.check_answers()
        if stream_id > self._goaway.last_stream_id:
            # Section 6.8: the client has our GOAWAY on its way and will try elsewhere.
            raise PeerStreamError(ErrorCode.REFUSED_STREAM, "shutting down")
        if len(self._streams.open) >= self._config.max_concurrent_streams:
            # Section 5.1.2; the client may try again.
            self._tally.add(STREAMS_LIMIT)
            raise PeerStreamError(ErrorCode.REFUSED_STREAM, "too many streams")
        if stream_id >= self._last_stream_id:
            self._goaway.begin(self._now)
        if isinstance(head, RequestError):
            if head.status == 400:
                # Section 8.1.1: malformed.
                raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, head.reason)
            self._reject(stream_id, head, head.status, head.reason, end_stream)
            return
        if end_stream and head.content_length:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
        if end_stream and head.protocol:
            # Well-formed, but through this tunnel nothing can come.
            self._reject(stream_id, head, 400, "CONNECT with END_STREAM", end_stream)
            return
        stream = self._open(stream_id, end_stream)
        stream.body_left = head.content_length
        if stream.window is not None:
            stream.window.awaiting_continue = head.expect_continue
            stream.window.asks_for_tunnel = head.protocol is not None
            if head.protocol is None:
                self._streams.transfer_began = True
        if self._priorities is not None:
            self._priorities.begin(stream, head.priority)
        self.events.append(
            RequestReceived(
                stream_id,
                HTTP_VERSION,
                head.method,
                head.target,
                head.headers.copy(),
                end_stream,
                head.expect_continue and not end_stream,
                head.protocol,
            )
        )

    def _reject(
        self,
        stream_id: int,
        head: RequestHead | RequestError,
        status: int,
        reason: str,
        end_stream: bool,
    ) -> None:
        """Have the driver answer what never becomes a request."""
        self._budgets.lose_request(self._now)
        stream = self._open(stream_id, end_stream)
        if stream.window is not None:
            stream.window.asks_for_tunnel = head.method == "CONNECT"
        self.events.append(
            RequestRejected(stream_id, HTTP_VERSION, head.method, head.target, status, reason)
        )

    def _open(self, stream_id: int, end_stream: bool) -> Stream:
        stream = self._stream_type(stream_id, self._sender.initial_window)
        if not end_stream:
            stream.window = ReceiveWindow(self._config.stream_window)
        stream.receive_headers(end_stream)
        self._streams.open[stream_id] = stream
        return stream

    def _receive_trailers(
        self, stream: Stream, trailers: Headers | RequestError, end_stream: bool
    ) -> None:
        if stream.request_ended:
            # Section 5.1, "half-closed (remote)".
            raise PeerStreamError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if stream.tunnel:
            # Section 8.5: nothing but DATA comes through it.
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "HEADERS within a tunnel")
        if not end_stream:
            # Section 8.1: a second field section is the trailers, and the end.
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        if stream.body_left:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
        if isinstance(trailers, RequestError):
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, trailers.reason)
        stream.receive_headers(end_stream)
        self.events.append(RequestEnded(stream.stream_id, trailers))

    def _receive_priority_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        # Section 5.3.2: deprecated, so only its form is looked at.
        if len(payload) == 5:
            check_dependency(stream_id, payload)
            return
        # Section 6.3: the one wrong size that is a stream error.
        stream = self._streams.open.get(stream_id)
        if stream is not None:
            self._fail(stream, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has the wrong size")
        elif not self._streams.was_reset(stream_id):
            # A stream that is idle or has ended cannot be reset (sections 5.1 and 6.4).
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has the wrong size")

    def _receive_rst_stream_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        stream = self._streams.not_idle(stream_id)
        if stream is None:
            return
        self.close(stream, by_us=False)
        error_code = int.from_bytes(payload, "big")
        self._tally.code(RESETS_RECEIVED, error_code)
        self.report_reset(stream, error_code, "reset by the peer", remote=True)
        self._budgets.lose_request(self._now)

    def _receive_settings_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if (flags & Flag.ACK and payload) or len(payload) % 6:
            # Section 6.5.
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has the wrong size")
        if flags & Flag.ACK:
            if self._priorities is not None:
                self._priorities.limit_known = True
            return
        self.settings_received = True
        # Every entry is looked at, and every open stream.
        work = len(payload) // 6 + len(self._streams.open)
        self._budgets.take_control_frame(self._now, work)
        self._sender.apply_settings(payload)

    def _receive_push_promise_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        # Section 8.4: a client cannot push.
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _receive_ping_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        octets = bytes(payload)
        if not flags & Flag.ACK:
            self._sender.answer(frames.ping(octets, ack=True))
        elif octets == MEASURING_PING:
            self._growth.ping_acknowledged(self._now)
        elif octets == SHUTDOWN_PING:
            self._goaway.ping_acknowledged()
        elif octets != KEEP_ALIVE_PING:  # that anything came is enough
            self.events.append(PingAcknowledged(octets))

    def _receive_goaway_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if len(payload) < 8:
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has the wrong size")
        # Section 6.8: what is in flight finishes, then the connection ends.
        self._goaway.peer_is_leaving = True
        self._tally.code(GOAWAYS_RECEIVED, int.from_bytes(payload[4:8], "big"))

    def _receive_window_update_frame(self, flags: int, stream_id: int, payload: memoryview) -> None:
        increment = int.from_bytes(payload, "big") & MAX_STREAM_ID
        stream = self._streams.not_idle(stream_id) if stream_id else None
        if not stream_id:
            self._sender.open_connection_window(increment)
        elif stream is not None:
            try:
                self._sender.open_stream_window(stream, increment)
            except PeerStreamError as error:
                self._fail(stream, error.error_code, error.reason)

    # Credit, and the end of streams.

    def take(self, stream: Stream, size: int) -> None:
        """Count octets that the application took, or dropped before the stream was discarded."""
        if stream.window is not None and stream.window.discarded:
            return  # they have been counted
        self._growth.taken += size
        self.acknowledge(stream, size)

    def acknowledge(self, stream: Stream, size: int) -> None:
        """Count octets as consumed, and give the credit back that is due."""
        self._window.acknowledge(size)
        if stream.window is not None:
            stream.window.acknowledge(size)
            if not (stream.request_ended or stream.window.discarded):
                increment = stream.window.credit(self._growth)
                if increment and not self._sender.credit(stream.stream_id, increment):
                    stream.window.available -= increment
        self._give_connection_credit()

    def discard(self, stream: Stream) -> None:
        """Drop what is unread of a stream, and what will come: its response is over."""
        if stream.window is not None:
            stream.window.discarded = True
            self.acknowledge(stream, stream.window.unread)

    def _give_connection_credit(self) -> None:
        increment = self._window.credit()
        if increment and not self._sender.credit(0, increment):
            self._window.available -= increment

    def forget_unread(self) -> None:
        """Give back to the budget what no stream has: a frame that broke the connection."""
        self._window.acknowledge(self._window.unread)

    def _fail(self, stream: Stream, error_code: ErrorCode, reason: str) -> None:
        """A stream error: the peer broke a rule (section 5.4.2)."""
        self.close(stream, by_us=True)
        self.report_reset(stream, error_code, reason, remote=False)
        self._tally.code(RESETS_SENT, error_code)
        self._sender.answer(frames.rst_stream(stream.stream_id, error_code))
        self._budgets.lose_request(self._now)

    def report_reset(self, stream: Stream, error_code: int, reason: str, *, remote: bool) -> None:
        """Say that a stream is gone."""
        self.events.append(StreamReset(stream.stream_id, error_code, reason, remote))

    def report_late_body(self, stream: Stream, reason: str) -> None:
        """Have the driver answer a request whose body does not come."""
        self.events.append(RequestTimedOut(stream.stream_id, reason))

    def close(self, stream: Stream, *, by_us: bool) -> None:
        """Forget a stream, with what it has unread and unsent."""
        self._streams.close(stream, by_us=by_us)
        self._sender.note_end(stream)
        if stream.window is not None and stream.window.unread:
            # What nobody will read must not hold the siblings' credit.
            self._window.acknowledge(stream.window.unread)
            self._give_connection_credit()


# By type, from PRIORITY to CONTINUATION.
_RECEIVE: Final[tuple[Callable[[Receiver, int, int, memoryview], None], ...]] = (
    Receiver._receive_priority_frame,
    Receiver._receive_rst_stream_frame,
    Receiver._receive_settings_frame,
    Receiver._receive_push_promise_frame,
    Receiver._receive_ping_frame,
    Receiver._receive_goaway_frame,
    Receiver._receive_window_update_frame,
    Receiver._receive_continuation_frame,
)
