"""The requests in flight on one connection, between the engine's events and the cycles.

Every event of the engine that concerns a stream ends here, and every call of a
cycle goes on from here to the engine. The connection lends its engine, and
flushes while a writer yields.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from .asgi.http import HTTPCycle
from .asgi.response import DefaultFields, Response
from .asgi.scope import (
    connection_scope,
    http_scope,
    offer_http_extensions,
    websocket_scope,
)
from .asgi.sink import Sink
from .errors import ErrorCode
from .observers import Observers
from .outlet import Outlet
from .output import Output
from .overdue import Overdue
from .own_answers import RETRY_AFTER, OwnAnswers
from .passage import Passage
from .protocol.engine import SEND_HIGH_WATER, Engine
from .protocol.events import (
    DataReceived,
    Event,
    Headers,
    PingAcknowledged,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RequestTimedOut,
    SendQueueDrained,
    StreamReset,
)
from .protocol.websocket.handshake import HandshakeRejected, check_handshake
from .request import Request
from .request_ids import FieldsWithID, RequestIDs
from .slow_requests import SlowRequests
from .state import ApplicationState, Endpoints
from .tally import CONCURRENCY_LIMIT, STREAMS_LIMIT
from .tasks import EAGER, begin_later, retrieve, turn_of_the_loop
from .timer import Timer
from .turns import Driver
from .websocket_exchange import WebSocketExchange
from .writers import Writers

logger = logging.getLogger("h2asgi")

LARGE: Final = 16 * 1024
"""Octets that are worth a write of their own, which others in this turn do not share."""

# Compiled, a name of an interpreted module is looked up each time, and these are not.
_Task: Final[Any] = asyncio.Task
_EAGER: Final = EAGER
_turn_of_the_loop: Final = turn_of_the_loop


class Exchanges(Sink):
    """The open requests of one connection; the sink of their cycles (``asgi.sink.Sink``).

    A WebSocket is apart from them, in ``_websockets``, from its handshake on.
    """

    __slots__ = (
        "_answers",
        "_client_closed",
        "_cycles",
        "_driver",
        "_endpoints",
        "_engine",
        "_forwarding",
        "_health",
        "_limit",
        "_loop",
        "_observers",
        "_outliving",
        "_output",
        "_overdue",
        "_request_ids",
        "_scope",
        "_slow",
        "_state",
        "_websockets",
        "_writers",
        "last_request",
        "now",
        "open_passage",
        "outlet_of_files",
        "pushes",
        "stopping",
        "waiting",
    )

    def __init__(
        self,
        state: ApplicationState,
        endpoints: Endpoints,
        engine: Engine,
        output: Output,
        driver: Driver,
        timer: Timer,
    ) -> None:
        self._state = state
        self._loop = state.loop
        self._endpoints = endpoints
        self._scope = connection_scope(
            endpoints.scheme, endpoints.client, endpoints.server, state.config.root_path
        )
        self._engine = engine
        self._output = output
        self._health = state.health
        forwarding = state.forwarding
        believed = forwarding is not None and forwarding.believes(endpoints.client)
        self._forwarding = forwarding if believed else None
        self._request_ids = state.request_ids
        self._limit = state.config.limits.concurrency
        self._driver = driver
        self.pushes = False  # as a connection does that has one response at a time
        # Of a connection that one tunnel may have to itself.
        self.open_passage: Callable[[Callable[[memoryview], int]], Passage | None] | None = None
        self.outlet_of_files: Outlet | None = None  # of a connection in the clear, over HTTP/1.1
        self._client_closed = False
        self.stopping = False
        self.now = self.last_request = self._loop.time()
        """Of the events that are taken, and when the last request came."""
        self._cycles: dict[int, HTTPCycle] = {}
        self.waiting: list[HTTPCycle] = []  # for ``begin_waiting``
        self._websockets: dict[int, WebSocketExchange] = {}
        self._writers = Writers(state.loop)
        self._overdue: Overdue | None = None
        if timeout := state.config.timeouts.response:
            self._overdue = Overdue(self._cycles, timeout, timer, state.loop, self._give_up)
        self._slow: SlowRequests | None = None
        if seconds := state.config.log.slow_request:
            self._slow = SlowRequests(self._cycles, seconds, timer, state.loop)
        self._observers: Observers | None = None
        if not (state.tally is None and state.trace is None and self._slow is None):
            self._observers = Observers(state, endpoints, self._forwarding, self._slow)
        self._answers = OwnAnswers(state, endpoints, engine, self._observers, driver)
        # Applications whose streams were reset, once there is one.
        self._outliving: set[asyncio.Task[None]] | None = None

    def __bool__(self) -> bool:
        return bool(self._cycles or self._websockets)

    def use(self, engine: Engine) -> None:
        """Call this engine from now on, which is another view of the same one."""
        self._engine = self._answers.engine = engine

    # What the engine tells.

    def take(self, event: Event) -> None:
        """Act on an event; the end of the connection is the connection's own affair."""
        # The two that come most often; compiled, these are calls without a look-up.
        if isinstance(event, RequestReceived):
            self._on_request_received(event)
        elif isinstance(event, DataReceived):
            self._on_data_received(event)
        else:
            _ON_EVENT[type(event)](self, event)

    def _on_request_received(self, event: RequestReceived) -> None:
        state = self._state
        if self._health is not None and self._health.is_asked_by(event):
            self._answers.report(event, self._health)
            return
        defaults = state.default_headers
        if self._request_ids is not None:
            defaults = self._settle_id(self._request_ids, event)
        if self._outliving and self._too_many_run(self._outliving):
            self._engine.reset_stream(event.stream_id, ErrorCode.REFUSED_STREAM)
            if state.tally is not None:
                state.tally.add(STREAMS_LIMIT)
            return
        if self._limit is not None and state.in_work >= self._limit:
            if state.tally is not None:
                state.tally.add(CONCURRENCY_LIMIT)
            self._answers.reject(event, 503, "too many requests at the moment", [RETRY_AFTER])
            return
        covers = self._endpoints.covers
        if covers is not None and not _is_covered(event, covers):
            self._answers.reject(event, 421, "Misdirected Request", [])
            return
        if event.protocol is not None:
            self._open_websocket(event, defaults)
            return
        scope = http_scope(self._scope, event, state.lifespan_state, None)
        offer_http_extensions(scope, event, self._endpoints.extensions)
        if self._forwarding is not None:
            self._forwarding.apply(scope, event.headers)
        cycle = HTTPCycle(self, event, scope, defaults)
        self._cycles[event.stream_id] = cycle
        if self._client_closed:
            cycle.client_closed()
        cycle.began = self.last_request = self.now
        if self._overdue is not None:
            self._overdue.expect()
        if self._slow is not None:
            self._slow.expect(cycle.began)
        if not _EAGER or (event.end_stream and not self.pushes):
            self._begin(cycle, cycle.run(state.app))
        else:
            state.beginning += 1
            self.waiting.append(cycle)

    def _settle_id(self, ids: RequestIDs, event: RequestReceived) -> DefaultFields:
        """See that the request has one id; gives the default fields of its response."""
        event.headers = ids.settle(event.headers, believed=self._forwarding is not None)
        return FieldsWithID(self._state.default_headers, ids.find(event.headers))

    def begin_waiting(self) -> None:
        """Begin the applications of the requests that came, before the flush.

        Mostly a body comes together with its head: they find it, and need not wait for it. Over
        HTTP/1.1 those of requests without a body begin here as well: they answer at once, and
        what other clients have sent is read before. Answers that follow one another closely find
        a client awake, and to wake it is more work than a request.
        """
        while self.waiting:
            cycle = self.waiting.pop(0)
            self._state.beginning -= 1
            if not cycle.finished:  # and was not reset at once
                self._begin(cycle, cycle.run(self._state.app))

    def _open_websocket(self, event: RequestReceived, defaults: DefaultFields) -> None:
        state = self._state
        config = state.config.websocket
        try:
            handshake = check_handshake(event, config)
        except HandshakeRejected as error:
            self._answers.reject(event, error.status, error.reason, error.headers)
            return
        extensions = self._endpoints.extensions
        scope = websocket_scope(
            self._scope, event, handshake.subprotocols, state.lifespan_state, extensions
        )
        if self._forwarding is not None:
            self._forwarding.apply(scope, event.headers)
        response = HTTPCycle(self, event, scope, defaults)
        websocket = WebSocketExchange(
            self, self._engine, self._loop, handshake, response, defaults, config
        )
        self._websockets[event.stream_id] = websocket
        response.began = self.last_request = self.now
        self._begin(response, websocket.cycle.run(state.app))
        websocket.task = response.task
        if self._client_closed:
            websocket.receive_end()

    def _begin(self, cycle: HTTPCycle, run: Coroutine[Any, Any, None]) -> None:
        state = self._state
        context = state.context.copy()
        task: asyncio.Task[None]
        if _EAGER:
            task = _Task(run, loop=state.loop, eager_start=True, context=context)
        else:
            task = begin_later(state.loop, context, state.tasks, run)
        if not task.done():
            cycle.task = task
            state.tasks.add(task)
        elif cycle.failed:
            retrieve(task)

    def _on_request_rejected(self, event: RequestRejected) -> None:
        self._answers.reject(event, event.status, event.reason, [])

    def _on_request_timed_out(self, event: RequestTimedOut) -> None:
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None:
            self._answer_instead(cycle, 408, event.reason)

    def _answer_instead(self, cycle: HTTPCycle, status: int, reason: str) -> None:
        """Answer in the place of the application, to which the client is gone."""
        cycle.answered_instead(status, self._answers.answer(cycle.request, status, reason))

    def _give_up(self, cycle: HTTPCycle) -> None:
        """The one place where an application is cancelled; one that goes on counts as running."""
        # RFC 9110 section 15.6: 504 is for gateways, and this is the origin.
        self._answer_instead(cycle, 503, "no response from the application")
        if cycle.task is not None:
            cycle.task.cancel()

    def _on_data_received(self, event: DataReceived) -> None:
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None and not (body := cycle.body).closed:
            body.feed(event.data)
        elif (websocket := self._websockets.get(event.stream_id)) is not None:
            websocket.receive_data(event.data)
        else:
            self._engine.acknowledge_received_data(event.stream_id, len(event.data))

    def _on_request_ended(self, event: RequestEnded) -> None:
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None:
            cycle.end_request(event.trailers)
        elif (websocket := self._websockets.get(event.stream_id)) is not None:
            websocket.receive_end()

    def _on_stream_reset(self, event: StreamReset) -> None:
        logger.debug("%s: stream %d: %s", self._endpoints, event.stream_id, event.reason)
        cycle = self._cycles.get(event.stream_id)
        if cycle is not None:
            cycle.disconnect()
            self._note_outliving(cycle.task)
        elif (websocket := self._websockets.get(event.stream_id)) is not None:
            websocket.lose()
            self._note_outliving(websocket.task)
        self._writers.fail(event.stream_id)

    def _note_outliving(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.done():
            if self._outliving is None:
                self._outliving = set()
            self._outliving.add(task)
            task.add_done_callback(self._outliving.discard)

    def _too_many_run(self, outliving: set[asyncio.Task[None]]) -> bool:
        """Whether as many applications run as a client may have streams, reset or not.

        Otherwise resets would let it start any number of them (CVE-2023-44487).
        """
        running = len(outliving) + len(self._cycles) + len(self._websockets)
        return running >= self._state.config.http2.max_concurrent_streams

    def _on_send_queue_drained(self, event: SendQueueDrained) -> None:
        self._writers.wake(event.stream_id)
        if (websocket := self._websockets.get(event.stream_id)) is not None:
            websocket.send_queue_drained()

    def _on_ping_acknowledged(self, event: PingAcknowledged) -> None:
        logger.debug("%s: PING was acknowledged", self._endpoints)

    def client_closed(self) -> None:
        """Tell the applications that the client has closed its side (HTTP/1.1 in the clear)."""
        self._client_closed = True
        for cycle in self._cycles.values():
            cycle.client_closed()
        for websocket in list(self._websockets.values()):
            websocket.receive_end()

    def connection_ended(self, error_code: int) -> None:
        """Take note of the end of the connection.

        One without error follows the last response, and everything queued is
        written: whoever still waits for that has not lost its client.
        """
        if error_code == ErrorCode.NO_ERROR:
            self._writers.wake_all()
        self.disconnect_all()

    def disconnect_all(self) -> None:
        """Tell everybody who waits that the client is gone."""
        for cycle in list(self._cycles.values()):
            cycle.disconnect()
        for websocket in list(self._websockets.values()):
            websocket.lose()
        self._writers.fail_all()
        self._overdue = None  # nobody owes anything, and it refers to this

    def begin_shutdown(self) -> None:
        """Close the WebSockets, which would go on for ever; requests may finish."""
        self.stopping = True
        for websocket in list(self._websockets.values()):
            websocket.begin_shutdown()

    def reset_all(self) -> None:
        """Reset every stream that is in flight; the connection ends next."""
        for stream_id in (*self._cycles, *self._websockets):
            self._engine.reset_stream(stream_id, ErrorCode.CANCEL)
            self._writers.fail(stream_id)

    # What the cycles call.

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``asgi.sink.Sink``."""
        self._engine.send_informational(stream_id, status, headers)
        self._driver.schedule_flush()

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``asgi.sink.Sink``. No flush: what follows at once has one."""
        if self._request_ids is not None:
            headers = self._request_ids.once(headers)
        self._engine.send_headers(stream_id, status, headers, end_stream)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> Awaitable[None] | None:
        """See ``asgi.sink.Sink``. The flush runs while the caller yields, or waits for room."""
        queued = self._engine.send_data(stream_id, data, end_stream)
        if self.pushes and (end_stream or queued >= LARGE) and self._driver.push(queued):
            return None
        self._driver.schedule_flush()
        if queued <= SEND_HIGH_WATER:
            return _turn_of_the_loop()
        return self._writers.wait(stream_id)

    def outlet(self, stream_id: int) -> Awaitable[int] | None:
        """See ``asgi.sink.Sink``."""
        outlet = self.outlet_of_files
        return None if outlet is None else outlet.open(stream_id)

    def note_passed(self, stream_id: int, size: int) -> None:
        """See ``asgi.sink.Sink``."""
        assert self.outlet_of_files is not None
        self.outlet_of_files.note_passed(stream_id, size)

    def send_trailers(self, stream_id: int, trailers: Headers) -> Awaitable[None] | None:
        """See ``asgi.sink.Sink``."""
        self._engine.send_trailers(stream_id, trailers)
        return self.flush()

    def flush(self) -> Awaitable[None] | None:
        """See ``asgi.sink.Sink``."""
        if self.pushes and self._driver.push(0):
            return None
        self._driver.schedule_flush()
        return _turn_of_the_loop()

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``asgi.sink.Sink``. What the application took, the peer may send again."""
        self._engine.acknowledge_received_data(stream_id, size)
        self._driver.schedule_flush()

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``asgi.sink.Sink``."""
        self._engine.reset_stream(stream_id, error_code)
        self._writers.fail(stream_id)
        self._driver.schedule_flush()

    def request_finished(self, response: object) -> None:
        """See ``asgi.sink.Sink``."""
        assert isinstance(response, Response)
        try:
            del self._cycles[response.stream_id]
        except KeyError:
            self._handshake_answered(response.stream_id)
        if self._observers is not None:
            self._observers.finished(response)

    def application_ended(self, cycle: object, failed: bool) -> None:
        """See ``asgi.sink.Sink``. A callback of the task would cost a turn of the loop."""
        assert isinstance(cycle, HTTPCycle)
        state = self._state
        tasks = state.tasks
        if cycle.task is None:  # it has never waited, and is at its end before it is known
            cycle.failed = failed
            return
        tasks.discard(cycle.task)
        if failed:
            cycle.task.add_done_callback(retrieve)
        if not tasks and state.on_idle is not None:
            state.on_idle()

    def log_ids(self, request: Request) -> dict[str, object]:
        """See ``asgi.sink.Sink``."""
        ids: dict[str, object] = {
            "connection": self._endpoints.connection,
            "stream": request.stream_id,
        }
        if self._request_ids is not None:
            ids["request_id"] = self._request_ids.find(request.headers)[1].decode("ascii")
        return ids

    def _handshake_answered(self, stream_id: int) -> None:
        """Forget a WebSocket that was denied."""
        websocket = self._websockets.get(stream_id)
        if websocket is not None and not websocket.accepted:
            del self._websockets[stream_id]

    @property
    def unsent(self) -> int:
        """See ``websocket_exchange.Streams``."""
        return self._engine.unsent + self._output.waiting

    @property
    def taken(self) -> int:
        """See ``websocket_exchange.Streams``."""
        return self._output.taken

    def tunnel_over(self, stream_id: int) -> None:
        """See ``websocket_exchange.Streams``."""
        self._websockets.pop(stream_id, None)


def _is_covered(request: RequestReceived, covers: Callable[[bytes], bool]) -> bool:
    """Whether the connection is for the request's authority (RFC 9110 sections 7.4 and 15.5.20).

    A request of HTTP/1.0 may have none.
    """
    name, value = request.headers[0] if request.headers else (b"", b"")
    return name != b"host" or covers(value)


_ON_EVENT: Final[dict[type[Event], Callable[[Exchanges, Any], None]]] = {
    RequestRejected: Exchanges._on_request_rejected,
    RequestEnded: Exchanges._on_request_ended,
    RequestTimedOut: Exchanges._on_request_timed_out,
    StreamReset: Exchanges._on_stream_reset,
    SendQueueDrained: Exchanges._on_send_queue_drained,
    PingAcknowledged: Exchanges._on_ping_acknowledged,
}
