"""One WebSocket as the application sees it (ASGI WebSocket spec 2.5).

There is one task, the application's. Messages of the peer wait in the cycle
until ``receive()`` takes them; whoever feeds them looks at ``queued`` first.
``send()`` checks a message and hands it to the ``Sink``. These are the states:

    CONNECTING -> OPEN -> CLOSED         by the application
               -> DENIED                 an HTTP response instead

Up to the acceptance this is an HTTP request, and its ``HTTPCycle`` gives every
answer that is a response: the denial, 403, 500. It runs the application, too.

Apart from that stands the end, which the peer, its loss or the server brings
about: ``receive()`` then gives what is left and ``websocket.disconnect``,
``send()`` raises ``ClientDisconnected``.
"""

from __future__ import annotations

import reprlib
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from sys import getsizeof
from typing import Any, Final, Protocol

from ..errors import ClientDisconnected, IllegalMessage
from .coroutines import see_out
from .fields import Fields, octets, response_fields
from .http import HTTPCycle
from .response import DefaultFields
from .scope import Application, Message, Receive, Scope, Send
from .wakeup import Wakeup

_CONNECTING: Final = 0
_DENIED: Final = 1
_OPEN: Final = 2
_CLOSED: Final = 3

NORMAL_CLOSURE: Final = 1000
ABNORMAL_CLOSURE: Final = 1006
INTERNAL_ERROR: Final = 1011
"""Close codes (RFC 6455 section 7.4.1). 1006 is never sent: it stands for a missing Close frame."""

SMALLEST_MESSAGE = 256
"""Octets that a waiting message counts at the least: an empty one costs memory, too."""

_DENIAL_PREFIX: Final = "websocket."
_DENIAL: Final = ("websocket.http.response.start", "websocket.http.response.body")

_FORBIDDEN_BODY: Final = b"Forbidden"


class Sink(Protocol):
    """Where the output of a cycle goes; nothing of it waits but what is awaited."""

    def accept(self, subprotocol: str | None, headers: Fields) -> int:
        """Queue the head that opens the WebSocket, and give its status.

        Raises ``IllegalMessage`` for a subprotocol that was not offered and for
        fields that are the handshake's own.
        """

    def send_message(self, data: str | bytes) -> Awaitable[None] | None:
        """Queue a message; what it gives sees it into the transport or a full window.

        It is awaited at once; None says that there is no need to. Raises
        ``ClientDisconnected`` when the peer is gone, and ``UnicodeEncodeError``, before
        anything is queued, for a text that has no UTF-8.
        """

    def close(self, code: int, reason: str) -> None:
        """Queue a Close frame, and see to the rest of the closing handshake.

        Raises ``IllegalMessage`` for a code that may not be sent.
        """

    def flush(self) -> Awaitable[None] | None:
        """See what is queued into the transport; awaited as ``send_message``."""

    def messages_taken(self) -> None:
        """Take note that no message waits any more, and that there is room for others."""


class WebSocketCycle(Wakeup):
    """The application's side of one WebSocket.

    ``queued`` counts the octets of memory that messages hold which the
    application has not taken, each with ``SMALLEST_MESSAGE`` at the least.
    """

    __slots__ = (
        "_connect_given",
        "_default_fields",
        "_end",
        "_messages",
        "_response",
        "_sink",
        "_state",
        "queued",
    )

    def __init__(self, sink: Sink, response: HTTPCycle, default_fields: DefaultFields) -> None:
        super().__init__()
        self._sink = sink
        self._response = response
        self._default_fields = default_fields
        self._state: int = _CONNECTING
        self._connect_given = False
        self._messages: deque[tuple[str | bytes, int]] = deque()  # with what each counts
        self._end: tuple[int, str] | None = None  # code and reason, once receive() has an end
        self.queued = 0

    # What the exchange tells.

    def feed(self, messages: Sequence[str | bytes]) -> None:
        """Store messages of the peer; those that nobody will receive are dropped."""
        if self._end is not None:
            return
        for data in messages:
            size = getsizeof(data)
            if size < SMALLEST_MESSAGE:
                size = SMALLEST_MESSAGE
            self._messages.append((data, size))
            self.queued += size
        self.wake()

    def disconnect(self, code: int, reason: str) -> None:
        """Take note that the WebSocket has ended, but not by the application; the first end counts.

        The application's task runs on: it is told by ``receive()`` and ``send()``.
        """
        if self._end is None:
            self._end = (code, reason)
            self.wake()
        self._response.disconnect()

    # What the application calls.

    async def receive(self) -> Message:
        """Give ``websocket.connect``, the messages, then ``websocket.disconnect`` for ever."""
        if not self._connect_given:
            self._connect_given = True
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._end is not None:
                code, reason = self._end
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            await self.wait()
        data, size = self._messages.popleft()
        self.queued -= size
        if not self._messages:
            self._sink.messages_taken()
        if type(data) is str:
            return {"type": "websocket.receive", "text": data}
        return {"type": "websocket.receive", "bytes": data}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take ``websocket.accept``, ``send``, ``close`` or a message of a denial.

        Raises ``IllegalMessage`` for what ASGI forbids at this point, and
        ``ClientDisconnected`` when the peer is gone.
        """
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise IllegalMessage(f"not a message with a type: {reprlib.repr(message)}") from None
        state = self._state
        if state == _OPEN and self._end is None and kind == "websocket.send":
            sent = self._send(message)
            if sent is not None:
                await sent
            return
        if state == _CLOSED:
            raise IllegalMessage(f"{kind!r} after the WebSocket was closed")
        if state == _DENIED:
            await self._deny(kind, message)
            return
        if self._end is not None:
            raise ClientDisconnected("the client is gone")
        if kind == "websocket.close":
            await self._close(message)
        elif state == _OPEN:
            raise IllegalMessage(f"{reprlib.repr(kind)} on an open WebSocket")
        elif kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.send":
            raise IllegalMessage("'websocket.send' before 'websocket.accept'")
        else:
            await self._deny(kind, message)

    def _send(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) is (data is None):
            raise IllegalMessage("'websocket.send' needs either text or bytes")
        if text is None:
            return self._sink.send_message(octets("bytes", data))
        if not isinstance(text, str):
            raise IllegalMessage(f"text must be str, not {type(text).__name__}")
        try:
            return self._sink.send_message(text)
        except UnicodeEncodeError as error:
            raise IllegalMessage(f"text that has no UTF-8: {error}") from None

    async def _accept(self, message: Mapping[str, Any]) -> None:
        subprotocol = message.get("subprotocol")
        if not (subprotocol is None or isinstance(subprotocol, str)):
            raise IllegalMessage(f"subprotocol must be str, not {type(subprotocol).__name__}")
        # As on HTTP/2 the connection's own fields are dropped: they are the handshake's.
        fields, _ = response_fields(message.get("headers") or (), self._default_fields.fields, "2")
        status = self._sink.accept(subprotocol, fields)
        self._state = _OPEN
        self._response.tunnel_opened(status)
        await see_out(self._sink.flush())

    async def _close(self, message: Mapping[str, Any]) -> None:
        if self._state == _CONNECTING:
            # ASGI, "Close": the client gets a 403, whatever the code is.
            await self._refuse()
            return
        code = message.get("code")
        code = NORMAL_CLOSURE if code is None else code
        reason = message.get("reason") or ""
        if not isinstance(code, int):
            raise IllegalMessage(f"code must be an integer, not {type(code).__name__}")
        if not isinstance(reason, str):
            raise IllegalMessage(f"reason must be str, not {type(reason).__name__}")
        try:
            self._end_by_us(code, reason)
        except UnicodeEncodeError as error:
            raise IllegalMessage(f"reason that has no UTF-8: {error}") from None
        await see_out(self._sink.flush())

    def _end_by_us(self, code: int, reason: str) -> None:
        self._sink.close(code, reason)
        self._state = _CLOSED
        self._end = (code, reason)
        self._messages.clear()
        self.queued = 0
        self.wake()
        self._sink.messages_taken()

    # A response instead.

    async def _refuse(self) -> None:
        fields = [(b"content-type", b"text/plain; charset=utf-8")]
        start, body = _DENIAL
        await self._deny(start, {"status": 403, "headers": fields})
        await self._deny(body, {"body": _FORBIDDEN_BODY})

    async def _deny(self, kind: Any, message: Mapping[str, Any]) -> None:
        """Take a part of a response (ASGI extension ``websocket.http.response``)."""
        if kind not in _DENIAL:
            when = "after a denial" if self._state == _DENIED else "before 'websocket.accept'"
            raise IllegalMessage(f"{reprlib.repr(kind)} {when}")
        kind = kind.removeprefix(_DENIAL_PREFIX)
        if self._response.request.http_version == "2" and _is_successful(message.get("status")):
            # RFC 8441 section 5: over HTTP/2 it would accept the WebSocket.
            raise IllegalMessage("the status of a denial must not be from 200 to 299")
        try:
            await self._response.send({**message, "type": kind})
        finally:
            if self._response.answered:
                self._end = (ABNORMAL_CLOSURE, "")
                self.wake()
        self._state = _DENIED

    # The task.

    async def run(self, app: Application) -> None:
        """Run the application and answer for whatever it leaves undone.

        Raises nothing but what stops a task or the process.
        """
        await self._response.run(partial(self._run, app))

    async def _run(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        code = INTERNAL_ERROR
        try:
            await app(scope, self.receive, self.send)
            code = NORMAL_CLOSURE
        finally:
            # RFC 6455 section 7.4.1; before the acceptance it is the response's to answer.
            if self._state == _OPEN and self._end is None:
                self._response.tunnel_left()
                self._end_by_us(code, "")


def _is_successful(status: Any) -> bool:
    return isinstance(status, int) and 200 <= status <= 299
