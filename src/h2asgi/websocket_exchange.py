"""One WebSocket between the tunnel of its stream and the application's cycle.

The tunnel is a stream of HTTP/2 or an HTTP/1.1 connection; the engine makes no
difference. Octets that come through it wait here, unacknowledged, and are fed
to the codec in slices as long as the application takes its messages. So a peer
that floods is held by the window of its stream, or by TCP.

A WebSocket goes through these phases, and forwards only::

    CONNECTING   the application has not answered the handshake
    OPEN         messages go both ways
    CLOSING      our Close frame is out, the peer's is awaited
    ENDED        our half of the tunnel has ended, the peer's is awaited
    OVER         both have, or the stream is gone
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol, cast

from .asgi.http import HTTPCycle
from .asgi.response import DefaultFields
from .asgi.websocket import WebSocketCycle
from .config import WebSocketConfig
from .errors import ErrorCode
from .passage import Passage
from .protocol.engine import SEND_HIGH_WATER, Engine
from .protocol.engines import websocket_codec
from .protocol.events import Headers
from .protocol.websocket.codec import (
    CloseReceived,
    Codec,
    ConnectionFailed,
)
from .protocol.websocket.handshake import Handshake
from .timer import Timer

logger = logging.getLogger("h2asgi")

MAX_QUEUED = 256 * 1024
"""Octets of messages waiting for the application, above which its peer is held back: what one
read gives, which otherwise would be copied to wait. 500 WebSockets that are not received from hold
128 MiB, and as much again in their windows. One message may be larger; it is alone then."""

SLICE = 64 * 1024
"""Octets behind which the codec begins no frame before it is looked whether there is room, and so
by how much ``MAX_QUEUED`` may be passed: 10,922 empty messages take less than 1 MiB."""

COMPRESSED_SLICE = 16 * 1024
"""The same where messages may be compressed: it can inflate to 16 MiB."""

ABNORMAL_CLOSURE = 1006
SERVICE_RESTART = 1012
PING_TIMEOUT = 1011, "keepalive ping timeout"
"""Close codes (RFC 6455 section 7.4.1, and IANA's registry for 1012)."""


class _Phase(IntEnum):
    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    ENDED = 3
    OVER = 4


_CONNECTING, _OPEN, _CLOSING, _ENDED, _OVER = _Phase


class Streams(Protocol):
    """What a WebSocket asks of the connection its stream belongs to."""

    stopping: bool
    """Whether the server is about to stop."""

    open_passage: Callable[[Callable[[memoryview], int]], Passage | None] | None
    """Where a tunnel may have the connection to itself: what to call for its passage."""

    @property
    def unsent(self) -> int:
        """Octets of the connection that wait for the peer."""

    @property
    def taken(self) -> int:
        """Octets of it, in all, that the peer has taken, or its kernel or ours."""

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> Awaitable[None] | None:
        """Queue octets; what it gives sees them on their way, and is awaited at once."""

    def flush(self) -> Awaitable[None] | None:
        """See what is queued into the transport, also if what it gives is not awaited."""

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Abandon the stream, and fail whoever waits to write to it."""

    def tunnel_over(self, stream_id: int) -> None:
        """Take note that nothing of the stream is wanted any more."""


class WebSocketExchange:
    """The sink of its ``cycle`` (``asgi.websocket.Sink``); the events of its stream end here."""

    __slots__ = (
        "_codec",
        "_config",
        "_deadline",
        "_engine",
        "_handshake",
        "_heard",
        "_input",
        "_input_ended",
        "_late_answers",
        "_loop",
        "_passage",
        "_phase",
        "_pinged",
        "_slice",
        "_stream_id",
        "_streams",
        "_taken",
        "_timer",
        "_unanswerable",
        "_version",
        "cycle",
        "task",
    )

    def __init__(
        self,
        streams: Streams,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        handshake: Handshake,
        response: HTTPCycle,
        default_fields: DefaultFields,
        config: WebSocketConfig,
    ) -> None:
        self.cycle = WebSocketCycle(self, response, default_fields)
        self.task: asyncio.Task[None] | None = None  # the application's, the connection's to set
        self._streams = streams
        self._engine = engine
        self._loop = loop
        self._handshake = handshake
        self._config = config
        self._stream_id = response.stream_id
        self._version = response.request.http_version
        self._phase = _CONNECTING
        self._codec: Codec  # from the acceptance on
        self._passage: Passage | None = None
        self._input = bytearray()  # not yet fed, bounded by the receive window
        self._slice = SLICE
        self._input_ended = False  # nothing follows behind ``_input``
        # Answers that wait because earlier ones do: the peer does not read.
        self._unanswerable = False
        self._late_answers = b""
        self._timer = Timer(loop, self._on_timer)
        self._taken = 0  # by the peer, when the deadline was set
        self._deadline = 0.0
        self._heard = 0.0  # when the peer last gave a sign of life
        self._pinged = False  # a Ping of ours is out, and nothing was heard since

    # What the engine tells.

    def receive_data(self, data: bytes) -> None:
        """Take octets of the peer. Before the acceptance, which HTTP/2 allows, they wait."""
        self._hear()
        taken = 0
        if not self._input:
            taken = self._feed_all(data)
            self._acknowledge(taken)
        if taken < len(data):
            self._input += memoryview(data)[taken:]
        self._pump()

    def receive_passing(self, data: memoryview) -> int:
        """Take what there is room for of octets that have not been through the engine.

        They are borrowed. Gives how many were taken; the rest is for the engine.
        """
        if self._input:
            return 0
        self._hear()
        return self._feed_all(data)

    def receive_end(self) -> None:
        """Take note that the peer has ended its half of the tunnel."""
        self._input_ended = True
        if self._phase is _CONNECTING:
            self._abandon()
        else:
            self._pump()

    def send_queue_drained(self) -> None:
        """Go on answering a peer that reads again."""
        self._hear()
        self._unanswerable = False
        answers, self._late_answers = self._late_answers, b""
        if self._phase is _OPEN:
            self._answer(answers)

    def lose(self) -> None:
        """Take note that the stream was reset or the connection lost."""
        self.cycle.disconnect(ABNORMAL_CLOSURE, "")
        self._finish()

    @property
    def accepted(self) -> bool:
        """Whether the application has accepted the handshake."""
        return self._phase is not _CONNECTING

    # What the cycle calls.

    def accept(self, subprotocol: str | None, headers: Headers) -> int:
        """See ``asgi.websocket.Sink``."""
        fields = self._handshake.accept(subprotocol, headers)
        self._engine.accept_tunnel(self._stream_id, fields)
        self._codec = self._handshake.codec(websocket_codec(self._config))
        if self._handshake.compresses:
            self._slice = COMPRESSED_SLICE
        self._phase = _OPEN
        if self._streams.open_passage is not None:
            self._passage = self._streams.open_passage(self.receive_passing)
        self._heard = self._loop.time()
        if self._config.ping_interval:
            self._set_deadline(self._heard + self._config.ping_interval)
        self._loop.call_soon(self._begin)
        return 101 if self._version == "1.1" else 200

    def send_message(self, data: str | bytes) -> Awaitable[None] | None:
        """See ``asgi.websocket.Sink``."""
        octets = self._codec.send_message(data)
        passage = self._passage
        # Whoever has further messages is likely to answer them at once.
        if passage is not None and passage.write(octets, self.cycle.queued > 0):
            return None
        return self._streams.send_data(self._stream_id, octets, False)

    def close(self, code: int, reason: str) -> None:
        """See ``asgi.websocket.Sink``. RFC 6455 section 7.1.2: the peer answers with a Close."""
        data = self._codec.close(code, reason)
        self._phase = _CLOSING
        self._queue(data)
        self._set_deadline(self._loop.time() + self._config.close_timeout)

    def flush(self) -> Awaitable[None] | None:
        """See ``asgi.websocket.Sink``."""
        return self._streams.flush()

    def messages_taken(self) -> None:
        """See ``asgi.websocket.Sink``."""
        if self._input or self._input_ended:
            self._pump()

    # What the server calls.

    def begin_shutdown(self) -> None:
        """Close an open WebSocket; one that is not accepted waits for the application's answer."""
        if self._phase is _OPEN:
            self.cycle.disconnect(SERVICE_RESTART, "")
            self.close(SERVICE_RESTART, "")
            self._pump()

    # The way in.

    def _begin(self) -> None:
        """Go on once the cycle has taken note of the acceptance."""
        if self._streams.stopping:
            self.begin_shutdown()
        self._pump()

    @property
    def _has_room(self) -> bool:
        # While closing, messages are dropped, and a Close frame is looked for.
        return self._phase is not _OPEN or self.cycle.queued < MAX_QUEUED

    def _pump(self) -> None:
        """Feed the codec as much as the application has room for."""
        if self._input:
            with memoryview(self._input) as view:
                taken = self._feed_all(view)
            if taken:
                self._hear()  # what was held back may have been the answer
                del self._input[:taken]
                self._acknowledge(taken)
        if self._phase is _ENDED and self._input:
            self._acknowledge(len(self._input))
            self._input.clear()
        if self._input_ended and not self._input and _OPEN <= self._phase <= _ENDED:
            # Without a Close frame the WebSocket was lost (RFC 6455 section 7.1.5).
            self.cycle.disconnect(ABNORMAL_CLOSURE, "")
            self._end(b"")
            self._finish()

    def _feed_all(self, data: bytes | memoryview) -> int:
        """Do the same with octets in front of which nothing waits; gives how many were fed."""
        taken = 0
        while taken < len(data) and _OPEN <= self._phase <= _CLOSING and self._has_room:
            taken += self._feed(data[taken:] if taken else data)
        return taken

    def _acknowledge(self, size: int) -> None:
        if size:
            self._engine.acknowledge_received_data(self._stream_id, size)
            self._streams.flush()

    def _feed(self, data: bytes | memoryview) -> int:
        codec = self._codec
        events = codec.receive_data(data, self._slice)
        answers = codec.take_answers()
        if codec.over:
            end = cast(CloseReceived | ConnectionFailed, events.pop())
            logger.debug("WebSocket ends: %d %a", end.code, end.reason)
            self.cycle.feed(cast(list[str | bytes], events))
            self.cycle.disconnect(end.code, end.reason)
            # RFC 6455 section 7.1.1: the server ends the connection first.
            self._end(answers)
            return codec.taken
        if events:
            self.cycle.feed(cast(list[str | bytes], events))
        if answers:
            self._answer(answers)
        return codec.taken

    # The way out.

    def _answer(self, data: bytes) -> None:
        """Send Pongs, or keep the latest for when the peer reads again.

        RFC 6455 section 5.5.3: only the last of several Pings need be answered.
        So a peer that sends Pings and reads nothing cannot pile up Pongs.
        """
        if self._unanswerable:
            self._late_answers = data
        elif data:
            self._unanswerable = self._queue(data) > SEND_HIGH_WATER

    def _queue(self, data: bytes, end_stream: bool = False) -> int:
        """Send what nobody waits for; give how many octets now wait on the stream."""
        queued = self._engine.send_data(self._stream_id, data, end_stream)
        self._streams.flush()
        return queued

    def _end(self, data: bytes) -> None:
        """End our half of the tunnel, with ``data`` as the last that goes through it."""
        if self._phase is not _ENDED:
            self._phase = _ENDED
            self._queue(data, end_stream=True)
            self._set_deadline(self._loop.time() + self._config.close_timeout)

    def _abandon(self) -> None:
        self.cycle.disconnect(ABNORMAL_CLOSURE, "")
        self._streams.reset_stream(self._stream_id, ErrorCode.CANCEL)
        self._finish()

    def _finish(self) -> None:
        if self._phase is not _OVER:
            self._phase = _OVER
            self._passage = None
            self._input.clear()
            self._timer.stop()
            self._streams.tunnel_over(self._stream_id)

    # Time.

    def _hear(self) -> None:
        self._heard = self._loop.time()
        self._pinged = False

    def _set_deadline(self, deadline: float) -> None:
        self._deadline = deadline
        self._taken = self._streams.taken
        self._timer.update(deadline)

    def _on_timer(self) -> None:
        if self._phase is _OVER:
            return  # since the timer has fired: what was read ended it
        now = self._loop.time()
        if now < self._deadline:
            self._timer.update(self._deadline)
        elif self._phase is _OPEN:
            self._keep_alive(now)
        elif self._peer_is_busy:
            self._set_deadline(now + self._config.close_timeout)
        else:
            logger.debug("WebSocket: the peer did not close in time")
            self._abandon()

    @property
    def _peer_is_busy(self) -> bool:
        """Whether it takes what is in front of the frame that it is to answer: there is no telling
        how long that lasts, and too slow a peer is the transport's affair."""
        return self._streams.unsent > 0 and self._streams.taken > self._taken

    def _keep_alive(self, now: float) -> None:
        """Ask a silent peer for a sign of life (RFC 6455 section 5.5.2)."""
        interval, timeout = self._config.ping_interval, self._config.ping_timeout
        if self._input:
            # Its answer may be behind what the application has yet to receive.
            self._hear()
        if now < self._heard + interval:
            self._set_deadline(self._heard + interval)
        elif self._pinged and timeout and self._peer_is_busy:
            self._set_deadline(now + timeout)
        elif self._pinged and timeout:
            logger.debug("WebSocket: no answer to a Ping")
            self.cycle.disconnect(ABNORMAL_CLOSURE, PING_TIMEOUT[1])
            self._end(self._codec.close(*PING_TIMEOUT))
        else:
            self._pinged = True
            self._queue(self._codec.ping(b""))
            self._set_deadline(now + (timeout or interval))
