"""The far ends of connections: bytes on HTTP/1.1, frames on HTTP/2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import hpack
from fake_transport import FakeLoop, FakeTransport
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Peer:
    def __init__(self, loop: FakeLoop, connection: Any, transport: FakeTransport) -> None:
        self.loop = loop
        self.connection = connection
        self.transport = transport

    def deliver(self, data: bytes) -> None:
        """Have the connection read ``data``, from a buffer that is overwritten right after."""
        assert self.transport.reading, "reading is paused"
        while data:
            buffer = self.connection.get_buffer(-1)
            piece, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
            buffer[: len(piece)] = b"\xff" * len(piece)

    def send(self, data: bytes) -> None:
        """Deliver and let everything happen that follows from it."""
        self.deliver(data)
        self.loop.settle()

    def end(self) -> bool | None:
        """Shut down sending; the transport closes unless the connection objects."""
        keep_open = self.connection.eof_received()
        if not keep_open:
            self.transport.close()
        self.loop.settle()
        return keep_open

    def take(self) -> bytes:
        return self.transport.take()


@dataclass
class Response:
    status: int = 0
    informational: list[int] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    error_code: int | None = None


class HTTP2Peer(Peer):
    """Speaks frames and keeps what it got: frames in order, responses by stream."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._next_stream_id = 1
        self.responses: dict[int, Response] = {}
        self.goaway: list[frames.GoAwayFrame] = []

    def start(self, **settings: int) -> HTTP2Peer:
        """Send the preface and SETTINGS, named as in hyperframe; drop the answer."""
        numbers = {getattr(frames.SettingsFrame, name): settings[name] for name in settings}
        self.send(PREFACE + frames.SettingsFrame(0, settings=numbers).serialize())
        self.take()
        return self

    def head(
        self, method: str = "GET", path: str = "/", *extra: tuple[str, str], end_stream: bool = True
    ) -> tuple[int, bytes]:
        """A new stream's id and its HEADERS frame."""
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        self.responses[stream_id] = Response()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path)]
        flags = ["END_HEADERS", "END_STREAM"] if end_stream else ["END_HEADERS"]
        block = self._encoder.encode([*pseudo, *extra])
        return stream_id, frames.HeadersFrame(stream_id, block, flags=flags).serialize()

    def request(self, *args: Any, end_stream: bool = True) -> int:
        stream_id, data = self.head(*args, end_stream=end_stream)
        self.send(data)
        return stream_id

    def body(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        flags = ["END_STREAM"] if end_stream else []
        self.send(frames.DataFrame(stream_id, data, flags=flags).serialize())

    def reset(self, stream_id: int) -> None:
        self.send(frames.RstStreamFrame(stream_id, error_code=8).serialize())

    def credit(self, stream_id: int, size: int) -> None:
        self.send(frames.WindowUpdateFrame(stream_id, window_increment=size).serialize())

    def read(self) -> list[frames.Frame]:
        """The frames that arrived since the last call; responses are brought up to date."""
        data, got = memoryview(self.take()), []
        while data:
            frame, size = frames.Frame.parse_frame_header(data[:9])
            assert len(data) >= 9 + size, "half a frame"
            frame.parse_body(data[9 : 9 + size])
            data = data[9 + size :]
            got.append(frame)
            self._note(frame)
        return got

    def response(self, stream_id: int) -> Response:
        self.read()
        return self.responses[stream_id]

    def credits(self) -> dict[int, int]:
        """The WINDOW_UPDATE increments that arrived since the last call, by stream."""
        sums: dict[int, int] = {}
        for frame in self.read():
            if isinstance(frame, frames.WindowUpdateFrame):
                sums[frame.stream_id] = sums.get(frame.stream_id, 0) + frame.window_increment
        return sums

    def _note(self, frame: frames.Frame) -> None:
        response = self.responses.get(frame.stream_id)
        if isinstance(frame, frames.GoAwayFrame):
            self.goaway.append(frame)
        elif response is None:
            return
        elif isinstance(frame, frames.HeadersFrame):
            fields = self._decoder.decode(frame.data)
            status = int(fields[0][1])
            if status < 200:
                response.informational.append(status)
            else:
                response.status, response.headers = status, fields[1:]
        elif isinstance(frame, frames.DataFrame):
            response.body += frame.data
        elif isinstance(frame, frames.RstStreamFrame):
            response.error_code = frame.error_code
        if "END_STREAM" in frame.flags:
            response.ended = True
