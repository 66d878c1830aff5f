"""One HTTP request and its response, as the application sees them (ASGI HTTP spec 2.5).

There is one task, the application's, and no queue. The connection feeds the
cycle's ``body``; ``receive()`` takes from it and only then acknowledges.
``send()`` checks a message (``response.py``) and hands it to the ``Sink``, which the
connection implements for every protocol alike. Nothing here waits: that is in ``coroutines.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from ..request import Request
from .body import RequestBody
from .coroutines import receive, run, send
from .exceptions import log_exception
from .fields import Fields
from .response import AWAITING_START, OVER, START_HELD, DefaultFields, Response
from .scope import Application, Message, Scope
from .sink import Sink

logger = logging.getLogger("h2asgi.error")

# Compiled, a name of an interpreted module is looked up each time, and these are not.
_receive: Final = receive
_run: Final = run
_send: Final = send


class HTTPCycle(Response):
    """The request and response of one stream.

    ``task``, the application's, is the connection's to set, once it waits for something. ``failed``
    says that it raised before it did.
    """

    __slots__ = (
        "_body",
        "_client_closed",
        "_continued",
        "_request_read",
        "_tunnel_left",
        "failed",
        "scope",
        "task",
    )

    def __init__(
        self,
        sink: Sink,
        request: Request,
        scope: Scope,
        default_fields: DefaultFields,
    ) -> None:
        super().__init__(sink, request, default_fields)
        self.task: asyncio.Task[None] | None = None
        self.failed = False
        self.scope = scope
        self._body: RequestBody | None = None
        self._request_read = False
        self._continued = False  # by a 100, or of its own accord
        self._client_closed = False
        self._tunnel_left = False  # by its application, and still open

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
        self.finish()

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
        self.finish()

    def tunnel_left(self) -> None:
        """Take note that the application's task is about to end, with the tunnel open."""
        self._tunnel_left = True

    # What the application calls.

    def receive(self) -> Coroutine[Any, Any, Message]:
        """Give the next ``http.request``, or ``http.disconnect`` once there is no more to say."""
        return _receive(self)

    def send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """Take ``http.response.start``, ``http.response.body`` or a message of an extension.

        Raises ``IllegalMessage`` for what ASGI forbids at this point, and
        ``ClientDisconnected`` when the client is gone.
        """
        return _send(self, message)

    def next_message(self) -> Message | None:
        """What ``receive()`` gives, or None if ``body`` has to change first."""
        if (
            self._body is None
            and not self._request_read
            and self.request.end_stream
            and not (self._disconnected or self.answered)
        ):
            self._request_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        body = self.body
        if body.closed or (self._request_read and self._client_closed):
            return {"type": "http.disconnect"}
        if self._request_read:
            return None
        if body.unread or body.ended:
            return self._take_request(body)
        if self.request.expect_continue and not (self._continued or self.status):
            # RFC 9110 section 10.1.1: the client waits with its body
            # until it hears that somebody wants to read it.
            self._continued = True
            self._sink.send_informational(self.stream_id, 100, [])
        return None

    def _take_request(self, body: RequestBody) -> Message:
        self._continued = True  # section 10.1.1: no 100 once the body has begun
        self._request_read = ended = body.ended
        data = body.take()
        if data:
            self._sink.acknowledge_received_data(self.stream_id, len(data))
        message = {"type": "http.request", "body": data, "more_body": not ended}
        if ended and body.trailers:
            message["trailers"] = body.trailers
        return message

    # The task.

    def run(self, app: Application) -> Coroutine[Any, Any, None]:
        """Run the application and answer for whatever it leaves undone.

        Raises nothing but what stops a task or the process.
        """
        return _run(self, app)

    def ended(self, *, failed: bool) -> None:
        """Take note that the task is about to end, by an exception perhaps."""
        self._sink.application_ended(self, failed)

    def completed(self) -> bool:
        """Take note that the application has returned; says whether nothing is left to do."""
        if self._finished:
            self.ended(failed=False)
        return self._finished

    def judge_return(self) -> None:
        """Log that the application left its response incomplete, if that is its mistake."""
        if self._client_closed and not self.answered:
            # receive() said that it is gone; whom would a 500 be for?
            logger.debug("%s: client closed its side", self.request_line(), extra=self.log_ids())
            self.abandon()
        elif not (self.answered or self._disconnected):
            logger.error(
                "%s: returned without completing the response",
                self.request_line(),
                extra=self.log_ids(),
            )

    def judge_cancellation(self, error: BaseException) -> None:
        """Log that the application was cancelled, unless its client is gone, or was given up."""
        if self._tunnel_left or not (self.answered or self._disconnected or self._client_closed):
            logger.error(
                "%s: cancelled without completing the %s",
                self.request_line(),
                "WebSocket" if self._tunnel_left else "response",
                exc_info=error,
                extra=self.log_ids(),
            )

    def begin_error(self) -> bool:
        """Forget a response that has not begun, for an error to take its place.

        Says if it could; otherwise one that is half sent gets an end.
        """
        if self._state > START_HELD or self._disconnected:
            self.abandon()
            return False
        self._state = AWAITING_START  # a start that was held is forgotten
        return True

    @property
    def owes_response(self) -> bool:
        """Whether the request is complete, and the response has not begun."""
        complete = self.request.end_stream or (self._body is not None and self._body.ended)
        return complete and not self.status

    def log_exception(self, error: BaseException) -> None:
        """Log what the application raised."""
        gone = self._disconnected or self._client_closed  # as receive() says
        log_exception(error, self.request_line(), self.log_ids(), disconnected=gone)

    def request_line(self) -> str:
        """Give what logs say of the request."""
        return f"{self.request.method} {self.scope.get('path')!a}"

    def log_ids(self) -> dict[str, object]:
        """Give what log records say of the request besides, as their attributes."""
        return self._sink.log_ids(self.request)
