"""What is kept of all connections, within its bounds.

There is room for a burst of requests and frames, and in each tick for a few more; what comes beyond
is only counted. The oldest of what is kept go first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ..protocol.events import RequestReceived, RequestRejected
from ..protocol.http2.tap import PassedFrame
from . import frame_text, masking
from .masking import Fields
from .records import ConnectionRecord, FrameRecord, StreamRecord

MAX_STREAM_ROOM: Final = 256
STREAMS_PER_TICK: Final = 40
"""Requests that are recorded at once, a page with all that belongs to it, and on and on: 160 a
second, which cost a few hundredths of a core. For the next page there is room again soon."""

MAX_FRAME_ROOM: Final = 2048
FRAMES_PER_TICK: Final = 200
"""The same of frames: some for each of those requests."""

MAX_STREAMS: Final = 500
MAX_FRAMES: Final = 4000
MAX_CONNECTIONS: Final = 100
"""What is kept; the oldest of each go first. It is what a page can show and somebody can look
through, and, with the bounds of ``masking``, some MiB."""


class Log:
    """``now`` gives the time on the loop's clock; ``revision`` rises with every change."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.epoch = now()
        self.wall_epoch = time.time()
        self.connections: deque[ConnectionRecord] = deque(maxlen=MAX_CONNECTIONS)
        self.streams: deque[StreamRecord] = deque(maxlen=MAX_STREAMS)
        self.frames: deque[FrameRecord] = deque(maxlen=MAX_FRAMES)
        self.pauses = 0  # of observation, when there was no room for requests
        self.skipped_connections = 0
        self.skipped_streams = 0
        self.skipped_frames = 0
        self.revision = 0
        self.stream_room = 0
        self.frame_room = 0
        self._numbers = [0, 0]  # the last stream and frame

    def make_room(self) -> None:
        """Begin a tick."""
        self.stream_room = min(self.stream_room + STREAMS_PER_TICK, MAX_STREAM_ROOM)
        self.frame_room = min(self.frame_room + FRAMES_PER_TICK, MAX_FRAME_ROOM)

    def open(self) -> None:
        """Have all the room there is."""
        self.stream_room, self.frame_room = MAX_STREAM_ROOM, MAX_FRAME_ROOM

    def full(self) -> None:
        """Take note that there is no room for requests before the next tick."""

    def close(self) -> None:
        """Take nothing more, until there is room again."""
        self.stream_room = self.frame_room = 0

    def clear(self) -> None:
        """Forget requests and frames, and the connections that are gone."""
        self.streams.clear()
        self.frames.clear()
        for record in tuple(self.connections):
            if record.closed is not None:
                self.connections.remove(record)
        self.skipped_connections = self.skipped_streams = self.skipped_frames = self.pauses = 0
        self.revision += 1

    def touch(self, record: ConnectionRecord | StreamRecord) -> None:
        """Take note that a record has changed."""
        self.revision += 1
        record.revision = self.revision

    def _number(self, kind: int) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]

    def add_connection(self, record: ConnectionRecord) -> None:
        """Record a connection, in the place of one that is gone if need be."""
        if len(self.connections) == MAX_CONNECTIONS:
            gone = (one for one in self.connections if one.closed is not None)
            self.connections.remove(next(gone, self.connections[0]))
        self.connections.append(record)

    def add_stream(
        self,
        connection: ConnectionRecord,
        event: RequestReceived | RequestRejected,
        scheme: str,
        fields: Fields,
    ) -> StreamRecord | None:
        """Record a request, if there is room for it."""
        if self.stream_room <= 0:
            self.skipped_streams += 1
            return None
        self.stream_room -= 1
        if not self.stream_room:
            self.full()
        record = StreamRecord(
            number=self._number(0),
            connection=connection.number,
            stream_id=event.stream_id,
            protocol=connection.protocol if connection.protocol == "HTTP/2" else
            f"HTTP/{event.http_version}",
            method=event.method,
            target=masking.target(event.target),
            scheme=scheme,
            fields=fields,
            started=self.now(),
        )  # fmt: skip
        self.streams.append(record)
        self.touch(record)
        return record

    def add_frame(
        self, connection: ConnectionRecord, frame: PassedFrame, now: float, outgoing: bool
    ) -> FrameRecord | None:
        """Record a frame, if there is room for it."""
        if self.frame_room <= 0:
            self.skipped_frames += 1
            return None
        self.frame_room -= 1
        record = FrameRecord(
            number=self._number(1),
            connection=connection.number,
            time=now,
            outgoing=outgoing,
            kind=frame_text.kind(frame),
            flags=frame_text.flags(frame),
            stream_id=frame.stream_id,
            length=frame.length,
            detail=frame_text.detail(frame),
        )
        self.frames.append(record)
        return record
