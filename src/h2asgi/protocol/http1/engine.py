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
responses. A request to upgrade may make its exchange a tunnel (RFC 9110 section 7.8):
the octets of both sides pass as they are from then on, and nothing follows it on the
connection. A request that breaks the rules becomes a ``RequestRejected``, is
answered like any other, and is the last of its connection.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from ...config import HTTP1Config, Limits, Timeouts
from ...errors import ErrorCode
from ...limits import UNSENT, WatchedBudget
from ..engine import SEND_HIGH_WATER, SEND_LOW_WATER, Engine
from ..events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RequestTimedOut,
    SendQueueDrained,
    StreamReset,
)
from ..headers import RequestError
from ..pace import Pace, Transfer
from .exchange import Exchange, WrittenHead, informational_head, last_chunk
from .heads import Head
from .parser import RequestParser
from .send_queue import SendQueue

PIPELINE_LIMIT: Final = 64 * 1024
"""Octets of further requests that may wait unparsed before reading stops: hundreds of
requests, and with one read on top the most that a waiting pipeline costs in memory."""

DISCARD_LIMIT: Final = 256 * 1024
"""Octets of a request that are read and dropped after its response: up to here that is
cheaper for both sides than a new connection with its TLS handshake."""

DISCARD_TIMEOUT: Final = 1.0
"""Seconds that such a request may still take; a client that has its answer rarely goes on."""


# Phases; plain integers, since they are compared several times for every request.
_NEW: Final = 0
_HEAD: Final = 1
_IDLE: Final = 2
_DISCARD: Final = 3
_EXCHANGE: Final = 4
_CLOSED: Final = 5


class HTTP1Engine(Engine):
    """``protocol.engine.Engine`` over a ``RequestParser``."""

    name: ClassVar[str]
    parser: ClassVar[type[RequestParser]]
    http_version: ClassVar[str] = "1.1"

    def __init__(
        self,
        config: HTTP1Config,
        timeouts: Timeouts,
        now: float,
        *,
        websocket: bool = False,
        limits: Limits | None = None,
        unsent: WatchedBudget | None = None,
    ) -> None:
        self._websocket = websocket
        self._last_request = (limits or Limits()).requests_per_connection or inf
        self._parser = self.parser(config.max_head_size)
        self._receive_window = config.receive_window
        self._body_pace = Pace(timeouts.request_body, timeouts.min_transfer_rate)
        self._time_allowed = [  # by phase; in an exchange until the next look at its body
            timeouts.first_bytes,
            timeouts.request_headers,
            timeouts.keep_alive,
            DISCARD_TIMEOUT,
            self._body_pace.interval,
        ]
        self._events: list[Event] = []
        self._queue = SendQueue()
        self._unsent = unsent or WatchedBudget(UNSENT)
        self._counted = 0  # octets there: what waits beyond the high-water mark
        self._last_head = WrittenHead()
        self._exchange: Exchange | None = None
        self._last_stream_id = 0
        self._high_stream_id = 0  # whose writer waits for the queue to drain; 0 is nobody's
        self._closing = False  # the exchange in progress is the last one
        self._broken = False  # the input can no longer be parsed and is dropped
        # Why the connection ends once the queue is empty; input is dropped until then.
        self._last_words = ""
        self._eof = False
        self._deadline: float | None = None
        self._enter(_NEW)
        self._date(now)

    # Input

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Engine``; a copy of ``data`` is kept."""
        if self._phase == _CLOSED or self._broken:
            return
        if self._last_words:
            self._broken = True
            return
        exchange = self._exchange
        if exchange is not None and exchange.ended and not exchange.request_ended:
            exchange.discarded += len(data)
        self._parser.append(data)
        # Mostly this was a head and nothing else.
        if exchange is not None or (self._read_head() and self._parser.data):
            self._advance()
        if self._undated:
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
    def awaits_writer(self) -> bool:
        """Never: there is one response at a time."""
        return False

    @property
    def reading_suspended(self) -> bool:
        """See ``Engine``: too much body unread, or too much pipelined behind a request."""
        exchange = self._exchange
        if exchange is None or self._broken:
            return False
        if exchange.request_ended:
            return len(self._parser) > PIPELINE_LIMIT
        return not exchange.ended and exchange.unread >= self._receive_window

    # Output

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``Engine``; a 100 that nobody waits for is left out."""
        exchange = self._sending(stream_id)
        # RFC 9110 section 15.2: HTTP/1.0 does not know 1xx.
        if exchange is None or exchange.begun or exchange.version == "1.0":
            return
        if status == 100:
            if not exchange.awaiting_continue:
                return
            exchange.awaiting_continue = False
        self._queue.push(informational_head(status, headers))

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Engine``; the framing of the body follows from the fields."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id or exchange.begun:
            return
        if stream_id >= self._last_request:
            exchange.persistent = False
        if self._closing or exchange.awaiting_continue or (self._eof and not self._parser.data):
            # A client that was not told to continue may send the body or not, so
            # that nobody could tell where its next request begins.
            exchange.persistent = False
        if not exchange.request_ended:
            self._deadline = None  # the rest of the body may take its time
        self._queue.push(exchange.head(status, headers, end_stream, self._last_head))
        self._closing = not exchange.persistent
        if end_stream:
            self._end_response(exchange, [])

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """See ``Engine``; bytes beyond what content-length declared are dropped."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id:
            return 0
        if exchange.ended or not exchange.begun:
            return 0
        queue = self._queue
        if exchange.chunked:
            queue.push_chunk(data)
        else:
            queue.push(exchange.body(data))
        waiting = queue.size
        if waiting > SEND_HIGH_WATER:
            self._high_stream_id = stream_id
            drained = SendQueueDrained(stream_id)
            if drained in self._events:  # no longer; there will be another
                self._events.remove(drained)
            self._unsent.add(waiting - self._counted)
            self._counted = waiting
        if end_stream:
            self._end_response(exchange, [])
        return waiting

    def may_pass(self, stream_id: int) -> bool:
        """Whether octets of the body may go past the engine, behind all it has: not in chunks."""
        exchange = self._sending(stream_id)
        return exchange is not None and exchange.begun and not exchange.chunked

    def note_passed(self, stream_id: int, size: int) -> None:
        """Count octets of the body that went past the engine; never more than it may have."""
        exchange = self._sending(stream_id)
        if exchange is not None and exchange.remaining is not None:
            exchange.remaining -= size

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Engine``; trailers are dropped where the framing has no place for them."""
        exchange = self._sending(stream_id)
        if exchange is not None and exchange.begun:
            self._end_response(exchange, trailers)

    def accept_tunnel(self, stream_id: int, headers: Headers) -> None:
        """See ``Engine``; nothing else follows on this connection."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id or exchange.begun:
            return
        self._queue.push(exchange.accept_tunnel(headers))
        self._closing = True
        self._advance()

    def data_to_send(self, limit: int, now: float) -> bytes | memoryview:
        """See ``Engine``; the next request may appear once a response has left."""
        data = self._queue.take(limit)
        if self._queue.size <= SEND_LOW_WATER:
            if self._high_stream_id:
                self._events.append(SendQueueDrained(self._high_stream_id))
                self._high_stream_id = 0
                self._forget_unsent()
            if self._last_words and not self._queue.size:
                self.terminate(ErrorCode.NO_ERROR, self._last_words)
            if self._exchange is not None and self._exchange.ended:
                self._advance()
        if self._undated:
            self._date(now)
        return data

    # The end

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``Engine``; a response that is cut short takes the connection with it."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id:
            return
        if exchange.tunnel or not exchange.ended:
            self.terminate(error_code or ErrorCode.INTERNAL_ERROR, "request abandoned")

    def ping(self, payload: bytes) -> None:
        """HTTP/1.1 has no PING."""

    def begin_shutdown(self, now: float) -> None:
        """See ``Engine``; a response under way says ``connection: close`` if it still can."""
        self._closing = True
        if self._exchange is None or self._exchange.ended:
            self._last_words = "shutting down"
            if not self._queue.size:
                self.terminate(ErrorCode.NO_ERROR, "shutting down")

    def announce_shutdown(self, now: float) -> float:
        """See ``Engine``."""
        self._last_request = 0
        exchange = self._exchange
        if exchange is not None:
            # A head that is out has not said it, and what follows its response would be lost.
            return now if exchange.begun and not self._closing else -inf
        return now if self._deadline is None else self._deadline - self._time_allowed[self._phase]

    def terminate(self, error_code: int, reason: str) -> None:
        """See ``Engine``."""
        if self._phase == _CLOSED:
            return
        exchange = self._exchange
        incomplete = exchange is not None and not exchange.request_ended
        unread = self._broken or incomplete or bool(self._parser.data)
        # Lingering is for an answer that is to arrive. After an error the kernel's
        # RST is welcome: what was cut off must not look like a whole response.
        lingers = unread and not self._eof and error_code == ErrorCode.NO_ERROR
        self._exchange = None
        self._forget_unsent()
        self._enter(_CLOSED)
        self._events.append(ConnectionTerminated(error_code, reason, lingers))

    def _forget_unsent(self) -> None:
        self._unsent.used -= self._counted
        self._counted = 0

    @property
    def unsent(self) -> int:
        """See ``Engine``."""
        return self._queue.size

    @property
    def idle(self) -> bool:
        """See ``Engine``."""
        return self._exchange is None and not self._queue.size

    @property
    def ended(self) -> bool:
        """See ``Engine``."""
        return self._phase == _CLOSED

    # Deadlines

    def next_deadline(self) -> float | None:
        """See ``Engine``; None while a request is being served, unless its body is to come."""
        return self._deadline

    def handle_deadline(self, now: float) -> None:
        """See ``Engine``."""
        self._date(now)
        if self._deadline is None or now < self._deadline:
            return
        if self._phase == _EXCHANGE:
            self._look_at_body(now)
        elif self._phase == _HEAD:
            self._reject(RequestError(408, "request head took too long"))
        elif self._phase == _DISCARD:
            self.terminate(ErrorCode.NO_ERROR, "request body took too long after its response")
        else:
            self.terminate(ErrorCode.NO_ERROR, "idle for too long")

    def _look_at_body(self, now: float) -> None:
        """See whether the body moves: a response that has begun may go on beside it for ever."""
        exchange = self._exchange
        self._deadline = None
        if exchange is None or exchange.request_ended or exchange.begun:
            return
        self._deadline = now + self._body_pace.interval
        if exchange.awaiting_continue or self.reading_suspended:
            exchange.transfer = None  # it is us who hold the client back
            return
        exchange.transfer = exchange.transfer or Transfer()
        # How fast a body of unknown length is meant to come, nobody knows.
        rated = exchange.outstanding > 0
        reason = exchange.transfer.look(
            exchange.received, self._body_pace, self._body_pace.interval, rated=rated
        )
        if reason:
            self._deadline = None
            self._closing = self._broken = True
            reason = f"request body: {reason}"
            self._events.append(RequestTimedOut(exchange.stream_id, reason))

    def _enter(self, phase: int) -> None:
        self._phase = phase
        self._deadline = None
        self._undated = phase != _EXCHANGE and phase != _CLOSED

    def _date(self, now: float) -> None:
        """Start the clock of a phase that was entered where no time was known."""
        if self._undated:
            self._undated = False
            self._deadline = now + self._time_allowed[self._phase]

    # Progress

    def _advance(self) -> None:
        """Turn buffered input into events as far as the exchange in progress allows."""
        # RFC 9112 section 9.6: nothing is served behind the last response.
        while not self._last_words and self._phase != _CLOSED:
            exchange = self._exchange
            if exchange is None:
                if not self._read_head():
                    return
            elif exchange.tunnel:
                self._read_tunnel(exchange)
                return
            elif not exchange.request_ended:
                if not self._read_body(exchange):
                    return
            elif exchange.ended and self._queue.size <= SEND_LOW_WATER:
                self._exchange = None
                self._enter(_IDLE)
                if not (self._parser.data or self._eof):
                    return
            else:
                return

    def _read_head(self) -> bool:
        try:
            head = self._parser.read_head()
        except RequestError as error:
            self._reject(error)
            return False
        if head is not None:
            self._begin_exchange(head)
            return True
        if self._eof:
            self.terminate(ErrorCode.NO_ERROR, "the client closed the connection")
        elif self._phase != _HEAD and self._parser.started:
            self._enter(_HEAD)
        return False

    def _begin_exchange(self, head: Head) -> None:
        self._last_stream_id = stream_id = self._last_stream_id + 1
        method = head.method
        version = head.version
        self._exchange = exchange = Exchange(stream_id, method, version, head.persistent)
        ended = True
        if head.chunked or head.content_length:
            exchange.request_ended = ended = False
            exchange.awaiting_continue = head.expect_continue
            exchange.outstanding = head.content_length or 0
        self._phase = _EXCHANGE
        self._deadline = None
        self._undated = not ended and self._body_pace.interval < inf
        headers = head.headers.copy()  # the head may be remembered
        request = RequestReceived(
            stream_id, version, method, head.target, headers, ended, exchange.awaiting_continue
        )
        if head.asks_for_websocket and method == "GET" and ended and self._websocket:
            request.protocol = "websocket"
        request.accepts_trailers = head.accepts_trailers
        self._events.append(request)

    def _read_body(self, exchange: Exchange) -> bool:
        try:
            data = self._parser.read_body()
        except RequestError as error:
            self._break_body(exchange, error)
            return False
        wanted = not exchange.ended
        if data:
            exchange.awaiting_continue = False
            exchange.outstanding -= len(data)
            exchange.received += len(data)
            if wanted:
                exchange.unread += len(data)
                self._events.append(DataReceived(exchange.stream_id, data))
        if self._parser.trailers is not None:
            exchange.request_ended = True
            if wanted:
                self._deadline = None
                self._undated = False
                self._events.append(RequestEnded(exchange.stream_id, self._parser.trailers))
        elif not data or (exchange.outstanding > 0 and not self._parser.data):
            self._await_body(exchange)
            return False
        return True

    def _read_tunnel(self, exchange: Exchange) -> None:
        """Hand on what came through the tunnel as it is."""
        if exchange.request_ended:
            return
        data = self._parser.take(len(self._parser))
        if data:
            exchange.unread += len(data)
            self._events.append(DataReceived(exchange.stream_id, data))
        if self._eof:
            exchange.request_ended = True
            self._events.append(RequestEnded(exchange.stream_id))

    def _await_body(self, exchange: Exchange) -> None:
        """The body is not complete, and nothing more of it is here."""
        if exchange.ended:
            if self._eof or exchange.discarded > DISCARD_LIMIT:
                self.terminate(ErrorCode.NO_ERROR, "request body abandoned")
            elif self._phase == _EXCHANGE and self._queue.size <= SEND_LOW_WATER:
                self._enter(_DISCARD)
        elif self._eof:
            # RFC 9112 section 8: the request is incomplete, whatever came of it.
            reason = "the connection ended within a request body"
            code = ErrorCode.CANCEL
            self._events.append(StreamReset(exchange.stream_id, code, reason, remote=True))
            self.terminate(code, reason)

    def _break_body(self, exchange: Exchange, error: RequestError) -> None:
        """The framing of the body is broken: nothing behind it can be trusted."""
        self._broken = True
        if exchange.ended:
            self.terminate(ErrorCode.NO_ERROR, error.reason)
            return
        code = ErrorCode.PROTOCOL_ERROR
        self._events.append(StreamReset(exchange.stream_id, code, error.reason, remote=False))
        if exchange.begun:
            self.terminate(code, error.reason)
        else:
            self._reject(error)

    def _reject(self, error: RequestError) -> None:
        """Have the driver answer what never becomes a request; the answer is the last one."""
        self._broken = self._closing = True
        method, target, version = self._parser.request_line()
        self._last_stream_id += 1
        self._exchange = Exchange(self._last_stream_id, method, version, False)
        self._enter(_EXCHANGE)
        self._events.append(
            RequestRejected(
                self._last_stream_id, version, method, target, error.status, error.reason
            )
        )

    def _sending(self, stream_id: int) -> Exchange | None:
        """Return the exchange if this is its id and its response may go on."""
        exchange = self._exchange
        if exchange is None or exchange.stream_id != stream_id or exchange.ended:
            return None
        return exchange

    def _end_response(self, exchange: Exchange, trailers: Headers) -> None:
        if exchange.remaining:
            # RFC 9112 section 8: only a closed connection shows that octets are missing.
            self.terminate(ErrorCode.INTERNAL_ERROR, "response shorter than its content-length")
            return
        if exchange.chunked:
            self._queue.push(last_chunk(trailers))
        exchange.ended = True
        exchange.unread = 0
        if self._closing:
            self._last_words = "last response sent"
        elif not exchange.request_ended and exchange.outstanding > DISCARD_LIMIT:
            self._last_words = "too much of the request body outstanding"
        elif (
            self._parser.data
            or self._eof
            or not exchange.request_ended
            or self._queue.size > SEND_LOW_WATER
        ):
            self._advance()
        else:
            # As ``_advance`` would, in the most frequent case of all.
            self._exchange = None
            self._enter(_IDLE)
