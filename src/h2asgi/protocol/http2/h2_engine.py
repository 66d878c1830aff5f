"""HTTP/2 on the h2 library, the engine that is always there.

What h2 does here: the state machine of each stream, SETTINGS and what follows
from them for windows and header compression, and HPACK itself. What it does
not do is decide what a broken rule costs. h2 ends the whole connection for a
malformed request, for one stream too many, for a window increment of 0 on a
stream; it forgets answers in flight when a GOAWAY arrives, and cannot drain.
RFC 9113 asks for stream errors and for a graceful end, so frames are read and
answered here, and h2's objects are driven through their public attributes.

The parts: ``frames`` cuts the input, ``field_block`` decodes, ``stream`` keeps
the streams, ``receive_window`` the credit, ``sender`` the way out. Here they
meet, and here stands what each frame means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import FlowControlError, ProtocolError
from h2.settings import SettingCodes
from h2.stream import StreamInputs, StreamState
from h2.utilities import guard_increment_window

from ...config import HTTP2Config, Timeouts
from ...errors import ErrorCode, PeerConnectionError, PeerStreamError
from .. import headers
from ..events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    PingAcknowledged,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    SendQueueDrained,
    StreamReset,
)
from . import frames
from .field_block import FieldBlock, check_dependency
from .frames import Flag, Frame, FrameReader, FrameType
from .receive_window import ConnectionWindow
from .sender import Sender
from .stream import ClosedBy, Stream, StreamTable

DEFAULT_WINDOW = 65_535
"""Both windows before any SETTINGS or WINDOW_UPDATE (RFC 9113 section 6.9.2)."""

MAX_STREAM_ID = 2**31 - 1

MAX_ENCODER_TABLE_SIZE = 4096
"""The RFC 7541 default. A peer may offer more, but the memory for it would be ours."""

SHUTDOWN_GRACE = 1.0
"""Seconds for the answer to the PING between the two GOAWAY frames (RFC 9113 section 6.8)."""

IDLE_SHUTDOWN_GRACE = 0.5
"""The same when nothing is open: a client that is just sending its next request needs a round trip,
one that sleeps should not hold up a restart."""

_SHUTDOWN_PING = b"h2asgi\x00\x01"


class H2Engine:
    """One HTTP/2 connection; see ``protocol.engine.Engine`` for the rules of use."""

    name: ClassVar[str] = "h2"
    http_version: ClassVar[str] = "2"

    def __init__(self, config: HTTP2Config, timeouts: Timeouts, now: float) -> None:
        self._config = config
        self._timeouts = timeouts
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=False))
        self._streams = StreamTable(self._h2)
        self._reader = FrameReader(config.max_frame_size)
        self._block = FieldBlock(self._h2.decoder, config.max_header_list_size)
        self._window = ConnectionWindow(
            config.connection_window, config.stream_window, config.max_connection_window
        )
        self._sender = Sender(self._h2, self._streams)
        self._events: list[Event] = []
        self._now = now
        self._preface_deadline = now + timeouts.first_bytes
        self._settings_received = False
        self._idle_since = now
        # How the connection ends.
        self._peer_is_leaving = False
        self._shutting_down = False
        self._shutdown_deadline: float | None = None  # while the PING of a drain is out
        self._last_stream_id = MAX_STREAM_ID  # above it nothing is served: our last GOAWAY
        self._terminated = False
        self._send_preface()

    def _send_preface(self) -> None:
        config = self._config
        settings: dict[int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: config.max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window,
            SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
            SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
        }
        self._sender.write(frames.settings(settings))
        # SETTINGS do not raise the connection window (section 6.9.2).
        increment = self._window.available - DEFAULT_WINDOW
        if increment > 0:
            self._sender.write(frames.window_update(0, increment))
        self._h2.max_inbound_frame_size = config.max_frame_size
        self._h2.receive_data(frames.PREFACE)  # the true one is read by FrameReader

    # What comes in.

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Engine``. Connection errors become GOAWAY and ``ConnectionTerminated``."""
        self._now = now
        if self._terminated:
            return
        try:
            for frame in self._reader.feed(data):
                self._receive_frame(frame)
                if self._terminated:
                    return
        except PeerConnectionError as error:
            self.terminate(error.error_code, error.reason)
        except ProtocolError as error:  # h2's state machine and SETTINGS checks
            self.terminate(ErrorCode(error.error_code), str(error))

    def receive_eof(self, now: float) -> None:
        """See ``Engine``. HTTP/2 has no half-closed connections: whoever closes is gone."""
        self._now = now
        for stream in list(self._streams.open.values()):
            self._close(stream, ClosedBy.PEER)
            self._report_reset(stream, ErrorCode.CANCEL, "connection closed", remote=True)
        self._end(ErrorCode.NO_ERROR, "closed by the peer")

    def take_events(self) -> list[Event]:
        """See ``Engine``."""
        events, self._events = self._events, []
        return events

    def _receive_frame(self, frame: Frame) -> None:
        kind = frame.type
        if self._block.since is not None and kind != FrameType.CONTINUATION:
            # Section 6.10: nothing comes between the frames of a field block.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "frame inside a field block")
        if not self._settings_received and kind != FrameType.SETTINGS:
            # Section 3.4.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
        receive = _RECEIVE.get(kind)
        if receive is not None:  # section 5.5: frames of unknown types are ignored
            receive(self, frame)

    def _receive_data_frame(self, frame: Frame) -> None:
        size = len(frame.payload)
        self._window.receive(size)
        payload = frames.strip_padding(frame.flags, frame.payload)
        stream = self._streams.open.get(frame.stream_id)
        if stream is None:
            # Dropped, but it has used the connection window (section 5.1).
            self._window.acknowledge(size)
            self._give_connection_credit()
            self._streams.check_late_frame(frame.stream_id)
        elif not stream.window.receive(size):
            # Section 6.9.1.
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the stream window")
        elif stream.request_ended:
            # Section 5.1, "half-closed (remote)".
            self._fail(stream, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        else:
            if size != len(payload):
                self._acknowledge(stream, size - len(payload))  # nobody consumes padding
            self._receive_body(stream, payload, bool(frame.flags & Flag.END_STREAM))

    def _receive_body(self, stream: Stream, payload: memoryview, end_stream: bool) -> None:
        if stream.body_left is not None:
            # Section 8.1.1: content-length and DATA must agree.
            stream.body_left -= len(payload)
            if stream.body_left < 0 or (end_stream and stream.body_left):
                self._fail(stream, ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
                return
        stream.step(StreamInputs.RECV_DATA)
        if payload:
            self._events.append(DataReceived(stream.stream_id, bytes(payload)))
        if end_stream:
            stream.step(StreamInputs.RECV_END_STREAM)
            self._events.append(RequestEnded(stream.stream_id))

    def _receive_headers_frame(self, frame: Frame) -> None:
        fields = self._block.begin(frame, self._now)
        if fields is not None:
            self._receive_fields(frame.stream_id, fields)

    def _receive_continuation_frame(self, frame: Frame) -> None:
        fields = self._block.go_on(frame)
        if fields is not None:
            self._receive_fields(frame.stream_id, fields)

    def _receive_fields(self, stream_id: int, fields: Headers) -> None:
        # They are decoded by now, whatever becomes of the stream: the
        # compression state belongs to the connection (section 4.3).
        end_stream = self._block.end_stream
        stream = self._streams.open.get(stream_id)
        if stream is not None:
            try:
                self._receive_trailers(stream, fields, end_stream)
            except PeerStreamError as error:
                self._fail(stream, error.error_code, error.reason)
        elif stream_id <= self._streams.highest:
            self._streams.check_late_frame(stream_id)
        else:
            self._streams.take_id(stream_id)
            try:
                self._receive_request(stream_id, fields, end_stream)
            except PeerStreamError as error:
                self._streams.remember(stream_id, ClosedBy.US)
                self._sender.answer(frames.rst_stream(stream_id, error.error_code))

    def _receive_request(self, stream_id: int, fields: Headers, end_stream: bool) -> None:
        if stream_id > self._last_stream_id:
            # Section 6.8: the client has our GOAWAY on its way and will try elsewhere.
            raise PeerStreamError(ErrorCode.REFUSED_STREAM, "shutting down")
        if len(self._streams.open) >= self._config.max_concurrent_streams:
            # Section 5.1.2; the client may try again.
            raise PeerStreamError(ErrorCode.REFUSED_STREAM, "too many streams")
        try:
            self._check_field_section_size(fields)
            head = headers.http2_request(fields)
        except headers.RequestError as error:
            if error.status == 400:
                # Section 8.1.1: malformed.
                raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, error.reason) from None
            self._open(stream_id, end_stream)
            method, target = _request_line(fields)
            version, status, reason = self.http_version, error.status, error.reason
            self._events.append(RequestRejected(stream_id, version, method, target, status, reason))
            return
        if end_stream and head.content_length:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
        self._open(stream_id, end_stream).body_left = head.content_length
        expect_continue = head.expect_continue and not end_stream
        self._events.append(
            RequestReceived(
                stream_id,
                self.http_version,
                head.method,
                head.target,
                head.headers,
                end_stream,
                expect_continue,
            )
        )

    def _check_field_section_size(self, fields: Headers) -> None:
        # Section 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE.
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        if size > self._config.max_header_list_size:
            raise headers.RequestError(431, "request header fields are too large")

    def _open(self, stream_id: int, end_stream: bool) -> Stream:
        stream = Stream(stream_id, self._h2, self._config.stream_window)
        stream.step(StreamInputs.RECV_HEADERS)
        if end_stream:
            stream.step(StreamInputs.RECV_END_STREAM)
        self._streams.open[stream_id] = stream
        return stream

    def _receive_trailers(self, stream: Stream, fields: Headers, end_stream: bool) -> None:
        if stream.request_ended:
            # Section 5.1, "half-closed (remote)".
            raise PeerStreamError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not end_stream:
            # Section 8.1: a second field section is the trailers, and the end.
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        if stream.body_left:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "body differs from content-length")
        try:
            trailers = headers.trailers(fields)
        except headers.RequestError as error:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, error.reason) from None
        stream.step(StreamInputs.RECV_HEADERS)
        stream.step(StreamInputs.RECV_END_STREAM)
        self._events.append(RequestEnded(stream.stream_id, trailers))

    def _receive_priority_frame(self, frame: Frame) -> None:
        # Section 5.3.2: deprecated, so only its form is looked at.
        if len(frame.payload) == 5:
            check_dependency(frame.stream_id, frame.payload)
            return
        # Section 6.3: the one wrong size that is a stream error.
        stream = self._streams.open.get(frame.stream_id)
        if stream is not None:
            self._fail(stream, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has the wrong size")
        elif frame.stream_id > self._streams.highest:
            # An idle stream cannot be reset (section 6.4).
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has the wrong size")

    def _receive_rst_stream_frame(self, frame: Frame) -> None:
        stream = self._streams.not_idle(frame.stream_id)
        if stream is None:
            return
        stream.step(StreamInputs.RECV_RST_STREAM)
        self._close(stream, ClosedBy.PEER)
        error_code = int.from_bytes(frame.payload, "big")
        self._report_reset(stream, error_code, "reset by the peer", remote=True)

    def _receive_settings_frame(self, frame: Frame) -> None:
        payload = frame.payload
        if (frame.flags & Flag.ACK and payload) or len(payload) % 6:
            # Section 6.5.
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has the wrong size")
        if frame.flags & Flag.ACK:
            return
        self._settings_received = True
        # h2 checks the values, applies them to every stream and acknowledges.
        self._h2.receive_data(frames.frame_header(len(payload), FrameType.SETTINGS, 0, 0) + payload)
        if self._h2.encoder.header_table_size > MAX_ENCODER_TABLE_SIZE:
            self._h2.encoder.header_table_size = MAX_ENCODER_TABLE_SIZE
        self._sender.answer(self._h2.data_to_send())
        for stream in self._streams.open.values():
            self._sender.wake(stream)

    def _receive_push_promise_frame(self, frame: Frame) -> None:
        # Section 8.4: a client cannot push.
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _receive_ping_frame(self, frame: Frame) -> None:
        payload = bytes(frame.payload)
        if not frame.flags & Flag.ACK:
            self._sender.answer(frames.ping(payload, ack=True))
        elif payload != _SHUTDOWN_PING:
            self._events.append(PingAcknowledged(payload))
        elif self._shutdown_deadline is not None:
            self._finish_shutdown()

    def _receive_goaway_frame(self, frame: Frame) -> None:
        if len(frame.payload) < 8:
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has the wrong size")
        # Section 6.8: what is in flight finishes, then the connection ends.
        self._peer_is_leaving = True
        self._end_when_done()

    def _receive_window_update_frame(self, frame: Frame) -> None:
        increment = int.from_bytes(frame.payload, "big") & MAX_STREAM_ID
        if not frame.stream_id:
            if not increment:
                # Section 6.9.
                raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
            self._h2.outbound_flow_control_window = guard_increment_window(
                self._h2.outbound_flow_control_window, increment
            )
            return
        stream = self._streams.not_idle(frame.stream_id)
        if stream is None:
            return
        if not increment:
            self._fail(stream, ErrorCode.PROTOCOL_ERROR, "window increment of 0")
            return
        try:
            stream.outbound_flow_control_window = guard_increment_window(
                stream.outbound_flow_control_window, increment
            )
        except FlowControlError:
            # Section 6.9.1: on a stream, an overflow costs the stream.
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "window exceeds its maximum")
        else:
            self._sender.wake(stream)

    # What goes out.

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and not stream.response_started:
            self._sender.send_informational(stream, status, headers)

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and not stream.response_started:
            self._sender.send_headers(stream, status, headers, end_stream)
            self._settle()

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """See ``Engine``. ``data_to_send`` writes it as the windows allow."""
        stream = self._live(stream_id)
        if stream is None or not stream.response_started or stream.outgoing.ended:
            return 0
        return self._sender.send_data(stream, data, end_stream)

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and stream.response_started and not stream.outgoing.ended:
            self._sender.send_trailers(stream, trailers)

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``Engine``. Stream and connection are credited, each in its own time."""
        stream = self._live(stream_id)
        if stream is not None:
            self._acknowledge(stream, size)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None:
            self._sender.write(frames.rst_stream(stream_id, error_code))
            self._close(stream, ClosedBy.US)

    def ping(self, payload: bytes) -> None:
        """See ``Engine``."""
        if not self._terminated:
            self._sender.write(frames.ping(payload, ack=False))

    def data_to_send(self, limit: int, now: float) -> bytes:
        """See ``Engine``. Control frames and field sections go whole, DATA in turns."""
        self._now = now
        if not self._terminated:
            self._sender.pump(limit)
            self._settle()
        return self._sender.take()

    @property
    def reading_suspended(self) -> bool:
        """Never: credit holds a peer back, and its control frames must still be seen."""
        return False

    def _live(self, stream_id: int) -> Stream | None:
        return None if self._terminated else self._streams.open.get(stream_id)

    def _settle(self) -> None:
        """Close the streams whose responses have ended; wake the writers that may go on."""
        sender = self._sender
        if sender.drained:
            self._events += map(SendQueueDrained, sender.drained)
            sender.drained.clear()
        while sender.ended:
            stream = sender.ended.pop()
            if stream.state_machine.state is StreamState.CLOSED:
                self._close(stream, ClosedBy.BOTH)
            else:
                # Section 8.1: an answer ahead of its request's end asks the
                # client to stop sending.
                sender.write(frames.rst_stream(stream.stream_id, ErrorCode.NO_ERROR))
                self._close(stream, ClosedBy.US)

    # Credit, and the end of streams.

    def _acknowledge(self, stream: Stream, size: int) -> None:
        stream.window.acknowledge(size)
        self._window.acknowledge(size)
        if not stream.request_ended:
            increment = stream.window.credit()
            if increment:
                self._sender.write(frames.window_update(stream.stream_id, increment))
        self._give_connection_credit()

    def _give_connection_credit(self) -> None:
        increment = self._window.credit()
        if increment:
            self._sender.write(frames.window_update(0, increment))

    def _fail(self, stream: Stream, error_code: ErrorCode, reason: str) -> None:
        """A stream error: the peer broke a rule (section 5.4.2)."""
        self._close(stream, ClosedBy.US)
        self._report_reset(stream, error_code, reason, remote=False)
        self._sender.answer(frames.rst_stream(stream.stream_id, error_code))

    def _report_reset(self, stream: Stream, error_code: int, reason: str, *, remote: bool) -> None:
        self._events.append(StreamReset(stream.stream_id, error_code, reason, remote))

    def _close(self, stream: Stream, closed_by: ClosedBy) -> None:
        self._streams.close(stream, closed_by)
        stream.outgoing.clear()
        # What nobody will read must not hold the siblings' credit.
        self._window.acknowledge(stream.window.unread)
        self._give_connection_credit()
        if not self._streams.open:
            self._idle_since = self._now
            self._end_when_done()

    # The end of the connection.

    def begin_shutdown(self, now: float) -> None:
        """Say GOAWAY with 2^31-1, wait a round trip, then name the true last stream (section 6.8).

        The first tells the client to stop, the second which of its requests are
        served: none is lost in between.
        """
        if self._shutting_down or self._terminated:
            return
        self._now = now
        self._shutting_down = True
        grace = SHUTDOWN_GRACE if self._streams.open else IDLE_SHUTDOWN_GRACE
        self._shutdown_deadline = now + grace
        self._sender.write(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))
        self._sender.write(frames.ping(_SHUTDOWN_PING, ack=False))

    def _finish_shutdown(self) -> None:
        self._shutdown_deadline = None
        self._say_goaway(ErrorCode.NO_ERROR)
        self._end_when_done()

    def _say_goaway(self, error_code: int, debug: bytes = b"") -> None:
        # It may only ever fall (section 6.8).
        self._last_stream_id = min(self._last_stream_id, self._streams.highest)
        self._sender.write(frames.goaway(self._last_stream_id, error_code, debug))

    def _end_when_done(self) -> None:
        if self._streams.open:
            return
        if self._shutting_down and self._shutdown_deadline is None:
            self._end(ErrorCode.NO_ERROR, "all streams are finished")
        elif self._peer_is_leaving:
            self.terminate(ErrorCode.NO_ERROR, "")

    def terminate(self, error_code: int, reason: str) -> None:
        """See ``Engine``. Says GOAWAY; streams that are open end with it (section 5.4.1)."""
        if not self._terminated:
            self._say_goaway(error_code, reason.encode())
            self._end(error_code, reason)

    def _end(self, error_code: int, reason: str) -> None:
        if not self._terminated:
            self._terminated = True
            unread_input = error_code != ErrorCode.NO_ERROR
            self._events.append(ConnectionTerminated(error_code, reason, unread_input))

    def next_deadline(self) -> float | None:
        """See ``Engine``. Preface, drain, field block, idle: one of them at a time."""
        if self._terminated:
            return None
        if not self._settings_received:
            return self._preface_deadline
        if self._shutdown_deadline is not None:
            return self._shutdown_deadline
        if self._block.since is not None:
            return self._block.since + self._timeouts.request_headers
        if not self._streams.open and not self._shutting_down:
            return self._idle_since + self._timeouts.http2_idle
        return None

    def handle_deadline(self, now: float) -> None:
        """See ``Engine``."""
        self._now = now
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if not self._settings_received:
            self.terminate(ErrorCode.SETTINGS_TIMEOUT, "no connection preface")
        elif self._shutdown_deadline is not None:
            self._finish_shutdown()
        elif self._block.since is not None:
            self.terminate(ErrorCode.ENHANCE_YOUR_CALM, "field block took too long")
        else:
            self.begin_shutdown(now)


_RECEIVE: dict[int, Callable[[H2Engine, Frame], None]] = {
    FrameType.DATA: H2Engine._receive_data_frame,
    FrameType.HEADERS: H2Engine._receive_headers_frame,
    FrameType.PRIORITY: H2Engine._receive_priority_frame,
    FrameType.RST_STREAM: H2Engine._receive_rst_stream_frame,
    FrameType.SETTINGS: H2Engine._receive_settings_frame,
    FrameType.PUSH_PROMISE: H2Engine._receive_push_promise_frame,
    FrameType.PING: H2Engine._receive_ping_frame,
    FrameType.GOAWAY: H2Engine._receive_goaway_frame,
    FrameType.WINDOW_UPDATE: H2Engine._receive_window_update_frame,
    FrameType.CONTINUATION: H2Engine._receive_continuation_frame,
}


def _request_line(fields: Headers) -> tuple[str, bytes]:
    """What can be made out of a request that is not served, for the access log."""
    pseudo = dict(fields)
    method = pseudo.get(b":method", b"").decode("ascii", "backslashreplace")
    return method, pseudo.get(b":path") or pseudo.get(b":authority", b"")
