"""One HTTP request and its response, as the application sees them (ASGI HTTP spec 2.5).

There is one task, the application's, and no queue. The connection feeds the
cycle's ``body``; ``receive()`` takes from it and only then acknowledges.
``send()`` checks a message and hands it to the ``Sink``, which the connection
implements for every protocol alike. A response goes through these states:

    AWAITING_START -> START_HELD -> BODY -> OVER
                                            ^ reset, from any state before it

A message that is refused changes nothing, unless part of the response is
already on its way: then the stream is reset, since the client could not tell a
broken response from a whole one otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol

from ..errors import ClientDisconnected, ErrorCode, IllegalMessage
from .body import RequestBody
from .exceptions import log_exception
from .fields import Fields, octets, response_fields
from .scope import Application, Message, Request, Scope

logger = logging.getLogger("h2asgi.error")

# Plain integers: they are compared several times for every message.
_AWAITING_START: Final = 0
_START_HELD: Final = 1  # ASGI: the head waits for the first body message
_BODY: Final = 2
_OVER: Final = 3  # complete, or reset by this side

_ERROR_BODY: Final = b"Internal Server Error"


class Sink(Protocol):
    """Where a cycle's output goes: the connection. All calls name the stream."""

    def send_informational(self, stream_id: int, status: int, headers: Fields) -> None:
        """Send a 1xx response (RFC 9110 section 15.2)."""

    def send_headers(
        self, stream_id: int, status: int, headers: Fields, end_stream: bool, /
    ) -> None:
        """Queue the head of the final response; the fields have been checked.

        ``send_data`` or ``flush`` follows before anything else happens.
        """

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> Awaitable[None]:
        """Queue body octets; what it gives sees them into the transport or a full window.

        It is awaited at once. Queueing does not wait, so that a cancelled call
        loses nothing. Raises ``ClientDisconnected`` when the stream is gone.
        """

    def flush(self) -> Awaitable[None]:
        """See what is queued into the transport; awaited at once."""

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """Say that the application took ``size`` octets of the body."""

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Abandon the stream."""

    def request_finished(self, cycle: HTTPCycle) -> None:
        """Take note, once for each cycle, that the response ended or will never end."""

    def application_ended(self, cycle: HTTPCycle) -> None:
        """Take note that the cycle's task is about to end, perhaps by an exception."""


class DefaultFields(Protocol):
    """Fields that the server adds to every response; ``date`` makes them change."""

    fields: Fields


class HTTPCycle:
    """The request and response of one stream.

    ``status`` (0 when no response was begun) and ``body_size`` (octets handed
    to the sink) are what the access log wants. ``task``, the application's, and
    ``began``, when the request came, are the connection's to set.
    """

    __slots__ = (
        "_body",
        "_client_closed",
        "_content_left",
        "_continued",
        "_default_fields",
        "_disconnected",
        "_finished",
        "_held_fields",
        "_held_status",
        "_no_content",
        "_request_read",
        "_sink",
        "_state",
        "began",
        "body_size",
        "request",
        "scope",
        "status",
        "stream_id",
        "task",
    )

    def __init__(
        self,
        sink: Sink,
        request: Request,
        scope: Scope,
        default_fields: DefaultFields,
    ) -> None:
        self._sink = sink
        self.request = request
        self.stream_id = request.stream_id
        self.began = 0.0
        self.task: asyncio.Task[None] | None = None
        self.scope = scope
        self._default_fields = default_fields

        self._body: RequestBody | None = None
        self._request_read = False
        self._continued = False  # by a 100, or of its own accord

        # What is held comes with START_HELD, and is not looked at before.
        self._state: int = _AWAITING_START
        self._held_status: int
        self._held_fields: Fields
        self._content_left: int | None
        self._no_content: bool

        self._client_closed = False
        self._disconnected = False
        self._finished = False
        self.status = 0
        self.body_size = 0

    @property
    def body(self) -> RequestBody:
        """The body of the request, made when somebody asks: most requests have none."""
        body = self._body
        if body is None:
            self._body = body = RequestBody()
            body.ended = self.request.end_stream
            body.closed = self._disconnected or self.answered
        return body

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()

    # What the connection tells.

    def end_request(self, trailers: Fields) -> None:
        """Take note that the request is complete. ASGI has no message for its trailers."""
        self.body.end()

    def disconnect(self) -> None:
        """Take note that the stream was reset or the connection lost.

        The application's task runs on: it is told by ``receive()`` and ``send()``.
        """
        self._disconnected = True
        self._close_body()
        self._finish()

    def client_closed(self) -> None:
        """Take note that the client has closed its side of the connection.

        Mostly it is gone, and ``receive()`` says so at once; but it may have
        closed only its sending side, so what the application sends still goes out.
        """
        self._client_closed = True
        self.body.end()

    def tunnel_opened(self, status: int) -> None:
        """Take note that the response was the head that opens a tunnel, and ended with it."""
        self._state = _OVER
        self.status = status
        self._finish()

    # What the application calls.

    async def receive(self) -> Message:
        """Give the next ``http.request``, or ``http.disconnect`` once there is no more to say."""
        if (
            self._body is None
            and not self._request_read
            and self.request.end_stream
            and not (self._disconnected or self.answered)
        ):
            self._request_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        body = self.body
        while not body.closed:
            if not self._request_read:
                if body.unread or body.ended:
                    return self._take_request()
                if self.request.expect_continue and not (self._continued or self.status):
                    # RFC 9110 section 10.1.1: the client waits with its body
                    # until it hears that somebody wants to read it.
                    self._continued = True
                    self._sink.send_informational(self.stream_id, 100, [])
            elif self._client_closed:
                break
            await body.wait()
        return {"type": "http.disconnect"}

    def _take_request(self) -> Message:
        self._continued = True  # section 10.1.1: no 100 once the body has begun
        self._request_read = ended = self.body.ended
        data = self.body.take()
        if data:
            self._sink.acknowledge_received_data(self.stream_id, len(data))
        return {"type": "http.request", "body": data, "more_body": not ended}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take ``http.response.start`` or ``http.response.body``.

        Raises ``IllegalMessage`` for what ASGI forbids at this point, and
        ``ClientDisconnected`` when the client is gone.
        """
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise IllegalMessage(f"not a message with a type: {reprlib.repr(message)}") from None
        if self._state == _OVER:
            raise IllegalMessage(f"{kind!r} after the response was over")
        if self._disconnected:
            raise ClientDisconnected("the client is gone")
        if kind == "http.response.start":
            self._hold_start(message)
        elif kind == "http.response.body":
            sent = self._send_body(message)
            if self._state != _OVER:
                await sent
                return
            try:
                await sent
            finally:
                self._finish()
        else:
            raise self._illegal(f"unknown message type: {reprlib.repr(kind)}")

    def _hold_start(self, message: Mapping[str, Any]) -> None:
        if self._state != _AWAITING_START:
            raise self._illegal("'http.response.start' for the second time")
        status = message.get("status")
        # Three digits, and not an interim response (RFC 9110 section 15).
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise IllegalMessage(
                f"status must be an integer from 200 to 999, not {reprlib.repr(status)}"
            )
        fields, content_length = response_fields(
            message.get("headers", ()), self._default_fields.fields, self.request.http_version
        )
        # RFC 9110 section 6.4.1: these never have content, whatever the fields say.
        self._no_content = self.request.method == "HEAD" or status == 204 or status == 304
        self._content_left = None if self._no_content else content_length
        if status == 204 and content_length is not None:
            # RFC 9110 section 8.6.
            fields = [field for field in fields if field[0] != b"content-length"]
        self._held_status = status if type(status) is int else int(status)
        self._held_fields = fields
        self._state = _START_HELD

    def _send_body(self, message: Mapping[str, Any]) -> Awaitable[None]:
        """Queue a piece of the body, the head before the first; give what sees it out."""
        if self._state == _AWAITING_START:
            raise IllegalMessage("'http.response.body' before 'http.response.start'")
        data = message.get("body", b"")
        if type(data) is not bytes:
            data = self._body_octets(data)
        last = not message.get("more_body", False)
        no_content = self._no_content
        if no_content:
            data = b""
        size = len(data)
        left = self._content_left
        if left is not None:
            # RFC 9110 section 8.6.
            left -= size
            if left < 0 or (last and left):
                raise self._wrong_length(left)
            self._content_left = left
        stream_ended = no_content
        if self._state == _START_HELD:
            if last and not no_content:
                stream_ended = not size
                if left is None:
                    self._held_fields.append((b"content-length", b"%d" % size))
            self._state = _BODY
            self.status = self._held_status
            self._sink.send_headers(
                self.stream_id, self._held_status, self._held_fields, stream_ended
            )
        if last:
            self._state = _OVER
        if (last or no_content) and self._body is not None:
            # The client has its response, so receive() has nothing left to wait for.
            self._body.close()
        self.body_size += size
        if stream_ended or not (size or last):
            return self._sink.flush()
        return self._sink.send_data(self.stream_id, data, last)

    def _wrong_length(self, left: int) -> IllegalMessage:
        if left < 0:
            return self._illegal(f"body longer than its content-length, by {-left} octets")
        return self._illegal(f"body shorter than its content-length, by {left} octets")

    def _body_octets(self, data: Any) -> bytes:
        try:
            return octets("a body", data)
        except IllegalMessage as error:
            raise self._illegal(str(error)) from None

    def _illegal(self, reason: str) -> IllegalMessage:
        """Give the error for a refused message, having reset a stream that is under way."""
        if self._state == _BODY:
            self._abandon()
        return IllegalMessage(reason)

    # The task.

    async def run(self, app: Application) -> None:
        """Run the application and answer for whatever it leaves undone.

        Raises nothing but what stops a task or the process.
        """
        try:
            try:
                await app(self.scope, self.receive, self.send)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                self._abandon()
                raise
            except Exception as error:
                self._log_exception(error)
            except BaseExceptionGroup as error:
                if error.split((Exception, asyncio.CancelledError))[1] is not None:
                    self._abandon()
                    raise
                self._log_exception(error)
            else:
                if self._finished:
                    return
                self._judge_return()
            await self._conclude()
        finally:
            self._sink.application_ended(self)

    def _judge_return(self) -> None:
        """Log that the application left its response incomplete, if that is its mistake."""
        if self._client_closed and not self.answered:
            # receive() said that it is gone; whom would a 500 be for?
            logger.debug("%s: client closed its side", self._request_line())
            self._abandon()
        elif not (self.answered or self._disconnected):
            logger.error("%s: returned without completing the response", self._request_line())

    async def _conclude(self) -> None:
        """Give the client an answer if it has none, or an end if it has half of one."""
        if self._state in (_BODY, _OVER) or self._disconnected:
            self._abandon()
            return
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(_ERROR_BODY)),
        ]
        self._state = _AWAITING_START  # a start that was held is forgotten
        try:
            await self.send({"type": "http.response.start", "status": 500, "headers": headers})
            await self.send({"type": "http.response.body", "body": _ERROR_BODY})
        except ClientDisconnected:
            logger.debug("%s: gone before its answer", self._request_line())

    @property
    def answered(self) -> bool:
        """Whether the client has its whole response, whatever the application has yet to send."""
        return self._state == _OVER or (self._state == _BODY and self._no_content)

    def _abandon(self) -> None:
        """Reset the stream, unless its response is over or its client gone."""
        if self.answered or self._disconnected:
            self._finish()
            return
        self._state = _OVER
        self._close_body()
        self._sink.reset_stream(self.stream_id, ErrorCode.INTERNAL_ERROR)
        self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._sink.request_finished(self)

    def _log_exception(self, error: BaseException) -> None:
        log_exception(error, self._request_line(), disconnected=self._disconnected)

    def _request_line(self) -> str:
        return f"{self.request.method} {self.scope.get('path')!a}"
