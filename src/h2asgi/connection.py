"""The driver: one connection between a transport, an engine and the application.

The only code that touches a transport. The callbacks of asyncio are short:
feed the engine, take its events to the cycles they belong to, schedule one
flush. None of them waits, so a slow stream never holds up another.

There is one flush per turn of the loop, however many streams have something to
send, and mostly one ``transport.write``. A writer yields to the loop once
after queueing, which is when that flush runs: when ``send()`` returns, its
octets are in the transport or held by a window. Large pieces of HTTP/1.1 bodies,
and the ends of its responses, are written within ``send()``. There is one timer, over
the earliest of the engine's deadlines and the driver's own. How it ends is in
``closing.py``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any, Final

from .closing import Closing
from .errors import ErrorCode
from .exchanges import Exchanges
from .limits import UNREAD_BODIES, UNSENT, Budget, WatchedBudget
from .outlet import SENDFILE, Outlet
from .output import HTTP1_WRITE_SIZE, Output
from .passage import Passage
from .protocol.engine import Engine
from .protocol.engines import http1_engine, http2_engine
from .protocol.events import ConnectionTerminated, Event
from .protocol.http2.frames import PREFACE
from .protocol.proxy import ProxyHeader
from .proxied import behind_proxy
from .reading import Reading
from .state import ApplicationState, Endpoints
from .tally import RECEIVED_OCTETS
from .tcp import cut_off, has_input, is_delivered
from .timer import Timer
from .tls_extension import tls_extension
from .turns import TURN, Driver

logger = logging.getLogger("h2asgi")

READ_BUFFER_SIZE: Final = (256 + 4) * 1024
"""One buffer for all connections of a loop: what is read is handed on before the next read. Peers
send powers of two and headers of frames, for the last octets of which there is room as well."""

AGE_SPREAD: Final = 0.1
"""How much of their age connections differ by: those that began together, after a restart perhaps,
do not all come back in one moment."""

_numbers: Final = count(1)
"""Of connections, for logs; every one of a process has its own."""

_random: Final = random.SystemRandom()
"""Nothing that applications seed, nor that workers would have in common."""

GIVE_WAY_TIME: Final = 1.0
"""Seconds for the peer of an idle connection to close its side too, and for a last request that is
on its way; then somebody else has the place."""

NEXT_REQUEST_TIME = 1.0
"""Seconds from a connection's begin or last response in which another request is to be expected."""

SMALLEST_SHARE: Final = 32 * 1024
"""Octets that a piece of a body counts at the least in the turn of its writer, for the work that an
application has with it: 32 pieces, then others have theirs."""

INPUT_TIME: Final = 0.01
"""Seconds for the event loop to read what has come already, when a connection would be closed."""


Observing = Callable[[Engine, Endpoints, asyncio.Transport, float], Engine]
"""Gives the engine that takes the place of another one, given the connection's time of begin."""

Octets = memoryview  # mypyc does not find the name by itself where a dataclass is


@dataclass(slots=True, eq=False)
class ServerState(ApplicationState):
    """What the connections of one server share."""

    connections: set[Connection] = field(default_factory=set)
    unread_bodies: Budget = field(default_factory=lambda: Budget(UNREAD_BODIES))
    unsent: WatchedBudget = field(default_factory=lambda: WatchedBudget(UNSENT))
    read_buffer: Octets = field(default_factory=lambda: memoryview(bytearray(READ_BUFFER_SIZE)))
    observing: Observing | None = None  # while somebody looks: what engines of new ones become


class Connection(Driver):
    """One connection, from the end of its handshake to the loss of its transport.

    An ``asyncio.BufferedProtocol`` but for the name. ``lost`` is called at that loss;
    ``proxied`` is what a load balancer has said of it.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        tls: bool,
        server: tuple[str, int | None],
        lost: Callable[[], None],
        proxied: ProxyHeader | None = None,
    ) -> None:
        self._state = state
        self._loop = state.loop
        self._flushes = state.flushes
        self._time = state.time
        self._tally = state.tally
        # The transport's side.
        self._tls = tls
        self._server = server
        self._proxied = proxied
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._made = self._loop.time()
        self._output: Output  # there as soon as the transport is, and so is this:
        self._reading: Reading
        self.flush_scheduled = False
        self._turn_left = TURN  # octets that a writer may still push
        self._timer = Timer(state.loop, self._on_timer)
        # The protocol's side.
        self._engine: Engine | None = None
        self._first_bytes = bytearray()  # until they tell the protocol, in the clear
        # The application's side, there as soon as the engine is.
        self._exchanges: Exchanges | None = None
        # The end.
        self._terminated: ConnectionTerminated | None = None
        self._closing: Closing | None = None
        # Who is shown input before the engine is: a tunnel or the closing.
        self._bypass: Callable[[memoryview], int] | None = None
        self._was_idle = False  # when the shutdown began
        self._was_delivered = False

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Choose the protocol by ALPN; in the clear, by the first bytes."""
        state = self._state
        self._transport = transport
        self._made = self._loop.time()
        state.connections.add(self)
        timeouts = state.config.timeouts
        self._output = Output(
            transport, self._timer, self._loop, timeouts, state.unsent, self.cut_off, self._tally
        )
        self._reading = Reading(transport, self._timer, self._loop)
        tls = transport.get_extra_info("tls") if self._tls else None
        self._endpoints = self._between(transport, tls)
        if age := timeouts.max_connection_age:
            spread = _random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)
            self._timer.set(self._reach_age, self._made + age * spread)
        if tls is None:
            self._choose_in_the_clear()
        else:
            if self._tally is not None:
                self._tally.handshake_done(tls.version(), tls.resumed)
            if not self._choose(tls.alpn()):
                logger.debug("%s: no protocol was negotiated", self)
                self._close_transport()
                return
        self.schedule_flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer that all connections share."""
        return self._state.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Feed the engine; its events start tasks and wake them, one flush answers."""
        data = self._state.read_buffer[:nbytes]
        if self._tally is not None:
            self._tally.add(RECEIVED_OCTETS, nbytes)
        if self._bypass is not None:
            if self.flush_scheduled and not self._closing:
                self._take_events()  # a tunnel's input from before goes first
            taken = self._bypass(data)
            if taken == nbytes:
                return
            data = data[taken:]  # mypyc calls twice what is called within a slice
        engine = self._engine
        if engine is None:
            self._first_bytes += data
            if not self._recognise(self._first_bytes):
                return
            data = memoryview(self._first_bytes)
            self._first_bytes = bytearray()
            engine = self._engine
            assert engine is not None
        now = self._time()
        engine.receive_data(data, now)
        if events := engine.take_events():
            self._take(events, now)
        self.schedule_flush()  # which pauses reading if the application has not taken enough

    def eof_received(self) -> bool:
        """Let answers go out to a client that has only shut down its sending side."""
        if self._engine is None or self._exchanges is None or self._closing:
            return False
        self._engine.receive_eof(self._loop.time())
        self._take_events()
        self._exchanges.client_closed()
        # At once, since a transport that is not kept open closes when this returns.
        self.flush()
        if self._tls and not self._closing:
            # TLS transports cannot be half-closed: they drop what is written from now on.
            self._exchanges.disconnect_all()
            self._close_transport()
        return self._closing is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits on this connection."""
        if exc is not None:
            logger.debug("%s: lost: %s", self, exc)
        self._transport = None
        self._bypass = None
        self._timer.stop()
        self._output.stop()
        if self._exchanges is not None:
            self._exchanges.disconnect_all()
        if self._engine is not None:
            # What is unread and unsent leaves its budgets.
            self._engine.receive_eof(self._loop.time())
            self._engine.terminate(ErrorCode.NO_ERROR, "the connection is lost")
            if self._tally is not None:
                self._tally.connection_ended(self._engine.http_version)
        self._state.connections.discard(self)
        self._lost()
        self._tell_server()
        self.schedule_flush()  # the last one, which lets go of those that refer to this

    def pause_writing(self) -> None:
        """Stop asking the engine; reading goes on, or two writers would wait for each other."""
        self._output.pause()

    def resume_writing(self) -> None:
        """Go on where the transport stopped."""
        self._output.resume()
        self.schedule_flush()

    # Calls of the server.

    def begin_shutdown(self) -> None:
        """Finish what is open and take nothing new."""
        transport = self._transport
        if transport is None:
            return
        # An application that is done has perhaps left its answer in the engine or transport.
        self._was_idle = self._engine is None or self._engine.idle
        self._was_delivered = is_delivered(transport)
        if self._engine is None:
            if not self._closing:
                self._close_transport()
            return
        self._engine.begin_shutdown(self._loop.time())
        if self._exchanges is not None:
            self._exchanges.begin_shutdown()
        self._take_events()
        self.schedule_flush()

    def leave(self) -> None:
        """Begin the shutdown as soon as no request is to be expected that is on its way.

        One is likely on a connection that is new or was just used, and who finds it closed
        then may not ask again. The answer to it says ``connection: close``. On HTTP/2 the first
        GOAWAY takes care of that, once there was a request.
        """
        if self._transport is None or self._closing:
            return
        now = self._loop.time()
        since = self._made if self._engine is None else self._engine.announce_shutdown(now)
        delay = since + NEXT_REQUEST_TIME - now
        if delay <= 0.0 and since > -inf and has_input(self._transport):
            delay = INPUT_TIME
        if delay > 0.0:
            self._loop.call_later(delay, self.leave)
        else:
            self.begin_shutdown()

    def observe(self, observing: Observing) -> None:
        """Put another engine in the place of the present one, which goes on behind it."""
        if self._engine is None or self._exchanges is None or self._transport is None:
            return
        self._engine = observing(self._engine, self._endpoints, self._transport, self._made)
        self._exchanges.use(self._engine)

    @property
    def idle_since(self) -> float | None:
        """When the last request came, or the connection; None while anything is under way."""
        engine, transport = self._engine, self._transport
        if transport is None or not is_delivered(transport):
            return None
        if engine is None or self._exchanges is None:
            return self._made
        return self._exchanges.last_request if engine.idle and not self._exchanges else None

    def give_way(self) -> None:
        """Close, for want of places, unless a request comes all the same."""
        self.begin_shutdown()
        self._loop.call_later(GIVE_WAY_TIME, self._abort_if_idle)

    def _abort_if_idle(self) -> None:
        if self.idle_since is not None:
            self.abort()

    def abort_streams(self) -> None:
        """Reset whatever is still in flight, then close."""
        if self._engine is None or self._exchanges is None or self._closing:
            self.abort()
            return
        self._exchanges.reset_all()
        self._engine.terminate(ErrorCode.NO_ERROR, "the server is stopping")
        self._take_events()
        self.schedule_flush()

    def abort(self) -> None:
        """Drop the connection as it is."""
        if self._transport is not None:
            self._transport.abort()

    def cut_off(self, reason: str) -> None:
        """Drop a peer that does not read: there is no room for a GOAWAY."""
        if self._transport is not None:
            logger.debug("%s: is not read: %s", self, reason)
            cut_off(self._transport)

    @property
    def unsent(self) -> int:
        """Octets that wait for the peer."""
        if self._engine is None or self._transport is None:
            return 0
        return self._engine.unsent + self._output.held

    @property
    def taken(self) -> int:
        """Octets, in all, that the peer has taken, or its kernel or ours."""
        return self._output.taken

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do but for the peer to close.

        After answers, that is when they have been delivered and nothing more is
        read: dropping the transport earlier would cut them off. A peer that had
        all its answers when the shutdown began may be dead, and is not waited for.
        """
        transport = self._transport
        if transport is None:
            return True
        if self._was_idle:
            closing = self._closing is not None
            return closing and (self._was_delivered or is_delivered(transport))
        return transport.is_closing() and is_delivered(transport)

    # The protocol.

    def _between(self, transport: asyncio.Transport, tls: Any) -> Endpoints:
        peer = transport.get_extra_info("peername")
        endpoints = Endpoints(
            "https" if self._tls else "http",
            (peer[0], peer[1]) if isinstance(peer, tuple) else None,
            self._server,
            {} if tls is None else {"tls": tls_extension(tls)},
            None if tls is None else tls.covers,
            next(_numbers),
        )
        return endpoints if self._proxied is None else behind_proxy(endpoints, self._proxied)

    def _choose(self, negotiated: str | None) -> bool:
        """Begin with what ALPN has chosen; says whether that can be served."""
        if negotiated == "h2":
            self._start_http2()
        elif self._state.config.http1.enabled:
            # Python's ssl cannot tell "no ALPN" from "no overlap".
            self._start_http1()
        return self._engine is not None

    def _choose_in_the_clear(self) -> None:
        config = self._state.config
        if not config.http2.enabled:
            self._start_http1()
        elif not config.http1.enabled:
            self._start_http2()
        else:
            self._timer.set(self._give_up_waiting, self._made + config.timeouts.first_bytes)

    def _recognise(self, first: bytearray) -> bool:
        """Tell HTTP/2 with prior knowledge by its preface (RFC 9113 section 3.3)."""
        if first.startswith(PREFACE):
            self._start_http2()
        elif not PREFACE.startswith(first):
            self._start_http1()
        else:
            return False
        self._timer.cancel(self._give_up_waiting)
        return True

    def _start(self, engine: Engine) -> None:
        self._engine = engine
        if self._tally is not None:
            self._tally.connection_began(engine.http_version)
        self._exchanges = Exchanges(
            self._state, self._endpoints, engine, self._output, self, self._timer
        )
        if self._state.observing is not None:
            self.observe(self._state.observing)

    def _start_http1(self) -> None:
        config = self._state.config
        self._output.ask_for(HTTP1_WRITE_SIZE)
        now, websocket, limits = self._loop.time(), config.websocket.enabled, config.limits
        engine = http1_engine(config.http1)(
            config.http1,
            config.timeouts,
            now,
            websocket=websocket,
            limits=limits,
            unsent=self._state.unsent,
        )
        self._start(engine)
        assert self._exchanges is not None
        self._exchanges.pushes = True
        self._exchanges.open_passage = self._open_passage
        if not self._tls and SENDFILE:
            self._exchanges.outlet_of_files = Outlet(self._output, engine)

    def _open_passage(self, receive: Callable[[memoryview], int]) -> Passage | None:
        """Let a tunnel have the connection to itself; ``receive`` says how much it takes."""
        if self._transport is None or self._closing:
            return None
        self._bypass = receive
        if self._exchanges is not None:
            self._exchanges.pushes = False  # the passage has turns of its own
        return Passage(self, self._transport, self._output, self._loop)

    def _start_http2(self) -> None:
        config = self._state.config
        engine = http2_engine(config.http2)
        now, websocket, limits = self._loop.time(), config.websocket.enabled, config.limits
        self._start(
            engine(
                config.http2,
                config.timeouts,
                now,
                self._state.unread_bodies,
                websocket=websocket,
                limits=limits,
                unsent=self._state.unsent,
                tally=self._tally,
            )
        )

    def _take_events(self) -> None:
        assert self._engine is not None
        self._take(self._engine.take_events(), self._time())

    def _take(self, events: list[Event], now: float) -> None:
        exchanges = self._exchanges
        assert exchanges is not None
        exchanges.now = now
        for event in events:
            if type(event) is ConnectionTerminated:
                logger.debug("%s: ends: %s", self, event.reason)
                self._terminated = event
                exchanges.connection_ended(event.error_code)
            else:
                exchanges.take(event)
        if exchanges.waiting:
            self.schedule_flush()

    # The way out.

    def schedule_flush(self) -> None:
        """See ``turns.Driver``."""
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self._flushes.add(self)

    def flush(self) -> None:
        """Begin applications that wait, write what there is, and see what follows from that."""
        exchanges = self._exchanges
        self._turn_left = TURN
        try:
            if exchanges is not None:
                exchanges.begin_waiting()
        finally:  # KeyboardInterrupt comes through, and leaves the others
            self.flush_scheduled = False
            if exchanges is not None and exchanges.waiting:
                self.schedule_flush()
        if self._transport is None:
            self._exchanges = None  # which refer to this: it is freed without the collector
            return
        if self._closing:
            return
        engine = self._engine
        if engine is not None:
            awaits_writer = False
            # What was pushed all through, as answers over HTTP/1.1 mostly were, leaves nothing.
            if self._turn_left == TURN or engine.unsent:
                awaits_writer = self._output.write(engine, self._time())
            if events := engine.take_events():
                self._take(events, self._time())
            if self._terminated is not None:
                self._close(self._terminated)
                return
            if self._reading.paused or engine.reading_suspended:
                self._reading.update(engine.reading_suspended)
            self._timer.update(engine.next_deadline())
            if awaits_writer:
                self.schedule_flush()  # behind the writers that the events have woken

    def push(self, size: int) -> bool:
        """See ``turns.Driver``.

        A small answer has a write of its own in any case, and its application is over sooner.
        What a large body has to itself is still in the processor's cache, on both sides, where
        bodies that take turns push each other out.
        """
        engine, output = self._engine, self._output
        if self._transport is None or self._closing or output.paused or engine is None:
            return False
        output.write(engine, self._time())
        self.schedule_flush()
        self._turn_left -= max(size, SMALLEST_SHARE)
        # Whoever ends the connection waits for the flush to do so.
        return self._turn_left > 0 and not (engine.unsent or engine.ended)

    # Time.

    def _on_timer(self) -> None:
        if self._transport is None:
            return
        now = self._loop.time()
        self._timer.run(now)
        if self._engine is None or self._closing:
            self._timer.update(None)
            return
        self._engine.handle_deadline(now)
        self._take_events()
        self.schedule_flush()

    def _reach_age(self) -> None:
        """Let the requests in flight finish, and those that do not end with the connection."""
        logger.debug("%s: is old enough", self)
        graceful = self._state.config.timeouts.graceful
        self._timer.set(self.abort_streams, self._loop.time() + graceful)
        self.begin_shutdown()

    def _give_up_waiting(self) -> None:
        """Close a connection whose first bytes did not come."""
        logger.debug("%s: waited long enough for input", self)
        self._close_transport()

    # The end.

    def _close(self, end: ConnectionTerminated) -> None:
        """Write what is left, then close in the way that lets it arrive."""
        assert self._transport is not None
        assert self._engine is not None
        self._output.write_all(self._engine)
        if end.error_code == ErrorCode.NO_ERROR and not end.unread_input:
            self._close_transport()
            return
        closing = self._begin_closing(self._transport)
        if end.unread_input:
            if self._reading.paused:
                self._transport.resume_reading()
            closing.linger()
            self._tell_server()
        else:
            cut_off(self._transport)

    def _close_transport(self) -> None:
        assert self._transport is not None
        self._begin_closing(self._transport).close()
        self._tell_server()

    def _begin_closing(self, transport: asyncio.Transport) -> Closing:
        self._closing = Closing(transport, self._timer, self._loop)
        self._bypass = self._closing.drop
        return self._closing

    def _tell_server(self) -> None:
        """Have the server look whether this connection is ``finished``."""
        if self._state.on_idle is not None:
            self._state.on_idle()

    def __str__(self) -> str:
        return str(self._endpoints)
