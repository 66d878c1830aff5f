"""The driver: one connection between a transport, an engine and the application.

The only code that touches a transport. The callbacks of asyncio are short:
feed the engine, take its events to the cycles they belong to, schedule one
flush. None of them waits, so a slow stream never holds up another.

There is one flush per turn of the loop, however many streams have something to
send, and with it one ``transport.write``. A writer yields to the loop once
after queueing, which is when that flush runs: when ``send()`` returns, its
octets are in the transport or held by a window. There is one timer, over the
earliest of the engine's deadlines and the driver's own.

Closing takes care of what is on its way out. A socket that is closed with
unread input makes the kernel send RST, which destroys the answer the peer has
not read yet. So when the peer may still be sending, input is read and dropped
for a while before the end (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, cast

from .asgi.http import DefaultFields, HTTPCycle
from .asgi.scope import Application, build_http_scope
from .config import Config
from .errors import ClientDisconnected, ErrorCode
from .protocol.engine import SEND_HIGH_WATER, Engine
from .protocol.engines import http1_engine, http2_engine
from .protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    PingAcknowledged,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    SendQueueDrained,
    StreamReset,
)
from .protocol.http2.frames import PREFACE
from .trace import RequestRecord, Trace

logger = logging.getLogger("h2asgi")

READ_BUFFER_SIZE = 256 * 1024
"""One buffer for all connections of a loop: what is read is handed on before the next read."""

WRITE_SIZE = 128 * 1024
"""Octets asked of an engine per turn, and the transport's high-water mark. What is in the
transport can no longer be reprioritised, and larger joins cost more in copying than they save."""

LINGER_TIME = 1.0
LINGER_OCTETS = 1024 * 1024
"""How long and how much input is dropped after the last answer, so that the answer arrives."""

CLOSE_TIME = 30.0
"""Seconds for a slow peer to take what the transport still holds once we are done. Without a bound
one that never reads would keep its connection for ever."""

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


@dataclass(slots=True, eq=False)
class ServerState:
    """What the connections of one server share.

    ``on_idle`` is called whenever a connection or an application task is gone.
    """

    app: Application
    config: Config
    loop: asyncio.AbstractEventLoop
    default_headers: DefaultFields
    trace: Trace | None = None
    lifespan_state: dict[str, Any] | None = None
    on_idle: Callable[[], None] | None = None
    connections: set[Connection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    read_buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BUFFER_SIZE)))

    def task_done(self, task: asyncio.Task[None]) -> None:
        """Forget an application task; what it raised was logged by its cycle."""
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()
        if self.on_idle is not None:
            self.on_idle()


class Connection(asyncio.BufferedProtocol):
    """One connection, from the end of its handshake to the loss of its transport."""

    def __init__(self, state: ServerState, *, tls: bool, server: tuple[str, int | None]) -> None:
        self._state = state
        self._loop = state.loop
        # The transport's side.
        self._tls = tls
        self._server = server
        self._client: tuple[str, int] | None = None
        self._transport: asyncio.Transport | None = None
        self._writing_paused = False
        self._reading_paused = False
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None  # the driver's own: first bytes, then lingering
        # The protocol's side.
        self._engine: Engine | None = None
        self._first_bytes = bytearray()  # until they tell the protocol, in the clear
        # The application's side.
        self._cycles: dict[int, HTTPCycle] = {}
        self._writers: dict[int, list[asyncio.Future[None]]] = {}
        self._records: dict[int, tuple[RequestRecord, float]] = {}
        # The end.
        self._terminated: ConnectionTerminated | None = None
        self._closing = False
        self._octets_dropped = 0
        self._was_idle = False

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Choose the protocol by ALPN; in the clear, by the first bytes."""
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)
        self._transport.set_write_buffer_limits(high=WRITE_SIZE)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._client = (peer[0], peer[1])
        config = self._state.config
        if self._tls:
            ssl_object = transport.get_extra_info("ssl_object")
            if ssl_object.selected_alpn_protocol() == "h2":
                self._start_http2()
            elif config.http1.enabled:
                # Python's ssl cannot tell "no ALPN" from "no overlap".
                self._start_http1()
            else:
                logger.debug("%s: no protocol was negotiated", self)
                self._transport.close()
                return
        elif not config.http2.enabled:
            self._start_http1()
        elif not config.http1.enabled:
            self._start_http2()
        else:
            self._deadline = self._loop.time() + config.timeouts.first_bytes
        self._schedule_flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer that all connections share."""
        return self._state.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Feed the engine; its events start tasks and wake them, one flush answers."""
        data = self._state.read_buffer[:nbytes]
        if self._closing:
            self._drop(nbytes)
            return
        if self._engine is None:
            self._first_bytes += data
            if not self._recognise(self._first_bytes):
                return
            data = memoryview(self._first_bytes)
            self._first_bytes = bytearray()
        assert self._engine is not None
        self._engine.receive_data(data, self._loop.time())
        self._take_events()
        self._schedule_flush()

    def eof_received(self) -> bool:
        """Let answers go out to a client that has only shut down its sending side."""
        if self._engine is None or self._closing:
            return False
        self._engine.receive_eof(self._loop.time())
        self._take_events()
        self._schedule_flush()
        # TLS transports cannot be half-closed; they warn when asked to.
        return not self._tls and self._terminated is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits on this connection."""
        if exc is not None:
            logger.debug("%s: lost: %s", self, exc)
        self._transport = None
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._disconnect_all()
        self._state.connections.discard(self)
        if self._state.on_idle is not None:
            self._state.on_idle()

    def pause_writing(self) -> None:
        """Stop asking the engine; reading goes on, or two writers would wait for each other."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Go on where the transport stopped."""
        self._writing_paused = False
        self._schedule_flush()

    # Calls of the server.

    def begin_shutdown(self) -> None:
        """Finish what is open and take nothing new."""
        self._was_idle = not self._cycles
        if self._engine is None:
            if self._transport is not None and not self._closing:
                self._close_transport()
            return
        self._engine.begin_shutdown(self._loop.time())
        self._take_events()
        self._schedule_flush()

    def abort_streams(self) -> None:
        """Reset whatever is still in flight, then close."""
        if self._engine is None or self._closing:
            self.abort()
            return
        for stream_id in list(self._cycles):
            self._engine.reset_stream(stream_id, ErrorCode.CANCEL)
        self._engine.terminate(ErrorCode.NO_ERROR, "the server is stopping")
        self._take_events()
        self._schedule_flush()

    def abort(self) -> None:
        """Drop the connection as it is."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do but for the peer to close.

        One that had answers under way is finished only when its transport is,
        since they may still lie in there.
        """
        return self._transport is None or (self._closing and self._was_idle)

    # The protocol.

    def _recognise(self, first: bytearray) -> bool:
        """Tell HTTP/2 with prior knowledge by its preface (RFC 9113 section 3.3)."""
        if first.startswith(PREFACE):
            self._start_http2()
        elif not PREFACE.startswith(first):
            self._start_http1()
        else:
            return False
        self._deadline = None
        return True

    def _start_http1(self) -> None:
        config = self._state.config
        engine = http1_engine(config.http1)
        self._engine = engine(config.http1, config.timeouts, self._loop.time())

    def _start_http2(self) -> None:
        config = self._state.config
        engine = http2_engine(config.http2)
        self._engine = engine(config.http2, config.timeouts, self._loop.time())

    def _take_events(self) -> None:
        assert self._engine is not None
        for event in self._engine.take_events():
            _ON_EVENT[type(event)](self, event)

    def _on_request_received(self, event: RequestReceived) -> None:
        state = self._state
        scope = build_http_scope(
            http_version=event.http_version,
            method=event.method,
            target=event.target,
            headers=event.headers,
            scheme="https" if self._tls else "http",
            client=self._client,
            server=self._server,
            root_path=state.config.root_path,
            state=state.lifespan_state,
            extensions=None,
        )
        cycle = HTTPCycle(
            self,
            event.stream_id,
            scope,
            state.default_headers,
            method=event.method,
            http_version=event.http_version,
            end_stream=event.end_stream,
            expect_continue=event.expect_continue,
        )
        self._cycles[event.stream_id] = cycle
        self._begin_record(event.stream_id, event.method, event.target, event.http_version)
        task = state.loop.create_task(cycle.run(state.app))
        state.tasks.add(task)
        task.add_done_callback(state.task_done)

    def _on_request_rejected(self, event: RequestRejected) -> None:
        logger.debug("%s: %d %s", self, event.status, event.reason)
        assert self._engine is not None
        body = f"{event.reason}\n".encode("latin-1", "replace")
        length = (b"content-length", b"%d" % len(body))
        fields = [_TEXT, length, *self._state.default_headers.fields]
        no_content = event.method == "HEAD"
        self._engine.send_headers(event.stream_id, event.status, fields, no_content)
        if not no_content:
            self._engine.send_data(event.stream_id, body, True)
        self._begin_record(event.stream_id, event.method, event.target, event.http_version)
        self._end_record(event.stream_id, event.status, 0 if no_content else len(body))

    def _on_data_received(self, event: DataReceived) -> None:
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None and not cycle.body.closed:
            cycle.body.feed(event.data)
        else:
            assert self._engine is not None
            self._engine.acknowledge_received_data(event.stream_id, len(event.data))

    def _on_request_ended(self, event: RequestEnded) -> None:
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None:
            cycle.end_request(event.trailers)

    def _on_stream_reset(self, event: StreamReset) -> None:
        logger.debug("%s: stream %d: %s", self, event.stream_id, event.reason)
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None:
            cycle.disconnect()
        self._fail_writers(event.stream_id)

    def _on_send_queue_drained(self, event: SendQueueDrained) -> None:
        for writer in self._writers.pop(event.stream_id, ()):
            if not writer.done():
                writer.set_result(None)

    def _on_ping_acknowledged(self, event: PingAcknowledged) -> None:
        logger.debug("%s: PING was acknowledged", self)

    def _on_connection_terminated(self, event: ConnectionTerminated) -> None:
        logger.debug("%s: ends: %s", self, event.reason)
        self._terminated = event
        self._disconnect_all()

    def _disconnect_all(self) -> None:
        for cycle in list(self._cycles.values()):
            cycle.disconnect()
        for stream_id in list(self._writers):
            self._fail_writers(stream_id)

    # The sink of the cycles.

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``asgi.http.Sink``."""
        assert self._engine is not None
        self._engine.send_informational(stream_id, status, headers)
        self._schedule_flush()

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``asgi.http.Sink``."""
        assert self._engine is not None
        self._engine.send_headers(stream_id, status, headers, end_stream)
        self._schedule_flush()

    async def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        """See ``asgi.http.Sink``. The flush runs while the caller yields, or waits for room."""
        assert self._engine is not None
        queued = self._engine.send_data(stream_id, data, end_stream)
        self._schedule_flush()
        if queued <= SEND_HIGH_WATER:
            await _turn_of_the_loop()
            return
        writer = self._loop.create_future()
        self._writers.setdefault(stream_id, []).append(writer)
        await writer

    async def flush(self) -> None:
        """See ``asgi.http.Sink``."""
        self._schedule_flush()
        await _turn_of_the_loop()

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``asgi.http.Sink``. What the application took, the peer may send again."""
        assert self._engine is not None
        self._engine.acknowledge_received_data(stream_id, size)
        self._schedule_flush()

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``asgi.http.Sink``."""
        assert self._engine is not None
        self._engine.reset_stream(stream_id, error_code)
        self._fail_writers(stream_id)
        self._schedule_flush()

    def request_finished(self, cycle: HTTPCycle) -> None:
        """See ``asgi.http.Sink``."""
        self._cycles.pop(cycle.stream_id, None)
        self._end_record(cycle.stream_id, cycle.status, cycle.body_size)

    def _fail_writers(self, stream_id: int) -> None:
        for writer in self._writers.pop(stream_id, ()):
            if not writer.done():
                writer.set_exception(ClientDisconnected("the client is gone"))

    def _begin_record(self, stream_id: int, method: str, target: bytes, version: str) -> None:
        if self._state.trace is not None:
            record = RequestRecord(self._client, method, target, version, 0, 0, 0.0)
            self._records[stream_id] = (record, self._loop.time())

    def _end_record(self, stream_id: int, status: int, body_size: int) -> None:
        trace = self._state.trace
        if trace is not None and stream_id in self._records:
            record, began = self._records.pop(stream_id)
            record.status = status
            record.body_size = body_size
            record.duration = self._loop.time() - began
            trace.request_finished(record)

    # The way out.

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        transport = self._transport
        if transport is None or self._closing:
            return
        if self._engine is not None:
            if not self._writing_paused:
                data = self._engine.data_to_send(WRITE_SIZE, self._loop.time())
                if data:
                    transport.write(data)
                    if len(data) >= WRITE_SIZE and not self._writing_paused:
                        self._schedule_flush()  # there may be more
            self._take_events()
            if self._terminated is not None:
                self._close(self._terminated)
                return
            self._update_reading()
        self._update_timer()

    def _update_reading(self) -> None:
        """Hold a peer back by TCP where the protocol has nothing better: HTTP/1.1."""
        assert self._engine is not None
        assert self._transport is not None
        suspended = self._engine.reading_suspended
        if suspended is not self._reading_paused:
            self._reading_paused = suspended
            if suspended:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _update_timer(self) -> None:
        """See that the timer runs at the earliest deadline.

        It is only ever moved forward: one that fires too early looks again,
        which costs less than a new timer for every request.
        """
        deadline = self._deadline
        if self._engine is not None and not self._closing:
            due = self._engine.next_deadline()
            if due is not None and (deadline is None or due < deadline):
                deadline = due
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._transport is None:
            return
        if self._deadline is not None and now >= self._deadline:
            if self._closing:
                # The peer had its time to read the last answer.
                self._transport.abort()
            else:
                logger.debug("%s: no first bytes", self)
                self._close_transport()
        elif self._engine is not None and not self._closing:
            self._engine.handle_deadline(now)
            self._take_events()
            self._schedule_flush()
        else:
            self._update_timer()

    # The end.

    def _close(self, end: ConnectionTerminated) -> None:
        """Write what is left, then close in the way that lets it arrive."""
        assert self._transport is not None
        assert self._engine is not None
        while data := self._engine.data_to_send(WRITE_SIZE, self._loop.time()):
            self._transport.write(data)
        if end.unread_input:
            self._linger()
        elif end.error_code != ErrorCode.NO_ERROR:
            # HTTP/1.1 has no reset: what was cut off must look cut off.
            self._closing = True
            self._transport.abort()
        else:
            self._close_transport()

    def _close_transport(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.close()
        self._deadline = self._loop.time() + CLOSE_TIME
        self._update_timer()
        if self._state.on_idle is not None:
            self._state.on_idle()

    def _linger(self) -> None:
        assert self._transport is not None
        self._closing = True
        if self._reading_paused:
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._deadline = self._loop.time() + LINGER_TIME
        self._update_timer()

    def _drop(self, size: int) -> None:
        self._octets_dropped += size
        if self._octets_dropped > LINGER_OCTETS and self._transport is not None:
            self._transport.abort()

    def __str__(self) -> str:
        return "{}:{}".format(*self._client) if self._client else "unix"


@coroutine
def _turn_of_the_loop() -> Generator[None]:
    """Let everything that is scheduled already run first, a flush among it."""
    yield


_ON_EVENT: dict[type[Event], Callable[[Connection, Any], None]] = {
    RequestReceived: Connection._on_request_received,
    RequestRejected: Connection._on_request_rejected,
    DataReceived: Connection._on_data_received,
    RequestEnded: Connection._on_request_ended,
    StreamReset: Connection._on_stream_reset,
    SendQueueDrained: Connection._on_send_queue_drained,
    PingAcknowledged: Connection._on_ping_acknowledged,
    ConnectionTerminated: Connection._on_connection_terminated,
}
