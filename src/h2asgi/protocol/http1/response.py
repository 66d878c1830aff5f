"""How responses look on an HTTP/1.1 connection, and the bytes that wait to be sent."""

from __future__ import annotations

from collections import deque
from http import HTTPStatus

from ..events import Headers
from .heads import connection_options

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}


def informational_head(status: int, headers: Headers) -> bytes:
    """Write a 1xx response: a head and nothing else (RFC 9110 section 15.2)."""
    return _status_line(status) + _field_lines(headers) + b"\r\n"


class Response:
    """The final response to one request: bytes to send come out, no connection is touched.

    ``persistent`` says whether the connection may outlive the response
    (RFC 9112 section 9.3). It starts as what the request allows; ``head`` takes
    the response's own fields and framing into account and announces the result.
    """

    __slots__ = ("_chunked", "_method", "_remaining", "begun", "ended", "persistent", "version")

    def __init__(self, method: str, http_version: str, persistent: bool) -> None:
        self._method = method
        self.version = http_version
        self._chunked = False
        # Octets of body that may still be sent; None when the close ends the body.
        self._remaining: int | None = None
        self.persistent = persistent
        self.begun = False
        self.ended = False

    def head(self, status: int, headers: Headers, end_stream: bool) -> bytes:
        """Write status line and fields, and choose the framing of the body."""
        self.begun = True
        pieces = [_status_line(status)]
        content_length: int | None = None
        for name, value in headers:
            if name == b"connection":
                # The one option that an application may set; the rest is said below.
                if b"close" in connection_options(value):
                    self.persistent = False
                continue
            if name == b"content-length":
                if status == 204:
                    continue  # RFC 9110 section 8.6
                content_length = int(value)
            pieces.append(b"%b: %b\r\n" % (name, value))
        pieces.append(self._frame(status, content_length, end_stream))
        if not self.persistent:
            pieces.append(b"connection: close\r\n")  # RFC 9112 section 9.6
        elif self.version == "1.0":
            pieces.append(b"connection: keep-alive\r\n")
        pieces.append(b"\r\n")
        return b"".join(pieces)

    def _frame(self, status: int, content_length: int | None, end_stream: bool) -> bytes:
        """Choose the framing (RFC 9112 section 6.3) and return the field that declares it."""
        if self._method == "HEAD" or status in (204, 304):
            self._remaining = 0
        elif content_length is not None:
            self._remaining = content_length
        elif end_stream:
            self._remaining = 0
            return b"content-length: 0\r\n"
        elif self.version == "1.1":
            self._chunked = True
            return b"transfer-encoding: chunked\r\n"
        else:
            self.persistent = False
        return b""

    def body(self, data: bytes) -> tuple[bytes, ...]:
        """Frame a piece of the body; what goes beyond the declared length is dropped."""
        if self._chunked:
            # An empty chunk would end the body (RFC 9112 section 7.1).
            return (b"%x\r\n" % len(data), data, b"\r\n") if data else ()
        if self._remaining is not None:
            data = data[: self._remaining]
            self._remaining -= len(data)
        return (data,) if data else ()

    @property
    def complete(self) -> bool:
        """Whether the body may end here: as many octets were sent as were declared."""
        return not self._remaining

    def end(self, trailers: Headers) -> bytes:
        """End the body; trailers only fit into the chunked coding (RFC 9112 section 7.1.2)."""
        self.ended = True
        if not self._chunked:
            return b""
        return b"0\r\n" + _field_lines(trailers) + b"\r\n"


class SendQueue:
    """Bytes that wait for the transport. A large piece is sliced, never moved."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0

    def push(self, data: bytes) -> None:
        """Append bytes."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self, limit: int) -> bytes:
        """Remove up to ``limit`` bytes from the front and return them."""
        pieces = self._pieces
        if self.size <= limit:
            taken = b"".join(pieces)
            pieces.clear()
            self.size = 0
            return taken
        selected = []
        room = limit
        while room > 0:
            piece = pieces.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            selected.append(piece)
            room -= len(piece)
        self.size -= limit
        return b"".join(selected)


def _status_line(status: int) -> bytes:
    # RFC 9112 section 4: the space stays where there is no reason phrase.
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def _field_lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in headers])
