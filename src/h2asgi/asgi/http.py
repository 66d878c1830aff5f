"""One HTTP request and its response, as the application sees them (ASGI HTTP spec 2.5).

There is one task, the application's, and no queue. The connection feeds the
cycle's ``body``; ``receive()`` takes from it and only then acknowledges.
``send()``, which is in ``response.py``, checks a message and hands it to the
``Sink``, which the connection implements for every protocol alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ..errors import ClientDisconnected
from .body import RequestBody
from .exceptions import log_exception
from .fields import Fields
from .file_response import FileResponse
from .response import AWAITING_START, OVER, START_HELD, DefaultFields, ResponseSink
from .scope import Application, Message, Request, Scope

logger = logging.getLogger("h2asgi.error")

_ERROR_BODY: Final = b"Internal Server Error"


class Sink(ResponseSink, Protocol):
    """Where a cycle's output goes: the connection. All calls name the stream."""

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """Say that the application took ``size`` octets of the body."""

    def application_ended(self, cycle: HTTPCycle) -> None:
        """Take note that the cycle's task is about to end, perhaps by an exception."""


class HTTPCycle(FileResponse):
    """The request and response of one stream.

    ``task``, the application's, is the connection's to set.
    """

    __slots__ = (
        "_body",
        "_client_closed",
        "_continued",
        "_request_read",
        "scope",
        "task",
    )

    _sink: Sink

    def __init__(
        self,
        sink: Sink,
        request: Request,
        scope: Scope,
        default_fields: DefaultFields,
    ) -> None:
        super().__init__(sink, request, default_fields)
        self.task: asyncio.Task[None] | None = None
        self.scope = scope
        self._body: RequestBody | None = None
        self._request_read = False
        self._continued = False  # by a 100, or of its own accord
        self._client_closed = False

    @property
    def body(self) -> RequestBody:
        """The body of the request, made when somebody asks: most requests have none."""
        body = self._body
        if body is None:
            self._body = body = RequestBody()
            body.ended = self.request.end_stream
            body.closed = self._disconnected or self.answered
        return body

    def _close_request(self) -> None:
        if self._body is not None:
            self._body.close()

    # What the connection tells.

    def end_request(self, trailers: Fields) -> None:
        """Take note that the request is complete; ``receive()`` gives its trailers at the end."""
        body = self.body
        body.trailers = trailers
        body.end()

    def disconnect(self) -> None:
        """Take note that the stream was reset or the connection lost.

        The application's task runs on: it is told by ``receive()`` and ``send()``.
        """
        self._disconnected = True
        self._close_request()
        self._finish()

    def answered_instead(self, status: int, body_size: int) -> None:
        """Take note that the server gave a whole response, before the application began one."""
        self.status = status
        self.body_size = body_size
        self.disconnect()

    def client_closed(self) -> None:
        """Take note that the client has closed its side of the connection.

        Mostly it is gone, and ``receive()`` says so at once; but it may have
        closed only its sending side, so what the application sends still goes out.
        """
        self._client_closed = True
        self.body.end()

    def tunnel_opened(self, status: int) -> None:
        """Take note that the response was the head that opens a tunnel, and ended with it."""
        self._state = OVER
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

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take ``http.response.start``, ``http.response.body`` or a message of an extension.

        Raises ``IllegalMessage`` for what ASGI forbids at this point, and
        ``ClientDisconnected`` when the client is gone.
        """
        sent = self.take(message)
        if sent is None:
            return
        if self._state != OVER:
            await sent
            return
        try:
            await sent
        finally:
            self._finish()

    def _take_request(self) -> Message:
        self._continued = True  # section 10.1.1: no 100 once the body has begun
        self._request_read = ended = self.body.ended
        data = self.body.take()
        if data:
            self._sink.acknowledge_received_data(self.stream_id, len(data))
        message = {"type": "http.request", "body": data, "more_body": not ended}
        if ended and self.body.trailers:
            message["trailers"] = self.body.trailers
        return message

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
        if self._state > START_HELD or self._disconnected:
            self._abandon()
            return
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(_ERROR_BODY)),
        ]
        self._state = AWAITING_START  # a start that was held is forgotten
        try:
            await self.send({"type": "http.response.start", "status": 500, "headers": headers})
            await self.send({"type": "http.response.body", "body": _ERROR_BODY})
        except ClientDisconnected:
            logger.debug("%s: gone before its answer", self._request_line())

    @property
    def owes_response(self) -> bool:
        """Whether the request is complete, and the response has not begun."""
        complete = self.request.end_stream or (self._body is not None and self._body.ended)
        return complete and not self.status

    def _log_exception(self, error: BaseException) -> None:
        log_exception(error, self._request_line(), disconnected=self._disconnected)

    def _request_line(self) -> str:
        return f"{self.request.method} {self.scope.get('path')!a}"
