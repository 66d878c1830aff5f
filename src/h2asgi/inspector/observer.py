"""What one connection does, as the log is to know it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ..protocol.engine import Engine
from ..protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    StreamReset,
)
from ..protocol.http2.frames import Flag, FrameType
from ..protocol.http2.tap import FrameTap, PassedFrame
from . import frame_text, masking
from .log import Log
from .masking import Fields
from .messages import MessageCounter
from .records import MAX_GOAWAYS, ConnectionRecord, FrameRecord, StreamRecord

MAX_HEADS: Final = 256
"""Response heads whose frames have yet to pass, of one connection. As many streams may be open,
give or take; a call on a stream that is gone leaves one behind."""


class ConnectionObserver:
    """See ``protocol.observed.Observer``. ``engine`` is looked at, never called to do anything."""

    def __init__(
        self,
        log: Log,
        record: ConnectionRecord,
        engine: Engine,
        scheme: str,
        on_end: Callable[[ConnectionRecord], None],
    ) -> None:
        self._log = log
        self._on_end = on_end
        self._record = record
        self._engine = engine
        self._scheme = scheme
        self._http2 = engine.http_version == "2"
        self._streams: dict[int, StreamRecord] = {}  # recorded, and not over
        self._counters: dict[int, tuple[MessageCounter, MessageCounter]] = {}  # of tunnels
        self._tap: FrameTap | None = None  # None until a frame begins while there is room
        # Field blocks of requests on their way from the tap to the events.
        self._block_size = 0
        self._blocks: dict[int, tuple[FrameRecord, int]] = {}
        # Field sections of responses on their way from the calls to the frames.
        self._heads: dict[int, deque[tuple[Fields, int]]] = {}
        self._out_size = 0
        self._told = 0, 0  # octets, at the last look
        self._ending: set[int] = set()  # HTTP/1.1: all of the response was given

    # What comes.

    def received(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Observer``."""
        self._record.octets_in += len(data)
        if not self._http2 or (self._tap is None and self._log.frame_room <= 0):
            return
        self._blocks.clear()
        if self._tap is None:
            awaited = self._engine.awaited
            self._tap = None if awaited is None else FrameTap(awaited)
        if self._tap is None:
            return
        for frame in self._tap.feed(data):
            self._frame_came(frame, now)
        if self._log.frame_room <= 0:
            self._tap = None

    def _frame_came(self, frame: PassedFrame, now: float) -> None:
        record = self._record
        record.frames_in += 1
        self._block_size += frame.block_size
        kept = self._log.add_frame(record, frame, now, outgoing=False)
        if frame.kind in (FrameType.HEADERS, FrameType.CONTINUATION):
            if frame.flags & Flag.END_HEADERS:
                if kept is not None:
                    self._blocks[frame.stream_id] = kept, self._block_size
                self._block_size = 0
        elif frame.kind == FrameType.SETTINGS and not frame.flags & Flag.ACK:
            record.peer_settings |= frame_text.settings(frame.payload)
        elif frame.kind == FrameType.GOAWAY:
            self._note_goaway(frame, now, "client")

    def happened(self, events: list[Event]) -> None:
        """See ``Observer``."""
        for event in events:
            kind = type(event)
            if kind is RequestReceived or kind is RequestRejected:
                self._record.requests += 1
                if self._log.stream_room > 0 or self._blocks:
                    self._request_came(event)  # type: ignore[arg-type]
                else:
                    self._log.skipped_streams += 1
                    self._look_away()
            elif isinstance(event, DataReceived):
                if stream := self._streams.get(event.stream_id):
                    stream.request_size += len(event.data)
                    self._count_messages(stream, event.data, outgoing=False)
            elif isinstance(event, RequestEnded):
                self._request_ended(event)
            elif isinstance(event, StreamReset):
                by = "client" if event.remote else "server"
                self._stream_reset(event.stream_id, by, event.error_code, event.reason)
            elif isinstance(event, ConnectionTerminated):
                self._close(event.reason)

    def _request_came(self, event: RequestReceived | RequestRejected) -> None:
        section = _section(event, self._scheme)
        fields = masking.fields(section)
        if block := self._blocks.pop(event.stream_id, None):
            frame, size = block
            frame.fields = fields
            if isinstance(event, RequestReceived):  # else not all of it is known
                self._record.blocks_in += size
                self._record.fields_in += _size(section)
        stream = self._log.add_stream(self._record, event, self._scheme, fields)
        if stream is None:
            return
        self._streams[event.stream_id] = stream
        if isinstance(event, RequestRejected):
            stream.reason = masking.shortened(event.reason, 256)
        elif event.end_stream:
            stream.request_ended = stream.started
        if isinstance(event, RequestReceived) and event.protocol is not None:
            stream.tunnel = event.protocol

    def _request_ended(self, event: RequestEnded) -> None:
        if event.trailers and (block := self._blocks.pop(event.stream_id, None)):
            frame, size = block
            frame.fields = masking.fields(event.trailers)
            self._record.blocks_in += size
            self._record.fields_in += _size(event.trailers)
        if stream := self._streams.get(event.stream_id):
            stream.request_ended = self._log.now()
            self._log.touch(stream)

    # What is called.

    def responded(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Observer``."""
        stream = self._streams.get(stream_id)
        if stream is None and not (self._http2 and self._log.frame_room > 0):
            return
        final = status >= 200 or status == 101
        if stream is not None and final and stream.responded is not None:
            return
        section: Headers = [(b":status", b"%d" % status), *headers]
        fields = masking.fields(section)
        self._expect_block(stream_id, fields, _size(section))
        if stream is not None and final:
            stream.status = status
            stream.response_fields = fields[1:]
            stream.responded = self._log.now()
            if stream.tunnel and (status in (101, 200)) and self._http2:
                self._counters[stream_id] = MessageCounter(), MessageCounter()
            if end_stream and not self._http2:
                self._ending.add(stream_id)
            self._log.touch(stream)

    def gave(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        """See ``Observer``."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        self._count_messages(stream, data, outgoing=True)
        if not self._http2:
            stream.response_size += len(data)
            if end_stream:
                self._ending.add(stream_id)

    def gave_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Observer``."""
        stream = self._streams.get(stream_id)
        if stream is None and not (self._http2 and self._log.frame_room > 0):
            return
        fields = masking.fields(trailers)
        self._expect_block(stream_id, fields, _size(trailers))
        if stream is not None:
            stream.trailers = fields
            if not self._http2:
                self._ending.add(stream_id)

    def _expect_block(self, stream_id: int, fields: Fields, size: int) -> None:
        if not self._http2:
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads.setdefault(stream_id, deque(maxlen=8)).append((fields, size))

    def reset(self, stream_id: int, error_code: int) -> None:
        """See ``Observer``."""
        self._stream_reset(stream_id, "server", error_code, "")

    def _stream_reset(self, stream_id: int, by: str, code: int, reason: str) -> None:
        self._heads.pop(stream_id, None)
        self._counters.pop(stream_id, None)
        stream = self._streams.pop(stream_id, None)
        self._record.resets += 1
        if stream is not None:
            stream.ended = self._log.now()
            stream.reset_by, stream.reset_code = by, code
            stream.reason = masking.shortened(reason, 256)
            self._log.touch(stream)
            self._look_away()

    # What goes.

    def sent(self, data: bytes | memoryview, now: float) -> None:
        """See ``Observer``."""
        self._record.octets_out += len(data)
        if not self._http2:
            self._note_http1_progress(now)
        elif self._streams or self._log.frame_room > 0:
            for frame in FrameTap().feed(data):
                self._frame_goes(frame, now)

    def _frame_goes(self, frame: PassedFrame, now: float) -> None:
        record, stream_id = self._record, frame.stream_id
        record.frames_out += 1
        kept = self._log.add_frame(record, frame, now, outgoing=True)
        self._out_size += frame.block_size
        if frame.kind in (FrameType.HEADERS, FrameType.CONTINUATION):
            if frame.flags & Flag.END_HEADERS:
                self._block_goes(stream_id, kept)
        elif frame.kind == FrameType.GOAWAY:
            self._note_goaway(frame, now, "server")
        stream = self._streams.get(stream_id)
        if stream is None:
            if frame.ends_stream:
                self._heads.pop(stream_id, None)
            return
        if frame.kind == FrameType.DATA:
            if stream.first_octet is None:
                stream.first_octet = now
            stream.response_size += frame.length
            self._log.touch(stream)
        if frame.ends_stream:
            self._stream_ended(stream_id, stream, now)

    def _block_goes(self, stream_id: int, kept: FrameRecord | None) -> None:
        size, self._out_size = self._out_size, 0
        heads = self._heads.get(stream_id)
        if not heads:
            return
        fields, fields_size = heads.popleft()
        if kept is not None:
            kept.fields = fields
        self._record.blocks_out += size
        self._record.fields_out += fields_size

    def _note_http1_progress(self, now: float) -> None:
        if not self._streams:
            return
        for stream_id, stream in tuple(self._streams.items()):
            if stream.responded is None:
                continue
            if stream.first_octet is None:
                stream.first_octet = now
                self._log.touch(stream)
            if stream_id in self._ending and not self._engine.unsent:
                self._stream_ended(stream_id, stream, now)

    def _stream_ended(self, stream_id: int, stream: StreamRecord, now: float) -> None:
        stream.ended = now
        self._streams.pop(stream_id, None)
        self._heads.pop(stream_id, None)
        self._counters.pop(stream_id, None)
        self._ending.discard(stream_id)
        self._log.touch(stream)
        self._look_away()

    def _look_away(self) -> None:
        if not self._streams and self._log.stream_room <= 0:
            self._log.full()

    def _count_messages(self, stream: StreamRecord, data: bytes, *, outgoing: bool) -> None:
        counters = self._counters.get(stream.stream_id)
        if counters is None:
            return
        counters[outgoing].feed(data)
        stream.messages_in, stream.messages_out = counters[0].count, counters[1].count
        self._log.touch(stream)

    # The connection.

    def _note_goaway(self, frame: PassedFrame, now: float, by: str) -> None:
        if len(frame.payload) < 8 or len(self._record.goaways) >= MAX_GOAWAYS:
            return
        last, code, text = frame_text.goaway(frame.payload)
        self._record.goaways.append(
            {"by": by, "lastStream": last, "code": frame_text.error(code), "text": text}
        )

    def sample(self, now: float) -> None:
        """Look at what has changed since the last look, and at flow control."""
        record = self._record
        told = record.octets_in, record.octets_out
        if told != self._told:
            self._told = told
            self._log.touch(record)
        flow = self._engine.flow()
        if flow is None:
            return
        values = (flow.send_window, flow.receive_window, flow.unread, flow.queued)
        if record.samples and record.samples[-1][1:] == values and not record.flows:
            return
        record.samples.append((now, *values))
        record.flows = [
            {
                "stream": one.stream_id,
                "send": one.send_window,
                "receive": one.receive_window,
                "unread": one.unread,
                "queued": one.queued,
            }
            for one in flow.streams
        ]
        self._log.touch(record)

    def rest(self) -> bool:
        """See ``Observer``."""
        if self._streams:
            return False
        self._tap = None
        self._heads.clear()
        self._blocks.clear()
        return True

    def ended(self, reason: str) -> None:
        """See ``Observer``. What is not over by now will not be seen to end."""
        for stream in self._streams.values():
            stream.ended = self._log.now()
            stream.reason = reason
            self._log.touch(stream)
        self._streams.clear()
        self._counters.clear()
        self._heads.clear()
        self._close(reason)

    def _close(self, reason: str) -> None:
        record = self._record
        if record.closed is None:
            record.closed = self._log.now()
            record.reason = masking.shortened(reason, 256)
            record.flows = []
            self._on_end(record)
            self._log.touch(record)


def _section(event: RequestReceived | RequestRejected, scheme: str) -> Headers:
    """Give the fields as they are on the wire of HTTP/2, with ``:authority`` for ``host``."""
    headers = event.headers if isinstance(event, RequestReceived) else []
    if event.http_version != "2":
        return headers
    pseudo = [
        (b":method", event.method.encode("latin-1", "replace")),
        (b":scheme", scheme.encode("ascii")),
        (b":path", event.target),
    ]
    if isinstance(event, RequestReceived) and event.protocol is not None:
        pseudo.append((b":protocol", event.protocol.encode("latin-1", "replace")))
    if headers and headers[0][0] == b"host":
        return [*pseudo, (b":authority", headers[0][1]), *headers[1:]]
    return [*pseudo, *headers]


def _size(section: Headers) -> int:
    return sum([len(name) + len(value) for name, value in section])
