"""The response of one request: what the application sends, checked and handed on.

A response goes through these states:

    AWAITING_START -> START_HELD -> BODY [-> TRAILERS] -> OVER
                                                          ^ reset, from any state before it

TRAILERS is for those whose start has announced them. Nothing here waits: that
is in ``coroutines.py``, and in ``file_body.py`` for files, whose pieces the server
reads itself.

A message that is refused changes nothing, unless part of the response is
already on its way: then the stream is reset, since the client could not tell a
broken response from a whole one otherwise.
"""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from ..errors import ClientDisconnected, ErrorCode, IllegalMessage
from ..request import Request
from .fields import Fields, link_fields, octets, response_fields, trailer_fields
from .file_body import send_file
from .files import part_of_file, whole_file
from .sink import Sink

# Plain integers: they are compared several times for every message.
AWAITING_START: Final = 0
START_HELD: Final = 1  # ASGI: the head waits for the first body message
BODY: Final = 2
TRAILERS: Final = 3  # the body is complete, and trailers were announced
OVER: Final = 4  # complete, or reset by this side


class DefaultFields(Protocol):
    """Fields that the server adds to every response; ``date`` makes them change."""

    fields: Fields


class Response:
    """The sending half of an exchange, which ``asgi.http.HTTPCycle`` makes whole.

    ``status`` (0 when no response was begun) and ``body_size`` (octets handed
    to the sink) are what the access log wants. ``began``, when the request came,
    is the connection's to set.
    """

    __slots__ = (
        "_content_left",
        "_default_fields",
        "_disconnected",
        "_finished",
        "_held_fields",
        "_held_status",
        "_no_content",
        "_sending_file",
        "_sink",
        "_state",
        "_trailers",
        "began",
        "body_size",
        "request",
        "status",
        "stream_id",
    )

    def __init__(self, sink: Sink, request: Request, default_fields: DefaultFields) -> None:
        self._sink = sink
        self.request = request
        self.stream_id = request.stream_id
        self._default_fields = default_fields
        self.began = 0.0

        # What is held comes with START_HELD, and is not looked at before.
        self._state = AWAITING_START
        self._held_status: int
        self._held_fields: Fields
        self._content_left: int | None
        self._no_content: bool
        self._trailers: Fields | None  # so far; None if none were announced

        self._sending_file = False
        self._disconnected = False
        self._finished = False
        self.status = 0
        self.body_size = 0

    @property
    def over(self) -> bool:
        """Whether the application has nothing left to send."""
        return self._state == OVER

    @property
    def finished(self) -> bool:
        """Whether the sink was told of the end."""
        return self._finished

    @property
    def answered(self) -> bool:
        """Whether the client has its whole response, whatever the application has yet to send."""
        return self._state == OVER or (self._state >= BODY and self._no_content)

    def _close_request(self) -> None:
        """Take note that nobody is to read on in the request."""
        raise NotImplementedError

    def take(self, message: Mapping[str, Any]) -> Awaitable[None] | None:
        """Check a message of the application and queue what it says; ``send()`` without its wait.

        What this gives sees it out, and is awaited at once, whatever ``send()`` says of it in
        between; None says that nothing is to be awaited. Raises as ``HTTPCycle.send`` says.
        """
        try:
            if type(message) is not dict:
                if not isinstance(message, Mapping):
                    raise TypeError
                message = dict(message)
            kind = message["type"]
        except (KeyError, TypeError):
            raise IllegalMessage(f"not a message with a type: {reprlib.repr(message)}") from None
        if self._state == OVER:
            raise IllegalMessage(f"{kind!r} after the response was over")
        if self._disconnected:
            raise ClientDisconnected("the client is gone")
        if self._sending_file:
            raise self.refusal(f"{reprlib.repr(kind)} while a file is being sent")
        if isinstance(kind, str) and kind == "http.response.start":  # compiled, that is cheap
            self._hold_start(message)
            return None
        if isinstance(kind, str) and kind == "http.response.body":
            sent = self.send_body(message)
        else:
            sent = self._take_extension(kind, message)
        if sent is None and self._state == OVER:
            self.finish()
        return sent

    def _hold_start(self, message: dict[str, Any]) -> None:
        if self._state != AWAITING_START:
            raise self.refusal("'http.response.start' for the second time")
        status = message.get("status")
        # Three digits, and not an interim response (RFC 9110 section 15).
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise IllegalMessage(
                f"status must be an integer from 200 to 999, not {reprlib.repr(status)}"
            )
        fields, content_length = response_fields(
            message.get("headers", ()), self._default_fields.fields, self.request.http_version
        )
        # RFC 9110 sections 6.4.1 and 15.3.6: these never have content, whatever the fields say.
        is_empty = status == 204 or status == 205
        self._no_content = self.request.method == "HEAD" or is_empty or status == 304
        self._content_left = None if self._no_content else content_length
        if is_empty and content_length is not None:
            # Section 8.6; for 205 the engine says that there is none.
            fields = [field for field in fields if field[0] != b"content-length"]
        self._trailers = None
        if message.get("trailers"):
            self._trailers = []
            if self._needs_chunks and not self._no_content:
                fields = [field for field in fields if field[0] != b"content-length"]
        self._held_status = status if type(status) is int else int(status)
        self._held_fields = fields
        self._state = START_HELD

    def send_body(self, message: dict[str, Any]) -> Awaitable[None] | None:
        """Queue a piece of the body, the head before the first; give what sees it out, if any."""
        if not START_HELD <= self._state <= BODY:
            raise self.refusal("'http.response.body' before the start or behind the last")
        data = message.get("body", b"")
        if type(data) is not bytes:
            data = self._body_octets(data)
        last = not message.get("more_body", False)
        ends = last and self._trailers is None
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
        if self._state == START_HELD:
            if ends and not no_content:
                stream_ended = not size
                if left is None:
                    self._held_fields.append((b"content-length", b"%d" % size))
            self._state = BODY
            self.status = self._held_status
            self._sink.send_headers(
                self.stream_id, self._held_status, self._held_fields, stream_ended
            )
        if last:
            self._state = OVER if ends else TRAILERS
        if ends or no_content:
            # The client has its response, so receive() has nothing left to wait for.
            self._close_request()
        self.body_size += size
        if stream_ended or not (size or ends):
            return self._sink.flush()
        return self._sink.send_data(self.stream_id, data, ends)

    def _wrong_length(self, left: int) -> IllegalMessage:
        if left < 0:
            return self.refusal(f"body longer than its content-length, by {-left} octets")
        return self.refusal(f"body shorter than its content-length, by {left} octets")

    def _body_octets(self, data: Any) -> bytes:
        try:
            return octets("a body", data)
        except IllegalMessage as error:
            raise self.refusal(str(error)) from None

    # Extensions.

    @property
    def _needs_chunks(self) -> bool:
        """Whether trailers need a body in chunks to come behind (RFC 9112 section 7.1.2)."""
        return self.request.accepts_trailers and self.request.http_version == "1.1"

    def _take_extension(self, kind: Any, message: dict[str, Any]) -> Awaitable[None] | None:
        if kind == "http.response.trailers":
            return self._send_trailers(message)
        if kind == "http.response.early_hint":
            return self._send_early_hint(message)
        if kind == "http.response.pathsend":
            return self._send_path(message)
        if kind == "http.response.zerocopysend":
            return self._send_open_file(message)
        raise self.refusal(f"unknown message type: {reprlib.repr(kind)}")

    def _send_trailers(self, message: dict[str, Any]) -> Awaitable[None] | None:
        """Queue the trailers once they are complete; where they have no place they are dropped."""
        trailers = self._trailers if self._state == TRAILERS else None
        if trailers is None:
            raise self.refusal("'http.response.trailers' not announced, or before the body's end")
        try:
            trailers += trailer_fields(message.get("headers", ()))
        except IllegalMessage as error:
            raise self.refusal(str(error)) from None
        if message.get("more_trailers", False):
            return self._sink.flush()
        self._state = OVER
        self._close_request()
        if self._no_content:
            return self._sink.flush()
        if trailers and self.request.accepts_trailers:
            return self._sink.send_trailers(self.stream_id, trailers)
        return self._sink.send_data(self.stream_id, b"", True)

    def _send_early_hint(self, message: dict[str, Any]) -> Awaitable[None] | None:
        if self._state >= BODY:
            raise self.refusal("'http.response.early_hint' behind the head of the response")
        fields = link_fields(message.get("links", ()))
        if fields:
            self._sink.send_informational(self.stream_id, 103, fields)  # RFC 8297
        return self._sink.flush()

    def _send_path(self, message: dict[str, Any]) -> Awaitable[None]:
        path = message.get("path")
        if self._state != START_HELD:
            raise self.refusal("'http.response.pathsend' before the start or behind a body")
        if not isinstance(path, str):
            raise IllegalMessage(f"path must be str, not {type(path).__name__}")
        return send_file(self, reprlib.repr(path), partial(whole_file, path), False)

    def _send_open_file(self, message: dict[str, Any]) -> Awaitable[None]:
        if self._state not in (START_HELD, BODY):
            raise self.refusal("'http.response.zerocopysend' before the start or behind the body")
        file = message.get("file")
        offset, count = message.get("offset"), message.get("count")
        for value in (offset, count):
            if not (value is None or (isinstance(value, int) and value >= 0)):
                raise self.refusal(f"neither an offset nor a count: {reprlib.repr(value)}")
        if not (isinstance(file, int) or hasattr(file, "fileno")):
            raise self.refusal(f"file must have a descriptor: {reprlib.repr(file)}")
        locate = partial(part_of_file, file, offset, count)
        return send_file(self, "the file", locate, bool(message.get("more_body", False)))

    def begin_file(self) -> bool:
        """Take no messages until ``end_file``; says whether the content of the file is wanted."""
        self._sending_file = True
        return not self._no_content

    def end_file(self) -> None:
        """Take messages again, if the response goes on."""
        self._sending_file = False
        if self._state == OVER:
            self.finish()

    def check_wanted(self) -> None:
        """Raise if a file that is there now has nobody to go to."""
        if self._disconnected:
            raise ClientDisconnected("the client is gone")
        if self._state == OVER:
            raise IllegalMessage("the response was over before its file was sent")

    def judge_length(self, size: int, more_body: bool) -> None:
        """Compare what a file has with the content-length, which it tells if it is all there is."""
        left = self._content_left
        if left is not None:
            if size > left or (size < left and not more_body):
                raise self._wrong_length(left - size)
        elif (
            self._state == START_HELD
            and not (more_body or self._no_content)
            and self._trailers is None
        ):
            self._held_fields.append((b"content-length", b"%d" % size))
            self._content_left = size

    def outlet(self) -> Awaitable[int] | None:
        """Give where a file may be written to past everything, see ``Sink.outlet``."""
        return self._sink.outlet(self.stream_id)

    def note_passed(self, size: int) -> None:
        """Count octets of a file that were written there."""
        self.body_size += size
        if self._content_left is not None:
            self._content_left -= size
        self._sink.note_passed(self.stream_id, size)

    def refusal(self, reason: str) -> IllegalMessage:
        """Give the error for a refused message, having reset a stream that is under way."""
        if self._state >= BODY:
            self.abandon()
        return IllegalMessage(reason)

    def abandon(self) -> None:
        """Reset the stream, unless its response is over or its client gone."""
        if self.answered or self._disconnected:
            self.finish()
            return
        self._state = OVER
        self._close_request()
        self._sink.reset_stream(self.stream_id, ErrorCode.INTERNAL_ERROR)
        self.finish()

    def finish(self) -> None:
        """Tell the sink, once, that the response ended or will never end."""
        if not self._finished:
            self._finished = True
            self._sink.request_finished(self)
