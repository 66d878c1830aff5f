"""An engine that is watched: it does what the engine behind it does, and says so.

It takes the place of an engine only while somebody looks, so the others know nothing of it.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from .engine import Engine
from .events import Event, Headers
from .flow import Flow


class Observer(Protocol):
    """Who is told. It changes nothing, and keeps nothing of ``data``, which is borrowed."""

    def received(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Octets came, and the engine is about to take them."""

    def happened(self, events: list[Event]) -> None:
        """The driver is about to act on these."""

    def responded(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """A response head was queued, or that of a 1xx response."""

    def gave(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        """The application gave octets of a body."""

    def gave_trailers(self, stream_id: int, trailers: Headers) -> None:
        """Trailers were queued."""

    def reset(self, stream_id: int, error_code: int) -> None:
        """We abandon a stream."""

    def sent(self, data: bytes | memoryview, now: float) -> None:
        """Octets go out, in whole frames on HTTP/2."""

    def rest(self) -> bool:
        """Look away, if nothing is under way that is to be seen to its end; say so."""

    def ended(self, reason: str) -> None:
        """The connection was ended from outside the engine."""


class ObservedEngine(Engine):
    """See ``protocol.engine.Engine`` for the rules of use; ``engine`` does all the work."""

    name: ClassVar[str] = "observed"

    def __init__(self, engine: Engine, observer: Observer) -> None:
        self.engine = engine
        self.observer = observer

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Engine``."""
        self.observer.received(data, now)
        self.engine.receive_data(data, now)

    def receive_eof(self, now: float) -> None:
        """See ``Engine``."""
        self.engine.receive_eof(now)

    def take_events(self) -> list[Event]:
        """See ``Engine``."""
        events = self.engine.take_events()
        if events:
            self.observer.happened(events)
        return events

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``Engine``."""
        self.observer.responded(stream_id, status, headers, False)
        self.engine.send_informational(stream_id, status, headers)

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Engine``."""
        self.observer.responded(stream_id, status, headers, end_stream)
        self.engine.send_headers(stream_id, status, headers, end_stream)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """See ``Engine``."""
        self.observer.gave(stream_id, data, end_stream)
        return self.engine.send_data(stream_id, data, end_stream)

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Engine``."""
        self.observer.gave_trailers(stream_id, trailers)
        self.engine.send_trailers(stream_id, trailers)

    def accept_tunnel(self, stream_id: int, headers: Headers) -> None:
        """See ``Engine``."""
        status = 200 if self.http_version == "2" else 101
        self.observer.responded(stream_id, status, headers, False)
        self.engine.accept_tunnel(stream_id, headers)

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``Engine``."""
        self.engine.acknowledge_received_data(stream_id, size)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``Engine``."""
        self.observer.reset(stream_id, error_code)
        self.engine.reset_stream(stream_id, error_code)

    def ping(self, payload: bytes) -> None:
        """See ``Engine``."""
        self.engine.ping(payload)

    def begin_shutdown(self, now: float) -> None:
        """See ``Engine``."""
        self.engine.begin_shutdown(now)

    def announce_shutdown(self, now: float) -> float:
        """See ``Engine``."""
        return self.engine.announce_shutdown(now)

    def terminate(self, error_code: int, reason: str) -> None:
        """See ``Engine``."""
        self.observer.ended(reason)
        self.engine.terminate(error_code, reason)

    def data_to_send(self, limit: int, now: float) -> bytes | memoryview:
        """See ``Engine``."""
        data = self.engine.data_to_send(limit, now)
        if data:
            self.observer.sent(data, now)
        return data

    @property
    def awaits_writer(self) -> bool:
        """See ``Engine``."""
        return self.engine.awaits_writer

    @property
    def reading_suspended(self) -> bool:
        """See ``Engine``."""
        return self.engine.reading_suspended

    @property
    def idle(self) -> bool:
        """See ``Engine``."""
        return self.engine.idle

    @property
    def ended(self) -> bool:
        """See ``Engine``."""
        return self.engine.ended

    @property
    def unsent(self) -> int:
        """See ``Engine``."""
        return self.engine.unsent

    def flow(self) -> Flow | None:
        """See ``Engine``."""
        return self.engine.flow()

    @property
    def awaited(self) -> int | None:
        """See ``Engine``."""
        return self.engine.awaited

    def next_deadline(self) -> float | None:
        """See ``Engine``."""
        return self.engine.next_deadline()

    def handle_deadline(self, now: float) -> None:
        """See ``Engine``."""
        self.engine.handle_deadline(now)


class ObservedHTTP1(ObservedEngine):
    """An HTTP/1.1 engine that is watched."""

    http_version: ClassVar[str] = "1.1"


class ObservedHTTP2(ObservedEngine):
    """An HTTP/2 engine that is watched."""

    http_version: ClassVar[str] = "2"
