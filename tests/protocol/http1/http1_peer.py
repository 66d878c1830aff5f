"""The other end of an engine: feeds it octets, answers its requests, reads what it sends."""

from __future__ import annotations

from collections.abc import Callable

from h2asgi.protocol.engine import Engine
from h2asgi.protocol.events import ConnectionTerminated, Event, Headers

EngineFactory = Callable[..., Engine]

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST_CHUNKED = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(length: int, body: bytes = b"") -> bytes:
    """A request that declares ``length`` octets of body, with as much of it as given."""
    head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % length
    return head + body


class Peer:
    """A client at the clock ``now``. What it feeds is overwritten as soon as the call returns."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = 0.0
        self._arrived = b""

    def feed(self, data: bytes) -> list[Event]:
        """Send octets, return the events they cause."""
        buffer = bytearray(data)
        with memoryview(buffer) as view:
            self.engine.receive_data(view, self.now)
        buffer[:] = b"\xff" * len(buffer)
        return self.engine.take_events()

    def eof(self) -> list[Event]:
        self.engine.receive_eof(self.now)
        return self.engine.take_events()

    def received(self) -> bytes:
        """Read everything that the engine has to send."""
        pieces = [self._arrived]
        self._arrived = b""
        while piece := self.engine.data_to_send(16_384, self.now):
            pieces.append(piece)
        return b"".join(pieces)

    def answer(
        self, stream_id: int, body: bytes = b"", status: int = 200, headers: Headers | None = None
    ) -> list[Event]:
        """Answer a request in full and let it leave, return the events that its end causes."""
        fields = [*(headers or []), (b"content-length", b"%d" % len(body))]
        self.respond(stream_id, body, status, fields)
        return self.leave()

    def respond(
        self, stream_id: int, body: bytes, status: int = 200, headers: Headers | None = None
    ) -> None:
        """Answer a request in full, without reading the answer."""
        self.engine.send_headers(stream_id, status, headers or [], False)
        self.engine.send_data(stream_id, body, True)

    def leave(self) -> list[Event]:
        """Let leave what the engine has to send, return the events that this causes."""
        self._arrived = self.received()
        return self.engine.take_events()

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass and the deadlines with it."""
        self.now += seconds
        self.engine.handle_deadline(self.now)
        return self.engine.take_events()


def termination(events: list[Event]) -> ConnectionTerminated:
    """Return the end of the connection, which has to be the one last event."""
    assert events, "the connection goes on"
    assert isinstance(events[-1], ConnectionTerminated)
    assert sum(isinstance(event, ConnectionTerminated) for event in events) == 1
    return events[-1]
