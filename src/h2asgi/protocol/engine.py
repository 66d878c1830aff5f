"""The engine seam: one interface, whatever library speaks the protocol behind it.

An engine owns no socket and no clock. Bytes go in by ``receive_data``, events
come out by ``take_events``, bytes to send by ``data_to_send``; ``now`` is
seconds on the driver's monotonic clock. Engines never raise for what a peer
does: a peer's mistake becomes events and bytes to send.

HTTP/1.1 requests get the stream ids 1, 2, 3, ...; a call on a finished stream
does nothing, so that a late task of one request cannot touch the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from .events import Event, Headers
from .flow import Flow

SEND_HIGH_WATER: Final = 64 * 1024
"""Bytes queued on one stream above which its writer waits.

Large enough to fill several frames per turn, small enough that 128 stalled
streams hold 8 MiB, and that what is queued can still be reprioritised.
"""

MAX_PIECES: Final = 256
"""Pieces that wait on one stream before they are joined: a piece costs some 40 octets beside its
content, which a writer of tiny pieces would multiply its queue by."""

SEND_LOW_WATER: Final = 16 * 1024
"""Bytes queued at which the waiting writer is woken: a frame, so that the pipe never runs dry."""


class Engine(ABC):
    """One connection's protocol state. See the module's docstring for the rules of use."""

    name: ClassVar[str]
    http_version: ClassVar[str]

    @abstractmethod
    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Take bytes from the peer. ``data`` is borrowed for the length of the call."""

    @abstractmethod
    def receive_eof(self, now: float) -> None:
        """Take note that the peer will send nothing more; answers may still go out."""

    @abstractmethod
    def take_events(self) -> list[Event]:
        """Give the events since the last call, oldest first.

        To be called after ``receive_data``, ``receive_eof``, ``data_to_send``,
        ``handle_deadline``, ``terminate`` and the end of a response.
        """

    @abstractmethod
    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """Queue a 1xx response (RFC 9110 section 15.2)."""

    @abstractmethod
    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """Queue the head of the final response. The caller has checked the fields."""

    @abstractmethod
    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """Queue body bytes; return how many bytes now wait on this stream.

        Above ``SEND_HIGH_WATER`` the writer is to wait for ``SendQueueDrained``.
        """

    @abstractmethod
    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """Queue the trailer section, which ends the response."""

    @abstractmethod
    def accept_tunnel(self, stream_id: int, headers: Headers) -> None:
        """Queue the head that turns the stream of a request with a ``protocol`` into a tunnel.

        That is 101 on HTTP/1.1 (RFC 9110 section 7.8) and 200 on HTTP/2 (RFC 8441 section 5),
        with exactly these fields. From then on ``DataReceived`` and ``send_data`` carry the raw
        octets of either direction, and ``RequestEnded`` says that the peer has ended its half
        (END_STREAM; EOF on HTTP/1.1). Over HTTP/1.1 what came behind the request has waited
        unparsed and is ``DataReceived`` now; over HTTP/2 that may come ahead of this call.

        ``send_data(..., end_stream=True)`` ends our half. The stream is then half-closed until
        the peer ends its own, or ``reset_stream`` is called, which is the caller's to do in
        time. On HTTP/1.1 the connection ends as soon as all is written.
        """

    @abstractmethod
    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """Say that the application took ``size`` bytes of body: credit may be given back.

        What is unread when a stream ends needs no call: the engine drops it and
        gives the credit back itself.
        """

    @abstractmethod
    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Abandon the stream: RST_STREAM, or the end of the connection on HTTP/1.1."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 octets of payload; does nothing on HTTP/1.1."""

    @abstractmethod
    def begin_shutdown(self, now: float) -> None:
        """Finish what is open, take nothing new.

        Two-stage GOAWAY (RFC 9113 section 6.8), ``Connection: close`` on
        HTTP/1.1; ends in ``ConnectionTerminated``.
        """

    @abstractmethod
    def announce_shutdown(self, now: float) -> float:
        """Make the next response the last one, where a response has to say so: on HTTP/1.1.

        Gives since when a further request may be on its way from a client that does not know
        of it: minus infinity if none can be, or none that ``begin_shutdown`` would lose.
        """

    @abstractmethod
    def terminate(self, error_code: int, reason: str) -> None:
        """End the connection now; ends in ``ConnectionTerminated``."""

    @abstractmethod
    def data_to_send(self, limit: int, now: float) -> bytes | memoryview:
        """Give about ``limit`` bytes at the most; empty when there is nothing to send now.

        What is given never changes. It is a view where a copy of a large body is saved by it.
        """

    @property
    @abstractmethod
    def awaits_writer(self) -> bool:
        """Whether ``data_to_send`` stopped short, so that a writer who comes first may go on.

        To be looked at after each call of it. It is to be called again when the events have been
        taken and the loop has had a turn, whatever the writers did.
        """

    @property
    @abstractmethod
    def reading_suspended(self) -> bool:
        """Whether the driver should stop reading: HTTP/1.1 backpressure, never on HTTP/2."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no request is open and no answer waits to be taken."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the connection is over: ``ConnectionTerminated`` is an event, taken or not."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """How many octets of responses wait to be sent."""

    def flow(self) -> Flow | None:
        """Give what flow control allows and what waits at the moment; None on HTTP/1.1."""
        return None

    @property
    def awaited(self) -> int | None:
        """How many octets of a preface come before the next frame.

        None where no frame begins next: within one, and on HTTP/1.1.
        """
        return None

    @abstractmethod
    def next_deadline(self) -> float | None:
        """When ``handle_deadline`` is due at the latest, if at all."""

    @abstractmethod
    def handle_deadline(self, now: float) -> None:
        """Act on every deadline that ``now`` has passed; harmless when called early."""
