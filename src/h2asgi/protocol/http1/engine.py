"""The life of an HTTP/1.1 connection, whatever library parses it.

A connection is always in one phase::

    NEW ──> HEAD ──> EXCHANGE ──> IDLE ──> HEAD ──> ...
                        └─> DISCARD ─┘        any ──> CLOSED

NEW       nothing has arrived yet
HEAD      a request head has begun to arrive
EXCHANGE  a request is being received, answered, or both
DISCARD   the response has ended before the request; what still comes is dropped
IDLE      the connection waits for its next request
CLOSED    ``ConnectionTerminated`` is out; only what is queued is still sent

Requests are answered in order, one at a time (RFC 9112 section 9.3.2): input
behind the request in progress waits unparsed until the response has ended and
has mostly left, so that a client that pipelines without reading cannot pile up
responses. A request that breaks the rules becomes a ``RequestRejected``, is
answered like any other, and is the last of its connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from ...config import HTTP1Config, Timeouts
from ...errors import ErrorCode
from ..engine import SEND_HIGH_WATER, SEND_LOW_WATER
from ..events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    SendQueueDrained,
    StreamReset,
)
from ..headers import RequestError
from .heads import Head
from .parser import RequestParser
from .response import Response, SendQueue, informational_head

PIPELINE_LIMIT = 64 * 1024
"""Octets of further requests that may wait unparsed before reading stops: hundreds of
requests, and with one read on top the most that a waiting pipeline costs in memory."""

DISCARD_LIMIT = 256 * 1024
"""Octets of a request that are read and dropped after its response: up to here that is
cheaper for both sides than a new connection with its TLS handshake."""

DISCARD_TIMEOUT = 1.0
"""Seconds that such a request may still take; a client that has its answer rarely goes on."""


class _Phase(Enum):
    NEW = auto()
    HEAD = auto()
    EXCHANGE = auto()
    DISCARD = auto()
    IDLE = auto()
    CLOSED = auto()


@dataclass(slots=True)
class _Exchange:
    """One request and its response."""

    stream_id: int
    response: Response
    request_ended: bool
    awaiting_continue: bool = False
    outstanding: int = 0  # octets of content-length that have not arrived
    unread: int = 0  # octets that the application has not taken
    discarded: int = 0  # octets that came after the response


class HTTP1Engine:
    """``protocol.engine.Engine`` over a ``RequestParser``."""

    name: ClassVar[str]
    parser: ClassVar[type[RequestParser]]
    http_version: ClassVar[str] = "1.1"

    def __init__(self, config: HTTP1Config, timeouts: Timeouts, now: float) -> None:
        self._parser = self.parser(config.max_head_size)
        self._receive_window = config.receive_window
        self._time_allowed = {
            _Phase.NEW: timeouts.first_bytes,
            _Phase.HEAD: timeouts.request_headers,
            _Phase.IDLE: timeouts.keep_alive,
            _Phase.DISCARD: DISCARD_TIMEOUT,
        }
        self._events: list[Event] = []
        self._queue = SendQueue()
        self._exchange: _Exchange | None = None
        self._last_stream_id = 0
        self._high_stream_id = 0  # whose writer waits for the queue to drain; 0 is nobody's
        self._closing = False  # the exchange in progress is the last one
        self._broken = False  # the input can no longer be parsed and is dropped
        self._last_words = ""  # why the connection ends once the queue is empty
        self._eof = False
        self._enter(_Phase.NEW)
        self._date(now)

    # Input

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Engine``; a copy of ``data`` is kept."""
        if self._phase is _Phase.CLOSED or self._broken:
            return
        if self._last_words:
            self._broken = True
            return
        exchange = self._exchange
        if exchange is not None and exchange.response.ended and not exchange.request_ended:
            exchange.discarded += len(data)
        self._parser.feed(data)
        self._advance()
        self._date(now)

    def receive_eof(self, now: float) -> None:
        """See ``Engine``; a half-closed client still gets the answers to what it sent."""
        self._eof = True
        self._advance()
        self._date(now)

    def take_events(self) -> list[Event]:
        """See ``Engine``."""
        events, self._events = self._events, []
        return events

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``Engine``; reading goes on once enough has been taken."""
        exchange = self._exchange
        if exchange is not None and exchange.stream_id == stream_id:
            exchange.unread = max(0, exchange.unread - size)

    @property
    def reading_suspended(self) -> bool:
        """See ``Engine``: too much body unread, or too much pipelined behind a request."""
        exchange = self._exchange
        if exchange is None or self._broken:
            return False
        if exchange.request_ended:
            return self._parser.buffered > PIPELINE_LIMIT
        return not exchange.response.ended and exchange.unread >= self._receive_window

    # Output

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``Engine``; a 100 that nobody waits for is left out."""
        exchange = self._sending(stream_id)
        # RFC 9110 section 15.2: HTTP/1.0 does not know 1xx.
        if exchange is None or exchange.response.begun or exchange.response.version == "1.0":
            return
        if status == 100:
            if not exchange.awaiting_continue:
                return
            exchange.awaiting_continue = False
        self._queue.push(informational_head(status, headers))

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Engine``; the framing of the body follows from the fields."""
        exchange = self._sending(stream_id)
        if exchange is None or exchange.response.begun:
            return
        response = exchange.response
        if self._closing or exchange.awaiting_continue or (self._eof and not self._parser.buffered):
            # A client that was not told to continue may send the body or not, so
            # that nobody could tell where its next request begins.
            response.persistent = False
        self._queue.push(response.head(status, headers, end_stream))
        self._closing = not response.persistent
        if end_stream:
            self._end_response(exchange, [])

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """See ``Engine``; bytes beyond what content-length declared are dropped."""
        exchange = self._sending(stream_id)
        if exchange is None or not exchange.response.begun:
            return 0
        for piece in exchange.response.body(data):
            self._queue.push(piece)
        waiting = self._queue.size
        if waiting > SEND_HIGH_WATER:
            self._high_stream_id = stream_id
        if end_stream:
            self._end_response(exchange, [])
        return waiting

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Engine``; trailers are dropped where the framing has no place for them."""
        exchange = self._sending(stream_id)
        if exchange is not None and exchange.response.begun:
            self._end_response(exchange, trailers)

    def data_to_send(self, limit: int, now: float) -> bytes:
        """See ``Engine``; the next request may appear once a response has left."""
        data = self._queue.take(limit)
        if self._queue.size <= SEND_LOW_WATER:
            if self._high_stream_id:
                self._events.append(SendQueueDrained(self._high_stream_id))
                self._high_stream_id = 0
            if self._last_words and not self._queue.size:
                self.terminate(ErrorCode.NO_ERROR, self._last_words)
            if self._exchange is not None and self._exchange.response.ended:
                self._advance()
        self._date(now)
        return data

    # The end

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``Engine``; a response that is cut short takes the connection with it."""
        if self._sending(stream_id) is not None:
            self.terminate(error_code or ErrorCode.INTERNAL_ERROR, "request abandoned")

    def ping(self, payload: bytes) -> None:
        """HTTP/1.1 has no PING."""

    def begin_shutdown(self, now: float) -> None:
        """See ``Engine``; a response under way says ``connection: close`` if it still can."""
        self._closing = True
        if self._exchange is None or self._exchange.response.ended:
            self._end_after_queue("shutting down")
            if not self._queue.size:
                self.terminate(ErrorCode.NO_ERROR, "shutting down")

    def terminate(self, error_code: int, reason: str) -> None:
        """See ``Engine``."""
        if self._phase is _Phase.CLOSED:
            return
        exchange = self._exchange
        incomplete = exchange is not None and not exchange.request_ended
        unread = self._broken or incomplete or self._parser.buffered > 0
        # Lingering is for an answer that is to arrive. After an error the kernel's
        # RST is welcome: what was cut off must not look like a whole response.
        lingers = unread and not self._eof and error_code == ErrorCode.NO_ERROR
        self._exchange = None
        self._enter(_Phase.CLOSED)
        self._events.append(ConnectionTerminated(error_code, reason, lingers))

    def _end_after_queue(self, reason: str) -> None:
        """End once the last response has been taken; further input is dropped until then."""
        self._last_words = reason

    @property
    def idle(self) -> bool:
        """See ``Engine``."""
        return self._exchange is None and not self._queue.size

    # Deadlines

    def next_deadline(self) -> float | None:
        """See ``Engine``; None while a request is being served."""
        return self._deadline

    def handle_deadline(self, now: float) -> None:
        """See ``Engine``."""
        self._date(now)
        if self._deadline is None or now < self._deadline:
            return
        if self._phase is _Phase.HEAD:
            self._reject(RequestError(408, "request head took too long"))
        elif self._phase is _Phase.DISCARD:
            self.terminate(ErrorCode.NO_ERROR, "request body took too long after its response")
        else:
            self.terminate(ErrorCode.NO_ERROR, "idle for too long")

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._deadline: float | None = None
        self._undated = phase in self._time_allowed

    def _date(self, now: float) -> None:
        """Start the clock of a phase that was entered where no time was known."""
        if self._undated:
            self._undated = False
            self._deadline = now + self._time_allowed[self._phase]

    # Progress

    def _advance(self) -> None:
        """Turn buffered input into events as far as the exchange in progress allows."""
        # RFC 9112 section 9.6: nothing is served behind the last response.
        progress = not self._last_words
        while progress and self._phase is not _Phase.CLOSED:
            exchange = self._exchange
            if exchange is None:
                progress = self._read_head()
            elif not exchange.request_ended:
                progress = self._read_body(exchange)
            else:
                progress = exchange.response.ended and self._queue.size <= SEND_LOW_WATER
                if progress:
                    self._exchange = None
                    self._enter(_Phase.IDLE)

    def _read_head(self) -> bool:
        try:
            parsed = self._parser.read_head()
        except RequestError as error:
            self._reject(error)
            return False
        if parsed is not None:
            self._begin_exchange(parsed)
            return True
        if self._eof:
            self.terminate(ErrorCode.NO_ERROR, "the client closed the connection")
        elif self._phase is not _Phase.HEAD and self._parser.started:
            self._enter(_Phase.HEAD)
        return False

    def _begin_exchange(self, head: Head) -> None:
        self._last_stream_id += 1
        ended = not head.chunked and not head.content_length
        self._exchange = _Exchange(
            self._last_stream_id,
            Response(head.method, head.version, head.persistent),
            request_ended=ended,
            awaiting_continue=head.expect_continue and not ended,
            outstanding=head.content_length or 0,
        )
        self._enter(_Phase.EXCHANGE)
        self._events.append(
            RequestReceived(
                self._last_stream_id,
                head.version,
                head.method,
                head.target,
                head.headers.copy(),
                ended,
                self._exchange.awaiting_continue,
            )
        )

    def _read_body(self, exchange: _Exchange) -> bool:
        try:
            data = self._parser.read_body()
        except RequestError as error:
            self._break_body(exchange, error)
            return False
        wanted = not exchange.response.ended
        if data:
            exchange.awaiting_continue = False
            exchange.outstanding -= len(data)
            if wanted:
                exchange.unread += len(data)
                self._events.append(DataReceived(exchange.stream_id, data))
        if self._parser.trailers is not None:
            exchange.request_ended = True
            if wanted:
                self._events.append(RequestEnded(exchange.stream_id, self._parser.trailers))
        elif not data:
            self._await_body(exchange)
            return False
        return True

    def _await_body(self, exchange: _Exchange) -> None:
        """The body is not complete, and nothing more of it is here."""
        if exchange.response.ended:
            if self._eof or exchange.discarded > DISCARD_LIMIT:
                self.terminate(ErrorCode.NO_ERROR, "request body abandoned")
            elif self._phase is _Phase.EXCHANGE and self._queue.size <= SEND_LOW_WATER:
                self._enter(_Phase.DISCARD)
        elif self._eof:
            # RFC 9112 section 8: the request is incomplete, whatever came of it.
            reason = "the connection ended within a request body"
            code = ErrorCode.CANCEL
            self._events.append(StreamReset(exchange.stream_id, code, reason, remote=True))
            self.terminate(code, reason)

    def _break_body(self, exchange: _Exchange, error: RequestError) -> None:
        """The framing of the body is broken: nothing behind it can be trusted."""
        self._broken = True
        if exchange.response.ended:
            self.terminate(ErrorCode.NO_ERROR, error.reason)
            return
        code = ErrorCode.PROTOCOL_ERROR
        self._events.append(StreamReset(exchange.stream_id, code, error.reason, remote=False))
        if exchange.response.begun:
            self.terminate(code, error.reason)
        else:
            self._reject(error)

    def _reject(self, error: RequestError) -> None:
        """Have the driver answer what never becomes a request; the answer is the last one."""
        self._broken = self._closing = True
        method, target, version = self._parser.request_line()
        self._last_stream_id += 1
        self._exchange = _Exchange(
            self._last_stream_id, Response(method, version, False), request_ended=True
        )
        self._enter(_Phase.EXCHANGE)
        self._events.append(
            RequestRejected(
                self._last_stream_id, version, method, target, error.status, error.reason
            )
        )

    def _sending(self, stream_id: int) -> _Exchange | None:
        """Return the exchange if this is its id and its response may go on."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id or exchange.response.ended:
            return None
        return exchange

    def _end_response(self, exchange: _Exchange, trailers: Headers) -> None:
        if not exchange.response.complete:
            # RFC 9112 section 8: only a closed connection shows that octets are missing.
            self.terminate(ErrorCode.INTERNAL_ERROR, "response shorter than its content-length")
            return
        self._queue.push(exchange.response.end(trailers))
        exchange.unread = 0
        if self._closing:
            self._end_after_queue("last response sent")
        elif not exchange.request_ended and exchange.outstanding > DISCARD_LIMIT:
            self._end_after_queue("too much of the request body outstanding")
        else:
            self._advance()
