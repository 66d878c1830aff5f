"""One request and its response: what of them is still to come, and how the response looks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ..events import Headers
from ..pace import Transfer
from .heads import MAX_KNOWN_OCTETS, list_of_tokens

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_FRAMING_FIELDS: Final = frozenset((b"connection", b"content-length", b"keep-alive", b"upgrade"))


class WrittenHead:
    """The last response head of a connection, which the next one often repeats.

    Only one whose octets follow from status and fields alone: in answer to
    HTTP/1.1, not to HEAD, on a connection that goes on.
    """

    __slots__ = ("chunked", "end_stream", "headers", "octets", "remaining", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.end_stream = False
        self.octets = b""
        self.chunked = False
        self.remaining: int | None = None


class Exchange:
    """One request and its response: octets to send come out, no connection is touched.

    ``persistent`` says whether the connection may outlive the response
    (RFC 9112 section 9.3). It starts as what the request allows; ``head`` takes
    the response's own fields and framing into account and announces the result.
    """

    # What most exchanges never change is the class's: one is made for every request.
    request_ended = True
    awaiting_continue = False
    outstanding = 0  # octets of content-length that have not arrived
    received = 0  # octets of the body
    unread = 0  # octets that the application has not taken
    discarded = 0  # octets that came after the response
    begun = False  # the response
    ended = False  # the response
    chunked = False
    transfer: Transfer | None = None  # of the body, if it was waited for at the last look
    tunnel = False  # both ends speak another protocol now, until both have ended
    remaining: int | None = None  # octets that the response may still send; None: no limit

    def __init__(self, stream_id: int, method: str, version: str, persistent: bool) -> None:
        self.stream_id = stream_id
        self.version = version
        self.persistent = persistent
        self._method = method

    def head(self, status: int, headers: Headers, end_stream: bool, last: WrittenHead) -> bytes:
        """Write status line and fields, and choose the framing of the body."""
        self.begun = True
        plain = self.persistent and self.version == "1.1" and self._method != "HEAD"
        if (
            plain
            and headers == last.headers
            and status == last.status
            and end_stream is last.end_stream
        ):
            self.chunked = last.chunked
            self.remaining = last.remaining
            return last.octets
        octets = self._write_head(status, headers, end_stream)
        if plain and len(octets) <= MAX_KNOWN_OCTETS:
            last.status = status
            last.headers = headers.copy()
            last.end_stream = end_stream
            last.octets = octets
            last.chunked = self.chunked
            last.remaining = self.remaining
        return octets

    def accept_tunnel(self, headers: Headers) -> bytes:
        """Write the head behind which the connection is a tunnel (RFC 9110 section 7.8)."""
        self.begun = self.tunnel = True
        self.persistent = False
        self.request_ended = False  # its end is now that of the peer's half
        return informational_head(101, headers)

    def _write_head(self, status: int, headers: Headers, end_stream: bool) -> bytes:
        lines = [_status_line(status)]
        content_length: int | None = None
        options: list[bytes] = []
        for field in headers:
            name = field[0]
            if name in _FRAMING_FIELDS:
                if name == b"connection":
                    # The one option that an application may set; the rest is said below.
                    if b"close" in list_of_tokens(field[1]):
                        self.persistent = False
                    continue
                if name == b"keep-alive":
                    continue  # how long is not the application's to say
                if name == b"upgrade":
                    options = [b"upgrade"]  # RFC 9110 section 7.8
                elif status == 204:
                    continue  # RFC 9110 section 8.6
                else:
                    content_length = int(field[1])
            lines.append(b": ".join(field))
        lines += self._frame(status, content_length, end_stream)
        if not self.persistent:
            options.append(b"close")  # RFC 9112 section 9.6
        elif self.version == "1.0":
            options.append(b"keep-alive")
        if options:
            lines.append(b"connection: " + b", ".join(options))
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def _frame(
        self, status: int, content_length: int | None, end_stream: bool
    ) -> tuple[bytes, ...]:
        """Choose the framing (RFC 9112 section 6.3) and give the field that declares it."""
        if self._method == "HEAD" or status in (204, 304):
            self.remaining = 0
        elif content_length is not None:
            self.remaining = content_length
        elif end_stream:
            self.remaining = 0
            return (b"content-length: 0",)
        elif self.version == "1.1":
            self.chunked = True
            return (b"transfer-encoding: chunked",)
        else:
            self.persistent = False
        return ()

    def body(self, data: bytes) -> bytes:
        """Count a piece of a body that is not chunked; what goes beyond its length is dropped."""
        remaining = self.remaining
        if remaining is not None:
            if len(data) > remaining:
                data = data[:remaining]
            self.remaining = remaining - len(data)
        return data


def last_chunk(trailers: Headers) -> bytes:
    """End a body in chunks (RFC 9112 section 7.1.2)."""
    return b"0\r\n%b\r\n" % _field_lines(trailers)


def informational_head(status: int, headers: Headers) -> bytes:
    """Write a 1xx response: a head and nothing else (RFC 9110 section 15.2)."""
    return b"%b\r\n%b\r\n" % (_status_line(status), _field_lines(headers))


def _status_line(status: int) -> bytes:
    # RFC 9112 section 4: the space stays where there is no reason phrase.
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def _field_lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in headers])
