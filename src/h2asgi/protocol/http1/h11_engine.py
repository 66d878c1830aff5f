"""HTTP/1.1 on h11.

h11 is laxer than this server (bare LF, obs-fold, control characters, white
space in chunk lines), so it reads from a buffer of ours that hands out lines
only once they are beyond doubt. Each request is read by a ``h11.Connection`` of
its own over that one buffer, and responses are written without it: h11's view
of upgrades, of HTTP/1.0 keep-alive and of the other direction then never
stands in the way of the next request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

import h11
from h11._receivebuffer import ReceiveBuffer  # what we override is why h11 is pinned to 0.16

from ...config import HTTP1Config, Timeouts
from ..events import Headers
from ..headers import RequestError, RequestHead, http1_request, trailers
from .engine import HTTP1Engine

MAX_FIELDS = 256
"""Fields in one section: several times what browsers and proxies send together, and few
enough that a head full of one-letter fields costs no more than an honest one."""

MAX_REQUEST_LINE_SHARE = 2
"""The request line may take half of ``max_head_size``: with the default far beyond the 8000
octets that RFC 9112 section 3 asks for, and 414 is told apart from 431."""

MAX_CHUNK_SIZE_DIGITS = 16
"""A chunk of 2^64 octets: more digits only serve to confuse whoever counts in 64 bits."""

MAX_REPORTED_LINE = 256
"""Octets of a rejected request line that are passed on for the access log."""

_UNLIMITED = 2**62  # h11 has no say in sizes: the buffer has

_TOKEN_OCTETS = frozenset(b"!#$%&'*+-.^_`|~0123456789") | frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_TEXT = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
# RFC 9112 section 2.2: a bare CR, and since nobody needs it a bare LF, is malformed.
# Section 5.2: so is a line that continues the one before, in any section.
_illegal_octet = re.compile(
    rb"\A[^!#$%&'*+\-.^_`|~0-9A-Za-z]|\r(?!\n|\Z)|(?<!\r)\n|\n[ \t]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
).search
# RFC 9112 section 7.1; no white space before an extension, or before the line's end without one.
_chunk_line = re.compile(
    rb"([0-9A-Fa-f]{1,%d})(?:;[\t\x20-\x7e\x80-\xff]*)?" % MAX_CHUNK_SIZE_DIGITS
).fullmatch
_request_line = re.compile(rb"([^ ]+) ([^ ]+) HTTP/([0-9]\.[0-9])").fullmatch
_plain_text = re.compile(rb"[\x20-\x7e\x80-\xff]{0,%d}" % MAX_REPORTED_LINE).match
_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


class H11Engine(HTTP1Engine):
    """The HTTP/1.1 engine in pure Python."""

    name: ClassVar[str] = "h11"

    def __init__(self, config: HTTP1Config, timeouts: Timeouts, now: float) -> None:
        super().__init__(_Parser(config.max_head_size), config, timeouts, now)


class _Parser:
    """``RequestParser`` on h11."""

    def __init__(self, max_head_size: int) -> None:
        self._buffer = _StrictBuffer(max_head_size)
        self._connection: h11.Connection | None = None
        self._error: RequestError | None = None
        self.trailers: Headers | None = None

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def started(self) -> bool:
        return len(self._buffer) > 0 or self._buffer.empty_line_seen

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer.append(data)

    def read_head(self) -> tuple[RequestHead, str] | None:
        if not self._buffer:
            return None
        connection = self._connection
        if connection is None:
            connection = self._connection = h11.Connection(h11.SERVER, _UNLIMITED)
            connection._receive_buffer = self._buffer
            self.trailers = None
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            event = None
        else:
            if event is h11.NEED_DATA:
                return None
        # h11 merges repeated fields and has reasons of its own for what it rejects;
        # the lines as they came, and our rules, decide what the request is.
        head, version = _parse_head(self._buffer.lines)
        if event is None:
            raise RequestError(400, "malformed request head")
        if not head.chunked and not head.content_length:
            self._end_request()
        return head, version

    def read_body(self) -> bytes:
        if self._error is not None:
            raise self._error
        pieces = []
        try:
            for piece in self._body_pieces():
                pieces.append(piece)
        except RequestError as error:
            if not pieces:
                raise
            # What came before the mistake is delivered first, however it was cut into reads.
            self._error = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _body_pieces(self) -> Iterator[bytes]:
        connection = self._connection
        assert connection is not None
        try:
            event = connection.next_event()
            while type(event) is h11.Data:
                yield event.data
                event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise RequestError(400, "malformed request body") from error
        if type(event) is h11.EndOfMessage:
            self.trailers = trailers(event.headers)
            self._end_request()

    def _end_request(self) -> None:
        self._connection = None
        self._buffer.begin_request()

    def request_line(self) -> tuple[str, bytes, str]:
        text = _plain_text(self._buffer.first_line)
        assert text is not None
        parts = text[0].split(b" ")
        if len(parts) < 2 or not _token(parts[0]):
            return "", b"", "1.1"
        return parts[0].decode("ascii"), parts[1], "1.0" if parts[2:] == [b"HTTP/1.0"] else "1.1"


class _StrictBuffer(ReceiveBuffer):
    """h11's receive buffer, with its three ways out made strict and bounded.

    A verdict depends on the octets alone, never on how they were cut into
    reads: the first octet at which something is known to be wrong decides.
    With control characters kept out here, h11's patterns match in linear time.
    """

    def __init__(self, max_head_size: int) -> None:
        super().__init__()
        self._max_section_size = max_head_size
        self._max_request_line = max_head_size // MAX_REQUEST_LINE_SHARE
        self.lines: list[bytes] = []
        self.begin_request()

    def begin_request(self) -> None:
        """Expect a request head; the next section is then its trailers."""
        self.lines = []
        self.empty_line_seen = False
        self._extensions_left = self._max_section_size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take a copy of ``data``."""
        self._data += data

    @property
    def first_line(self) -> bytes:
        return self.lines[0] if self.lines else bytes(self._data[: MAX_REPORTED_LINE + 1])

    def maybe_extract_lines(self) -> list[bytes] | None:  # type: ignore[override]
        """Take a whole head or trailer section, without line ends and the empty line."""
        data = self._data
        if self.lines or not self.empty_line_seen:
            # No trailers; or RFC 9112 section 2.2: one empty line before a request is ignored.
            if data == b"\r":
                return None
            if data[:2] == b"\r\n":
                self._extract(2)
                if self.lines:
                    return []
                self.empty_line_seen = True
        end = data.find(b"\r\n\r\n", max(0, self._multiple_lines_search - 3))
        if end < 0:
            self._check_section(len(data))
            self._multiple_lines_search = len(data)
            return None
        lines = self._clean_lines(end)
        if lines is None:
            self._check_section(end + 4)
            raise RequestError(400, "illegal octet")
        if len(lines) - (not self.lines) > MAX_FIELDS:
            raise RequestError(431, "too many fields")
        if not self.lines:
            self.lines = lines
        self._extract(end + 4)
        return lines

    def _clean_lines(self, end: int) -> list[bytes] | None:
        """Split the section that ends here, unless ``_check_section`` has to look closer."""
        if end + 4 > self._max_section_size:
            return None
        section = bytes(self._data[: end + 2])
        # Beside text there is nothing but whole CRLFs, and no line begins with white space.
        if (
            section[0] not in _TOKEN_OCTETS
            or len(section.translate(None, _TEXT)) != 2 * section.count(b"\r\n")
            or b"\n " in section
            or b"\n\t" in section
        ):
            return None
        lines = section[:-2].split(b"\r\n")
        if not self.lines and len(lines[0]) > self._max_request_line:
            return None
        return lines

    def _check_section(self, size: int) -> None:
        """Find the first thing wrong with the first ``size`` octets."""
        searched = max(0, self._multiple_lines_search - 1)
        if not self.lines:
            limit = self._max_request_line + 2
            self._check_octets(searched, min(size, limit))
            if size >= limit and self._data.find(b"\r\n", 0, limit) < 0:
                raise RequestError(414, "request line too long")  # RFC 9112 section 3
        self._check_octets(searched, min(size, self._max_section_size))
        if size > self._max_section_size:
            raise RequestError(431, "fields too large")  # RFC 6585 section 5

    def _check_octets(self, start: int, stop: int) -> None:
        if _illegal_octet(self._data, start, stop):
            raise RequestError(400, "illegal octet")

    def maybe_extract_next_line(self) -> bytearray | None:
        """Take a chunk's size and extensions, with the line end."""
        data = self._data
        searched = max(0, self._next_line_search - 1)
        end = data.find(b"\r\n", searched)
        # Without an end the last octet may be a CR, which is no part of the line.
        size = len(data) - 1 if end < 0 else end
        limit = MAX_CHUNK_SIZE_DIGITS + self._extensions_left
        self._check_octets(searched, min(size, limit) + 2)
        if size > limit:
            raise RequestError(431, "chunk extensions too large")
        if end < 0:
            self._next_line_search = len(data)
            return None
        match = _chunk_line(bytes(data[:end]))
        if match is None:
            raise RequestError(400, "malformed chunk line")
        # RFC 9112 section 7.1.1: extensions are bounded over the whole request.
        self._extensions_left -= end - match.end(1)
        if self._extensions_left < 0:
            raise RequestError(431, "chunk extensions too large")
        return self._extract(end + 2)

    def maybe_extract_at_most(self, count: int) -> bytes | None:  # type: ignore[override]
        """Take body octets, copied once."""
        data = self._data
        if not data:
            return None
        if count >= len(data):
            taken = bytes(data)
            data.clear()
        else:
            with memoryview(data) as view:
                taken = bytes(view[:count])
            del data[:count]
        return taken

    def is_next_line_obviously_invalid_request_line(self) -> bool:
        """h11's early guess; ours is made above."""
        return False


def _parse_head(lines: list[bytes]) -> tuple[RequestHead, str]:
    request_line = _request_line(lines[0])
    if request_line is None:
        raise RequestError(400, "malformed request line")
    method, target, version = request_line.groups()
    if version not in (b"1.0", b"1.1"):
        raise RequestError(505, "HTTP version not supported")  # RFC 9110 section 15.6.6
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        # Without a colon there is no name, which is a malformed one.
        fields.append((name.lower() if colon else b"", value.strip(b" \t")))
    return http1_request(method, target, version, fields), version.decode("ascii")
