"""The sending half of a connection: frames in order, DATA as the windows allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...errors import ErrorCode, PeerConnectionError, PeerStreamError
from ...limits import WatchedBudget
from ...tally import ANSWERS_LIMIT, CONNECTION_STALLS, STREAM_STALLS, Tally
from ..events import Headers
from . import frames
from .frames import Flag, FrameType
from .outgoing import Outgoing
from .peer_budgets import PeerBudgets
from .peer_settings import (
    DEFAULT_WINDOW,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    SMALLEST_FRAME_SIZE,
    peer_settings,
)
from .priority import Priority
from .sections import ResponseSections
from .send_queue import SendQueue
from .stream import Stream, StreamTable

MAX_DATA_FRAME: Final = SMALLEST_FRAME_SIZE
"""Octets in one DATA frame, which every peer takes. More would be a longer turn for one stream."""

MAX_UNQUEUED: Final = 33 * 1024
"""Octets of bodies and their frame headers, between two calls of ``take``, that are written without
having been in the queue: two full ones. Small answers need no turns when nobody else waits; past
this a queue forms, with its order, where tiny pieces of a stream are joined."""

DRIBBLE: Final = 1024
"""A DATA frame that a window cuts to less than this earns the peer nothing (CVE-2019-9511). Honest
windows run out too, but in pieces of this size only now and then."""

MAX_WAITING_ANSWERS: Final = 1000
MAX_WAITING_ANSWER_OCTETS: Final = 64 * 1024
"""Acknowledgements and resets that a peer provokes but does not read (CVE-2019-9512, -9515). An
honest peer has a handful under way; past either bound the connection ends."""


class Sender:
    """Owns what is to be written and in which order. Ends of responses are left in ``ended``."""

    def __init__(
        self,
        sections: ResponseSections,
        streams: StreamTable,
        budgets: PeerBudgets,
        unsent: WatchedBudget,
        tally: Tally,
    ) -> None:
        self._tally = tally
        self._sections = sections
        self._streams = streams
        self._budgets = budgets
        self._unsent = unsent
        self._queue = SendQueue()
        self._output: list[bytes | memoryview] = []
        self._unqueued = 0
        self._answers = 0
        self._answer_octets = 0
        self._credits = 0
        self._stalled = False  # by the connection's window, since it was last opened
        self.window = DEFAULT_WINDOW  # the connection's
        self._credited = DEFAULT_WINDOW  # octets that the peer has ever allowed
        self._max_frame_size = SMALLEST_FRAME_SIZE  # what the peer takes
        self.initial_window = DEFAULT_WINDOW  # of new streams
        self.ended: list[Stream] = []  # END_STREAM was written; the engine settles them
        self.drained: list[int] = []  # streams whose writers are to be woken
        self.awaits_writer = False  # see ``pump``
        self.on_waiting: Callable[[Stream], None] | None = None  # before a stream first has to wait

    @property
    def sent(self) -> int:
        """Octets of all responses that were written."""
        return self._credited - self.window

    def write(self, frame: bytes) -> None:
        """Queue a control frame of our own accord."""
        self._output.append(frame)

    def credit(self, stream_id: int, increment: int) -> bool:
        """Queue WINDOW_UPDATE; False, and nothing is queued, for a peer that reads none of them.

        An honest one has stopped by then: without them it may not send more.
        """
        if self._credits > MAX_WAITING_ANSWERS:
            return False
        self._credits += 1
        self._output.append(frames.window_update(stream_id, increment))
        return True

    def answer(self, frame: bytes) -> None:
        """Queue a frame that the peer provoked; raises PeerConnectionError when it never reads."""
        self._output.append(frame)
        self._answers += 1
        self._answer_octets += len(frame)
        self.check_answers()

    def note_end(self, stream: Stream) -> None:
        """Drop what waits of a stream, and count it if its field sections may wait too: they cannot
        be withdrawn, since the compression of all later ones rests on them."""
        if stream.answered:
            self._answers += 1
        if stream.outgoing is not None:
            self._queue.remove(stream)
            self._unsent.used -= stream.outgoing.queued
            stream.outgoing.clear()

    def check_answers(self) -> None:
        """Raise PeerConnectionError when too much waits for a peer that does not read."""
        if self._answers > MAX_WAITING_ANSWERS or self._answer_octets > MAX_WAITING_ANSWER_OCTETS:
            self._tally.add(ANSWERS_LIMIT)
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "answers are not read")

    def apply_settings(self, payload: memoryview) -> None:
        """Take SETTINGS, and acknowledge; raises PeerConnectionError.

        A value that comes again and again in one frame is worked on twice at
        most: the largest window on the way could have been too large, and the
        smallest table has emptied it (RFC 7541 section 4.2).
        """
        windows: list[int] = []
        table_sizes: list[int] = []
        for code, value in peer_settings(payload):
            if code == INITIAL_WINDOW_SIZE:
                windows.append(value)
            elif code == MAX_FRAME_SIZE:
                self._max_frame_size = value
            elif code == HEADER_TABLE_SIZE:
                table_sizes.append(value)
        if windows:
            self._change_initial_window(max(windows))
            self._change_initial_window(windows[-1])
        if table_sizes:
            self._sections.resize_table(min(table_sizes))
            self._sections.resize_table(table_sizes[-1])
        self.answer(frames.SETTINGS_ACK)
        for stream in self._streams.open.values():
            self.wake(stream)

    def _change_initial_window(self, size: int) -> None:
        change = size - self.initial_window
        if not change:
            return
        self.initial_window = size
        for stream in self._streams.open.values():
            # Section 6.9.2. A window may become negative, but not too large.
            stream.send_window += change
            if stream.outgoing is not None:
                stream.outgoing.credited += change
            if stream.send_window > LARGEST_WINDOW:
                raise PeerConnectionError(
                    ErrorCode.FLOW_CONTROL_ERROR, "window exceeds its maximum"
                )

    def open_connection_window(self, increment: int) -> None:
        """Take WINDOW_UPDATE on the connection; raises PeerConnectionError."""
        if not increment:
            # RFC 9113 section 6.9.
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        self.window += increment
        self._credited += increment
        self._stalled = False
        if self.window > LARGEST_WINDOW:
            # Section 6.9.1.
            raise PeerConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "window exceeds its maximum")

    def open_stream_window(self, stream: Stream, increment: int) -> None:
        """Take WINDOW_UPDATE on a stream, where both mistakes cost only the stream."""
        if not increment:
            raise PeerStreamError(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        stream.send_window += increment
        if stream.outgoing is not None:
            stream.outgoing.credited += increment
        if stream.send_window > LARGEST_WINDOW:
            raise PeerStreamError(ErrorCode.FLOW_CONTROL_ERROR, "window exceeds its maximum")
        self.wake(stream)

    def send_informational(self, stream: Stream, status: int, fields: Headers) -> None:
        """Queue a 1xx section."""
        stream.send_informational()
        self._write_block(stream, self._sections.response(status, fields), end_stream=False)

    def send_headers(self, stream: Stream, status: int, fields: Headers, end_stream: bool) -> None:
        """Queue the final header section."""
        stream.send_headers(end_stream)
        self._write_block(stream, self._sections.response(status, fields), end_stream)

    def send_data(self, stream: Stream, data: bytes, end_stream: bool) -> int:
        """Queue body octets; returns how many wait."""
        stream.response_ended = end_stream
        outgoing = stream.outgoing
        size = len(data)
        if not size:
            if outgoing is not None and outgoing.queued:
                return outgoing.queued
            if end_stream:  # it needs neither a window nor a turn
                self._write_data(stream, data, 0, end_stream)
            return 0
        if outgoing is None:
            if (
                not self._queue.size
                and size <= stream.send_window
                and size <= self.window
                and size <= MAX_UNQUEUED - self._unqueued
                and size <= MAX_DATA_FRAME
            ):
                self._unqueued += size + frames.HEADER_SIZE
                self._write_data(stream, data, size, end_stream)
                return 0
            if self.on_waiting is not None:
                self.on_waiting(stream)
            outgoing = stream.outgoing = Outgoing()
        if stream.send_window <= 0 and not outgoing.queued:
            self._tally.add(STREAM_STALLS)
        outgoing.append(data)
        self._unsent.add(size)
        self._streams.transfer_began = True
        self.wake(stream)
        return outgoing.queued

    def send_trailers(self, stream: Stream, trailers: Headers) -> None:
        """Queue the trailer section behind what is queued."""
        stream.response_ended = True
        if stream.outgoing is not None and stream.outgoing.queued:
            stream.outgoing.trailers = trailers
        else:
            self._write_trailers(stream, trailers)

    def wake(self, stream: Stream) -> None:
        """Put the stream into the queue if it has octets that its own window lets go."""
        outgoing = stream.outgoing
        if outgoing is not None and outgoing.queued and stream.send_window > 0:
            self._queue.schedule(stream)

    def prioritise(self, stream: Stream, priority: Priority) -> None:
        """Change when a stream sends."""
        self._queue.prioritise(stream, priority)

    def pump(self, limit: int) -> None:
        """Turn queued octets into DATA frames, in turns, up to about ``limit`` octets.

        Who comes later does not go yet when a stream has run dry: its writer
        may have more in a turn of the loop, and would find the way full.
        ``awaits_writer`` then says that there is more to send after that.
        """
        queue = self._queue
        self.awaits_writer = False
        dry: Priority | None = None
        while queue.size and self.window > 0:
            if dry is not None and _comes_later(queue.first().priority, dry):
                self.awaits_writer = True
                return
            if limit <= 0:
                return
            stream = queue.take_turn()
            outgoing = stream.outgoing
            assert outgoing is not None
            limit -= self._send_frame(stream, outgoing)
            if outgoing.queued and stream.send_window > 0:
                continue
            queue.remove(stream)  # until its writer or WINDOW_UPDATE brings it back
            if outgoing.queued:
                self._tally.add(STREAM_STALLS)
            if not (outgoing.queued or stream.response_ended) and stream.send_window > 0:
                dry = stream.priority if dry is None else min(dry, stream.priority)
        if queue.size and not self._stalled:
            self._stalled = True
            self._tally.add(CONNECTION_STALLS)

    def take(self) -> bytes:
        """Give what is ready to be written."""
        output = self._output
        if not output:
            # Sections that were taken before their streams ended: nothing of them waits.
            self._budgets.earned -= self._answers
            self._answers = 0
            return b""
        data = b"".join(output)
        self._budgets.earned += len(output) - self._answers  # a DATA frame is two pieces
        output.clear()
        self._answers = self._answer_octets = self._unqueued = self._credits = 0
        return data

    def _send_frame(self, stream: Stream, outgoing: Outgoing) -> int:
        """Send one frame of a stream, and its trailers if it was the last.

        Returns the octets of body that went, never more than was written: who
        gets less than the limit of ``pump`` knows that nothing is left to send.
        """
        # ``min`` would cost a fifth of the rest.
        size = MAX_DATA_FRAME
        if outgoing.queued < size:
            size = outgoing.queued
        if stream.send_window < size:
            size = stream.send_window
        if self.window < size:
            size = self.window
        if size > 0:
            data = outgoing.take(size)
            self._unsent.used -= size
            last = stream.response_ended and not outgoing.queued and outgoing.trailers is None
            self._write_data(stream, data, size, last)
            if outgoing.fell_to_low_water():
                self.drained.append(stream.stream_id)
        if outgoing.queued:
            if 0 < size < DRIBBLE:
                self._budgets.earned -= 2
        elif outgoing.trailers is not None:
            self._write_trailers(stream, outgoing.trailers)
        return max(size, 0)

    def _write_trailers(self, stream: Stream, trailers: Headers) -> None:
        stream.send_headers(end_stream=True)
        self._write_block(stream, self._sections.trailers(trailers), end_stream=True)

    def _write_data(
        self, stream: Stream, data: bytes | memoryview, size: int, end_stream: bool
    ) -> None:
        stream.send_data(end_stream)
        stream.send_window -= size
        self.window -= size
        self._output.append(_data_header(stream, size, end_stream))
        self._output.append(data)
        if end_stream:
            self.ended.append(stream)

    def _write_block(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        stream.answered = True
        if end_stream:
            stream.response_ended = True
            self.ended.append(stream)
        frame_size = self._max_frame_size
        self._output.append(frames.header_block(stream.stream_id, block, frame_size, end_stream))


def _comes_later(priority: Priority, dry: Priority) -> bool:
    """Whether ``dry`` goes first as long as it has something: else the two take turns."""
    if priority.urgency != dry.urgency:
        return priority.urgency > dry.urgency
    return not (priority.incremental or dry.incremental)


def _data_header(stream: Stream, size: int, end_stream: bool) -> bytes:
    """Give the header of a DATA frame; those that a large body is made of have the same one."""
    outgoing = stream.outgoing
    if size < MAX_DATA_FRAME or end_stream or outgoing is None:
        flags = Flag.END_STREAM if end_stream else 0
        return frames.frame_header(size, FrameType.DATA, flags, stream.stream_id)
    if not outgoing.frame_header:
        header = frames.frame_header(size, FrameType.DATA, 0, stream.stream_id)
        outgoing.frame_header = header
    return outgoing.frame_header
