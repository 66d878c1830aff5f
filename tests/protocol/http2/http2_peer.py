"""A client that writes HTTP/2 frames by hand and reads the engine's answers as named tuples.

It shares no code with the engines but hpack. Whatever it reads it checks as a
client would have to: frame sizes, reserved bits, flags, field blocks in one
piece.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from hpack import Decoder, Encoder

from h2asgi.config import Limits, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.limits import Budget, WatchedBudget
from h2asgi.protocol.engine import Engine
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestEnded,
    RequestReceived,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
PRIORITY_UPDATE = 0x10

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9

MAX_ID = 2**31 - 1
ALL = 2**30
"""A limit for ``data_to_send`` that never matters."""

Fields = list[tuple[bytes, bytes]]

GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
WEBSOCKET: Fields = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")]


class EngineFactory(Protocol):
    """An engine at time 0 with the default settings but for those named."""

    def __call__(
        self,
        timeouts: Timeouts | None = None,
        unread_bodies: Budget | None = None,
        *,
        websocket: bool = False,
        limits: Limits | None = None,
        unsent: WatchedBudget | None = None,
        **config: Any,
    ) -> Engine: ...


# What the peer writes.


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream_id)
    return head + payload


def padded(payload: bytes, padding: int) -> bytes:
    return bytes([padding]) + payload + bytes(padding)


def data(
    stream_id: int, payload: bytes = b"", *, end: bool = False, padding: int | None = None
) -> bytes:
    flags = END_STREAM if end else 0
    if padding is not None:
        flags, payload = flags | PADDED, padded(payload, padding)
    return frame(DATA, flags, stream_id, payload)


def rst_stream(stream_id: int, error_code: int = ErrorCode.CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream_id, struct.pack(">L", error_code))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last_stream_id: int = 0, error_code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last_stream_id, error_code) + debug)


def priority(stream_id: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return frame(PRIORITY, 0, stream_id, struct.pack(">LB", depends_on, weight))


def priority_update(stream_id: int, value: bytes, *, on: int = 0) -> bytes:
    """RFC 9218 section 7.1; ``on`` is the stream of the frame itself."""
    return frame(PRIORITY_UPDATE, 0, on, struct.pack(">L", stream_id) + value)


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


# What it reads.


class Settings(NamedTuple):
    values: dict[int, int]


class SettingsAck(NamedTuple):
    pass


class Headers(NamedTuple):
    stream_id: int
    fields: Fields
    end_stream: bool


class Data(NamedTuple):
    stream_id: int
    data: bytes
    end_stream: bool


class RstStream(NamedTuple):
    stream_id: int
    error_code: int


class WindowUpdate(NamedTuple):
    stream_id: int
    increment: int


class Ping(NamedTuple):
    payload: bytes
    ack: bool


class Goaway(NamedTuple):
    last_stream_id: int
    error_code: int


ServerFrame = Settings | SettingsAck | Headers | Data | RstStream | WindowUpdate | Ping | Goaway


class FrameLog:
    """Reads the bytes of a server; ``sizes`` keeps what each frame's payload measured."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.max_frame_size = 16_384
        self.sizes: list[tuple[int, int]] = []
        self.octets = 0
        self._block: tuple[int, bytes, bool] | None = None

    def read(self, output: bytes) -> list[ServerFrame]:
        self.octets += len(output)
        frames: list[ServerFrame] = []
        while output:
            high, low, kind, flags, stream_id = struct.unpack_from(">HBBBL", output)
            size = high << 8 | low
            assert size <= self.max_frame_size
            assert stream_id <= MAX_ID, "reserved bit is set"
            payload, output = output[9 : 9 + size], output[9 + size :]
            assert len(payload) == size, "frame was cut off"
            self.sizes.append((kind, size))
            read = self._read_frame(kind, flags, stream_id, payload)
            if read is not None:
                frames.append(read)
        assert self._block is None, "field block was cut off"
        return frames

    def _read_frame(
        self, kind: int, flags: int, stream_id: int, payload: bytes
    ) -> ServerFrame | None:
        assert (kind == CONTINUATION) is (self._block is not None)
        if kind in (HEADERS, CONTINUATION):
            return self._read_block(kind, flags, stream_id, payload)
        if kind == DATA:
            assert not flags & ~END_STREAM
            return Data(stream_id, payload, bool(flags & END_STREAM))
        assert not flags & ~(ACK if kind in (SETTINGS, PING) else 0)
        assert (stream_id == 0) is (kind in (SETTINGS, PING, GOAWAY)) or kind == WINDOW_UPDATE
        if kind == SETTINGS and flags & ACK:
            assert not payload
            return SettingsAck()
        if kind == SETTINGS:
            return Settings(dict(struct.iter_unpack(">HL", payload)))
        if kind == PING:
            assert len(payload) == 8
            return Ping(payload, bool(flags & ACK))
        if kind == GOAWAY:
            return Goaway(*struct.unpack_from(">LL", payload))
        (value,) = struct.unpack(">L", payload)
        if kind == RST_STREAM:
            return RstStream(stream_id, value)
        assert kind == WINDOW_UPDATE
        assert 0 < value <= MAX_ID
        return WindowUpdate(stream_id, value)

    def _read_block(
        self, kind: int, flags: int, stream_id: int, payload: bytes
    ) -> ServerFrame | None:
        if kind == HEADERS:
            assert not flags & ~(END_STREAM | END_HEADERS)
            self._block = (stream_id, payload, bool(flags & END_STREAM))
        else:
            assert self._block is not None
            first_id, block, end_stream = self._block
            assert stream_id == first_id
            assert not flags & ~END_HEADERS
            self._block = (stream_id, block + payload, end_stream)
        if not flags & END_HEADERS:
            return None
        _, block, end_stream = self._block
        self._block = None
        fields = [
            (bytes(name), bytes(value)) for name, value in self.decoder.decode(block, raw=True)
        ]
        return Headers(stream_id, fields, end_stream)


class Peer:
    """A client on one engine. ``exchange`` writes frames and reads what comes back at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.encoder = Encoder()
        self.log = FrameLog()
        self.now = 0.0
        self._events: list[Event] = []

    def connect(self, *pairs: tuple[int, int]) -> Peer:
        """Send the preface, and forget what that brought."""
        self.send(PREFACE, settings(*pairs), SETTINGS_ACK)
        self.received()
        assert self.events() == []
        return self

    def send(self, *frames: bytes) -> None:
        """Hand the frames over in a buffer that is overwritten afterwards, as the driver's is."""
        buffer = bytearray(b"".join(frames))
        self.engine.receive_data(memoryview(buffer), self.now)
        buffer[:] = b"\xff" * len(buffer)

    def received(self, limit: int = ALL) -> list[ServerFrame]:
        return self.log.read(self.engine.data_to_send(limit, self.now))

    def exchange(self, *frames: bytes) -> list[ServerFrame]:
        self.send(*frames)
        return self.received()

    def wait(self, seconds: float) -> list[ServerFrame]:
        """Let time pass, and give what it brought."""
        self.now += seconds
        self.engine.handle_deadline(self.now)
        return self.received()

    def events(self) -> list[Event]:
        return self.engine.take_events()

    def block(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        return self.encoder.encode(list(fields))

    def headers(
        self, stream_id: int, fields: Fields = GET, *extra: tuple[bytes, bytes], end: bool = True
    ) -> bytes:
        """A HEADERS frame; a regular field may follow ``fields`` as ``extra``."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.block([*fields, *extra]))

    def post(self, stream_id: int, *extra: tuple[bytes, bytes]) -> RequestReceived:
        """Open a stream whose body is still to come."""
        self.send(self.headers(stream_id, POST, *extra, end=False))
        (event,) = self.events()
        assert isinstance(event, RequestReceived)
        return event

    def get(self, stream_id: int, *extra: tuple[bytes, bytes]) -> RequestReceived:
        self.send(self.headers(stream_id, GET, *extra))
        (event,) = self.events()
        assert isinstance(event, RequestReceived)
        assert event.end_stream
        return event

    def respond(self, stream_id: int, body: bytes | None = None, *, end: bool = True) -> None:
        """Let the application answer 200."""
        self.engine.send_headers(stream_id, 200, [], end and body is None)
        if body is not None:
            self.engine.send_data(stream_id, body, end)

    # What a test wants to know.

    def assert_serves(self, stream_id: int = 99) -> None:
        """The connection lives: a new request on it is answered."""
        self.received()
        self.events()
        assert self.get(stream_id).stream_id == stream_id
        self.respond(stream_id)
        assert self.received() == [Headers(stream_id, [(b":status", b"200")], True)]
        assert self.events() == []

    def assert_stream_error(self, error_code: int, *frames: bytes, stream_id: int = 3) -> None:
        """The frames cost their stream and nothing else: stream 1, open since before, goes on."""
        assert self.exchange(*frames) == [RstStream(stream_id, error_code)]
        self.events()
        self.send(data(1, b"sibling", end=True))
        assert self.events() == [DataReceived(1, b"sibling"), RequestEnded(1)]
        self.respond(1, b"alive")
        assert self.received() == [
            Headers(1, [(b":status", b"200")], False),
            Data(1, b"alive", True),
        ]
        self.assert_serves()

    def assert_connection_error(self, error_code: int, *frames: bytes) -> None:
        """The frames cost the connection: GOAWAY, and nothing is read after it."""
        answer = self.exchange(*frames)
        assert isinstance(answer[-1], Goaway)
        assert answer[-1].error_code == error_code
        self.assert_ended(error_code)

    def assert_ended(self, error_code: int | None = None) -> None:
        """The connection is over, for the peer's fault."""
        end = self.events()[-1]
        assert isinstance(end, ConnectionTerminated)
        assert error_code in (None, end.error_code)
        assert end.unread_input
        self.assert_ended_silently()

    def assert_ended_silently(self) -> None:
        """Nothing is read or written any more."""
        assert self.exchange(ping(), self.headers(97)) == []
        assert self.events() == []
        assert self.engine.next_deadline() is None
