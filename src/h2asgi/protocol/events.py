"""The events that every engine speaks, and nothing else.

An event carries bytes of its own, never a view of the buffer that the engine
was fed from: the buffer is shared by all connections and overwritten by the
next read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..request import Request

Headers = list[tuple[bytes, bytes]]
"""Fields in order: names lower-case, ``host`` first, ``cookie`` joined, no pseudo-headers."""


@dataclass(slots=True, init=False)
class RequestReceived(Request):
    """A request whose head is complete and keeps every rule of ``headers.py``.

    ``target`` is origin-form (path and query as sent) or ``b"*"``. With
    ``end_stream`` there is no body: no ``DataReceived`` and no ``RequestEnded``
    will follow. ``expect_continue`` says that the client waits for a 100
    (RFC 9110 section 10.1.1).

    ``protocol`` is ``"websocket"`` where a tunnel is asked for: by the ``:protocol`` of an
    extended CONNECT (RFC 8441 section 4), or over HTTP/1.1 by a GET without a body that
    has ``connection: upgrade`` and ``upgrade: websocket`` (RFC 9110 section 7.8). It is
    accepted with ``Engine.accept_tunnel``, or refused with an ordinary response. Over
    HTTP/1.1 it has ``end_stream``, since the request itself is complete.

    ``accepts_trailers`` says whether a trailer section of the response has a place in it and
    will not be discarded on its way: always over HTTP/2 (RFC 9113 section 8.1), over HTTP/1.1
    where ``te: trailers`` says so (RFC 9110 section 10.1.4).
    """

    protocol: str | None

    # Written out, as that of DataReceived is: what dataclass makes is not compiled.
    def __init__(
        self,
        stream_id: int,
        http_version: str,
        method: str,
        target: bytes,
        headers: Headers,
        end_stream: bool,
        expect_continue: bool = False,
        protocol: str | None = None,
        accepts_trailers: bool = True,
    ) -> None:
        self.stream_id = stream_id
        self.http_version = http_version
        self.method = method
        self.target = target
        self.headers = headers
        self.end_stream = end_stream
        self.expect_continue = expect_continue
        self.protocol = protocol
        self.accepts_trailers = accepts_trailers


@dataclass(slots=True)
class RequestRejected:
    """A request that never reaches the application: answer it with ``status`` and end the stream.

    ``method`` and ``target`` are what could be made out, for the access log.
    """

    stream_id: int
    http_version: str
    method: str
    target: bytes
    status: int
    reason: str


@dataclass(slots=True, init=False)
class DataReceived:
    """A piece of a request body, or of what comes through a tunnel.

    Acknowledge it once the application has taken it.
    """

    stream_id: int
    data: bytes

    def __init__(self, stream_id: int, data: bytes) -> None:
        self.stream_id = stream_id
        self.data = data


@dataclass(slots=True)
class RequestEnded:
    """The body is complete, or the peer has ended its half of a tunnel.

    ``trailers`` as in ``RequestReceived.headers``.
    """

    stream_id: int
    trailers: Headers = field(default_factory=list)


@dataclass(slots=True)
class RequestTimedOut:
    """The body of a request does not come, and its response has not begun: answer with 408.

    The stream is still open. On HTTP/1.1 that answer is the last of the connection.
    """

    stream_id: int
    reason: str


@dataclass(slots=True)
class StreamReset:
    """The stream is gone, by the peer's will (``remote``), or for a broken rule or a time-out."""

    stream_id: int
    error_code: int
    reason: str
    remote: bool


@dataclass(slots=True)
class SendQueueDrained:
    """What waits to be sent on the stream fell to the low-water mark after it had been high."""

    stream_id: int


@dataclass(slots=True)
class PingAcknowledged:
    """The peer answered the ``ping()`` with this payload."""

    payload: bytes


@dataclass(slots=True)
class ConnectionTerminated:
    """Nothing more will be read; send what ``data_to_send`` still gives, then close.

    ``unread_input`` says that the peer may still be sending: the closing side
    must go on reading for a while, or the kernel's RST destroys the answer on
    its way (RFC 9112 section 9.6).
    """

    error_code: int
    reason: str
    unread_input: bool = False


Event = (
    RequestReceived
    | RequestRejected
    | DataReceived
    | RequestEnded
    | RequestTimedOut
    | StreamReset
    | SendQueueDrained
    | PingAcknowledged
    | ConnectionTerminated
)
