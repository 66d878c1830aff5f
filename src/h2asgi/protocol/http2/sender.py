"""The sending half of a connection on h2: frames in order, DATA as the windows allow."""

from __future__ import annotations

from struct import Struct

from h2.connection import H2Connection
from h2.exceptions import FlowControlError
from h2.settings import SettingCodes
from h2.stream import StreamInputs
from h2.utilities import guard_increment_window
from hpack import NeverIndexedHeaderTuple

from ...errors import ErrorCode, PeerConnectionError, PeerStreamError
from ..events import Headers
from . import frames
from .frames import Flag, FrameType
from .send_queue import SendQueue
from .stream import Stream, StreamTable

MAX_DATA_FRAME = 16_384
"""Octets in one DATA frame even where the peer allows more: how long one stream holds the line."""

MAX_WAITING_ANSWERS = 1000
MAX_WAITING_ANSWER_OCTETS = 64 * 1024
"""Acknowledgements and resets that a peer provokes but does not read (CVE-2019-9512, -9515). An
honest peer has a handful under way; past either bound the connection ends."""


MAX_ENCODER_TABLE_SIZE = 4096
"""The RFC 7541 default. A peer may offer more, but the memory for it would be ours."""


_SETTING = Struct(">HL")


class Sender:
    """Owns what is to be written and in which order. Ends of responses are left in ``ended``."""

    def __init__(self, h2: H2Connection, streams: StreamTable) -> None:
        self._h2 = h2
        self._streams = streams
        self._queue = SendQueue()
        self._output: list[bytes] = []
        self._answers = 0
        self._answer_octets = 0
        self.ended: list[Stream] = []  # END_STREAM was written; the engine settles them
        self.drained: list[int] = []  # streams whose writers are to be woken

    def write(self, frame: bytes) -> None:
        """Queue a control frame of our own accord."""
        self._output.append(frame)

    def answer(self, frame: bytes) -> None:
        """Queue a frame that the peer provoked; raises PeerConnectionError when it never reads."""
        self._output.append(frame)
        self._answers += 1
        self._answer_octets += len(frame)
        self.check_answers()

    def note_end(self, stream: Stream) -> None:
        """Count a stream whose field sections may wait though it is gone: they cannot be withdrawn,
        since the compression of all later ones rests on them."""
        if stream.answered:
            self._answers += 1

    def check_answers(self) -> None:
        """Raise PeerConnectionError when too much waits for a peer that does not read."""
        if self._answers > MAX_WAITING_ANSWERS or self._answer_octets > MAX_WAITING_ANSWER_OCTETS:
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "answers are not read")

    def apply_settings(self, payload: memoryview) -> None:
        """Take SETTINGS, value by value in their order (RFC 9113 section 6.5.3), and acknowledge.

        h2 says which values are illegal, and applies what touches every
        stream. It would keep all others, of which there are 65,536.
        """
        values = {}
        for code, value in _SETTING.iter_unpack(payload):
            self._h2.remote_settings.validate_received_setting(code, value)
            if code == SettingCodes.HEADER_TABLE_SIZE:
                self._resize_encoder_table(value)
            elif code in (SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.MAX_FRAME_SIZE):
                values[code] = value
        self._h2.receive_data(frames.settings(values))
        self.answer(self._h2.data_to_send())
        for stream in self._streams.open.values():
            self.wake(stream)

    def _resize_encoder_table(self, size: int) -> None:
        encoder = self._h2.encoder
        size = min(size, MAX_ENCODER_TABLE_SIZE)
        if size != encoder.header_table_size:  # hpack forgets a change that is made twice
            encoder.header_table_size = size
            changes = encoder.table_size_changes
            if len(changes) > 2:
                # RFC 7541 section 4.2: what matters is the smallest and the last.
                changes[:] = [min(changes), size]

    def open_connection_window(self, increment: int) -> None:
        """Take WINDOW_UPDATE on the connection; raises PeerConnectionError or h2's own."""
        if not increment:
            # RFC 9113 section 6.9.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        self._h2.outbound_flow_control_window = guard_increment_window(
            self._h2.outbound_flow_control_window, increment
        )

    def open_stream_window(self, stream: Stream, increment: int) -> None:
        """Take WINDOW_UPDATE on a stream, where both mistakes cost only the stream."""
        if not increment:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        try:
            stream.outbound_flow_control_window = guard_increment_window(
                stream.outbound_flow_control_window, increment
            )
        except FlowControlError:
            # Section 6.9.1.
            raise PeerStreamError(
                ErrorCode.FLOW_CONTROL_ERROR, "window exceeds its maximum"
            ) from None
        self.wake(stream)

    def send_informational(self, stream: Stream, status: int, fields: Headers) -> None:
        """Queue a 1xx section."""
        stream.step(StreamInputs.SEND_INFORMATIONAL_HEADERS)
        self._write_fields(stream, [(b":status", b"%d" % status), *fields], end_stream=False)

    def send_headers(self, stream: Stream, status: int, fields: Headers, end_stream: bool) -> None:
        """Queue the final header section."""
        stream.step(StreamInputs.SEND_HEADERS)
        self._write_fields(stream, [(b":status", b"%d" % status), *fields], end_stream)

    def send_data(self, stream: Stream, data: bytes, end_stream: bool) -> int:
        """Queue body octets; returns how many wait."""
        outgoing = stream.outgoing
        if data:
            outgoing.append(data)
        outgoing.ended = end_stream
        self.wake(stream)
        return outgoing.queued

    def send_trailers(self, stream: Stream, trailers: Headers) -> None:
        """Queue the trailer section behind what is queued."""
        stream.outgoing.trailers = trailers
        stream.outgoing.ended = True
        self.wake(stream)

    def wake(self, stream: Stream) -> None:
        """Put the stream into the round if its own window lets it send something."""
        outgoing = stream.outgoing
        if (outgoing.queued and stream.outbound_flow_control_window > 0) or (
            outgoing.ended and not outgoing.queued
        ):
            self._queue.schedule(stream.stream_id, outgoing)

    def pump(self, limit: int) -> None:
        """Turn queued octets into DATA frames, in turns, up to about ``limit`` octets."""
        queue = self._queue
        # Everybody gets one turn, because what only ends needs no window.
        for _ in range(len(queue)):
            if limit <= 0:
                return
            limit -= self._take_turn(queue.next())
        while limit > 0 and queue and self._h2.outbound_flow_control_window > 0:
            limit -= self._take_turn(queue.next())

    def take(self) -> bytes:
        """Give what is ready to be written."""
        output = self._output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        self._answers = self._answer_octets = 0
        return data

    def _take_turn(self, stream_id: int) -> int:
        """Send one frame of a stream, and its trailers if it was the last.

        Returns the octets of body that went, never more than was written: who
        gets less than the limit of ``pump`` knows that nothing is left to send.
        """
        stream = self._streams.open.get(stream_id)
        if stream is None:
            return 0  # closed while it waited
        outgoing = stream.outgoing
        outgoing.scheduled = False
        size = min(
            outgoing.queued,
            stream.outbound_flow_control_window,
            self._h2.outbound_flow_control_window,
            self._h2.max_outbound_frame_size,
            MAX_DATA_FRAME,
        )
        if size > 0:
            self._write_data(stream, size)
            if outgoing.fell_to_low_water():
                self.drained.append(stream_id)
        if outgoing.queued:
            # A closed stream window takes it out of the round until WINDOW_UPDATE.
            if stream.outbound_flow_control_window > 0:
                self._queue.schedule(stream_id, outgoing)
        elif outgoing.ended and (size <= 0 or outgoing.trailers is not None):
            self._write_end(stream)
        return max(size, 0)

    def _write_data(self, stream: Stream, size: int) -> None:
        outgoing = stream.outgoing
        data = outgoing.take(size)
        end_stream = outgoing.ended and not outgoing.queued and outgoing.trailers is None
        stream.step(StreamInputs.SEND_DATA)
        stream.outbound_flow_control_window -= size
        self._h2.outbound_flow_control_window -= size
        flags = Flag.END_STREAM if end_stream else 0
        self._output += (frames.frame_header(size, FrameType.DATA, flags, stream.stream_id), data)
        if end_stream:
            self._end(stream)

    def _write_end(self, stream: Stream) -> None:
        trailers = stream.outgoing.trailers
        if trailers is not None:
            stream.step(StreamInputs.SEND_HEADERS)
            self._write_fields(stream, trailers, end_stream=True)
            return
        self.write(frames.frame_header(0, FrameType.DATA, Flag.END_STREAM, stream.stream_id))
        self._end(stream)

    def _write_fields(self, stream: Stream, fields: Headers, end_stream: bool) -> None:
        # Huffman coding costs more time than its few octets are worth: what
        # repeats is one octet from the dynamic table anyway. Cookies stay out
        # of that table (RFC 7541 section 7.1.3).
        block = self._h2.encoder.encode(
            [
                NeverIndexedHeaderTuple(name, value) if name == b"set-cookie" else (name, value)
                for name, value in fields
            ],
            huffman=False,
        )
        stream.answered = True
        frame_size = self._h2.max_outbound_frame_size
        self.write(frames.header_block(stream.stream_id, block, frame_size, end_stream))
        if end_stream:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.step(StreamInputs.SEND_END_STREAM)
        self.ended.append(stream)
