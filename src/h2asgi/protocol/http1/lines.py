"""The input of an HTTP/1.1 connection, cut strictly into sections, chunk sizes and body octets.

Libraries differ in what they let through (bare LF, obs-fold, control characters,
white space in chunk lines), so none of them sees octets that are in doubt. The
buffer is bounded, and a verdict depends on the octets alone, never on how they
were cut into reads: the first octet at which something is known to be wrong decides.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from ..events import Headers
from ..headers import RequestError, RequestHead, http1_request, trailers

MAX_FIELDS: Final = 256
"""Fields in one section: several times what browsers and proxies send together, and few
enough that a head full of one-letter fields costs no more than an honest one."""

MAX_REQUEST_LINE_SHARE: Final = 2
"""The request line may take half of ``max_head_size``: with the default far beyond the 8000
octets that RFC 9112 section 3 asks for, and 414 is told apart from 431."""

MAX_CHUNK_SIZE_DIGITS: Final = 16
"""A chunk of 2^64 octets: more digits only serve to confuse whoever counts in 64 bits."""

MAX_REPORTED_LINE: Final = 256
"""Octets of a rejected request line that are passed on for the access log."""

_TOKEN_OCTETS: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789") | frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
# What may stand nowhere in a section becomes NUL.
_SECTION_OCTETS: Final = bytes(
    0 if (octet < 0x20 and octet not in b"\t\r\n") or octet == 0x7F else octet
    for octet in range(256)
)
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
_plain_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % MAX_CHUNK_SIZE_DIGITS).match
# What mostly comes, extensions and all, so that a body of tiny chunks costs one match for each.
_short_chunk_line = re.compile(
    rb"([0-9A-Fa-f]{1,%d})(;[\t\x20-\x7e\x80-\xff]{0,64})?\r\n" % MAX_CHUNK_SIZE_DIGITS
).match
_request_line = re.compile(rb"([^ ]+) ([^ ]+) HTTP/([0-9]\.[0-9])").fullmatch
_plain_text = re.compile(rb"[\x20-\x7e\x80-\xff]{0,%d}" % MAX_REPORTED_LINE).match
_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


class LineBuffer:
    """Octets that were read and not yet parsed, with strict and bounded ways out.

    Each ``take_...`` returns None until what it is named after has
    arrived, and raises ``RequestError`` as soon as it cannot become that.
    """

    __slots__ = (
        "_extensions_left",
        "_head",
        "_in_body",
        "_max_request_line",
        "_max_section_size",
        "_searched",
        "_start",
        "data",
        "empty_line_seen",
    )

    def __init__(self, max_head_size: int) -> None:
        # A read as it came, which may then be handed on as it is; joined with more, a bytearray.
        self.data: bytes | bytearray = b""
        self._start = 0  # of what is not yet parsed; of nothing when there is no data
        self._searched = 0  # octets from there in which the end of what is expected is not
        self._max_section_size = max_head_size
        self._max_request_line = max_request_line(max_head_size)
        self.begin_request()

    def __len__(self) -> int:
        return len(self.data) - self._start

    def begin_request(self) -> None:
        """Expect a request head; the next section is then its trailers."""
        self._head = b""
        self._in_body = False
        self.empty_line_seen = False
        self._extensions_left = self._max_section_size

    def expect_body(self, head: bytes) -> None:
        """Expect what follows the head of a request that has a body."""
        self._head = head
        self._in_body = True

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take a copy of ``data``."""
        if not self.data:
            # The same as ``bytes(data)``, in half the time for a small read.
            self.data = bytes(data) if isinstance(data, (bytes, bytearray)) else data.tobytes()
            return
        if isinstance(self.data, bytes):
            self.data = bytearray(memoryview(self.data)[self._start :])
        else:
            del self.data[: self._start]  # which moves nothing
        self._start = 0
        self.data += data

    def peek_head(self) -> bytes | None:
        """Show the octets up to the first empty line, unchecked; None without one."""
        data = self.data
        start = self._start
        end = data.find(b"\r\n\r\n", start + self._searched - 3 if self._searched > 3 else start)
        return None if end < 0 else bytes(data[start : end + 4])

    def take_head(self) -> bytes | None:
        """Take a request head, with the empty line that ends it.

        That no line begins with white space is left to whoever parses it: see ``recheck_head``.
        """
        if not self.data:
            return None
        if not self.empty_line_seen and self._take_empty_line():
            # RFC 9112 section 2.2: one empty line before a request is ignored.
            self.empty_line_seen = True
        head = self._take_section()
        if head is not None:
            self._head = head
            self._in_body = True
            if head.count(b"\n") - 2 > MAX_FIELDS:
                self.recheck_head()
                raise RequestError(431, "too many fields")
        return head

    def recheck_head(self) -> None:
        """Raise if the head that was taken has a line that begins with white space.

        Such a head is wrong from that octet on, whatever else is.
        """
        if _illegal_octet(self._head):
            raise RequestError(400, "illegal octet")

    def take_trailers(self) -> Headers | None:
        """Take a trailer section with the empty line that ends it."""
        if self._take_empty_line():
            return []
        section = self._take_section()
        if section is None:
            return None
        if _illegal_octet(section):
            raise RequestError(400, "illegal octet")
        lines = section[:-4].split(b"\r\n")
        if len(lines) > MAX_FIELDS:
            raise RequestError(431, "too many fields")
        return trailers(_fields(lines))

    def take_chunk_size(self) -> int | None:
        """Take a chunk's size and extensions, with the line end."""
        data = self.data
        start = self._start
        match = _plain_chunk_line(data, start)
        if match is not None:
            self._drop(match.end() - start)
            return int(match[1], 16)
        end = data.find(b"\r\n", start + max(0, self._searched - 1)) - start
        # Without an end the last octet may be a CR, which is no part of the line.
        length = len(data) - start - 1 if end < 0 else end
        limit = MAX_CHUNK_SIZE_DIGITS + self._extensions_left
        self._check_octets(min(length, limit) + 2)
        if length > limit:
            raise RequestError(431, "chunk extensions too large")
        if end < 0:
            self._searched = len(data) - start
            return None
        match = _chunk_line(bytes(data[start : start + end]))
        if match is None:
            raise RequestError(400, "malformed chunk line")
        # RFC 9112 section 7.1.1: extensions are bounded over the whole request.
        self._extensions_left -= end - match.end(1)
        if self._extensions_left < 0:
            raise RequestError(431, "chunk extensions too large")
        self._drop(end + 2)
        return int(match[1], 16)

    def take_chunk_end(self) -> Literal[True] | None:
        """Take the line end behind a chunk."""
        start = self.data[self._start : self._start + 2]
        if not b"\r\n".startswith(start):
            raise RequestError(400, "malformed request body")
        if len(start) < 2:
            return None
        self._drop(2)
        return True

    def take_whole_chunks(self) -> list[bytes | bytearray]:
        """Take the chunks that are here whole, in front of the last one.

        Those whose line is in doubt, or has many extensions, are left to ``take_chunk_size``.
        """
        data = self.data
        at = self._start
        extensions_left = self._extensions_left
        chunks = []
        while match := _short_chunk_line(data, at):
            size, extensions = match.groups()
            begin = match.end()
            end = begin + int(size, 16)
            if begin == end or data[end : end + 2] != b"\r\n":
                break
            if extensions is not None:
                if len(extensions) > extensions_left:
                    break
                extensions_left -= len(extensions)
            chunks.append(data[begin:end])
            at = end + 2
        if chunks:
            self._extensions_left = extensions_left
            self._drop(at - self._start)
        return chunks

    def take(self, count: int) -> bytes:
        """Take up to ``count`` body octets, copied once at the most."""
        data = self.data
        if not self._start and len(data) <= count:
            self.data = b""
            self._searched = 0
            return bytes(data)  # which is a read as it came, in most cases
        taken = self._first(count)
        self._drop(len(taken))
        return taken

    def request_line(self) -> tuple[str, bytes, str]:
        """Make out method, target and HTTP version of a request that was rejected."""
        text = _plain_text(self._head if self._in_body else self.data[self._start :])
        assert text is not None
        parts = text[0].split(b" ")
        if len(parts) < 2 or not _token(parts[0]):
            return "", b"", "1.1"
        version = "1.0" if parts[2:] == [b"HTTP/1.0"] else "1.1"
        return parts[0].decode("ascii"), bytes(parts[1]), version

    def _first(self, count: int) -> bytes:
        data = self.data
        if type(data) is bytes:
            return data[self._start : self._start + count]
        with memoryview(data) as view:
            return bytes(view[self._start : self._start + count])

    def _drop(self, count: int) -> None:
        self._start += count
        self._searched = 0
        if self._start == len(self.data):
            self.data = b""
            self._start = 0

    def _take_empty_line(self) -> bool:
        if not self.data.startswith(b"\r\n", self._start):
            return False
        self._drop(2)
        return True

    def _take_section(self) -> bytes | None:
        data = self.data
        start = self._start
        if (
            len(data) - start == 1
            and data[start] == 13
            and (self._in_body or not self.empty_line_seen)
        ):
            return None  # the CR of an empty line that is allowed here
        end = data.find(b"\r\n\r\n", start + max(0, self._searched - 3))
        if end < 0:
            self._check_section(len(data) - start)
            self._searched = len(data) - start
            return None
        size = end + 4 - start
        if size <= self._max_section_size:
            section = self._first(size)
            if self._is_clean(section):
                self._drop(size)
                return section
        self._check_section(size)
        raise RequestError(400, "illegal octet")

    def _is_clean(self, section: bytes) -> bool:
        """Say whether ``_check_section`` could at most find white space before a line."""
        count = section.count(b"\r\n")
        return (
            section[0] in _TOKEN_OCTETS
            and 0 not in section.translate(_SECTION_OCTETS)
            and section.count(b"\r") == count
            and section.count(b"\n") == count
            and (self._in_body or section.find(b"\r\n") <= self._max_request_line)
        )

    def _check_section(self, size: int) -> None:
        """Find the first thing wrong with the first ``size`` octets."""
        if not self._in_body:
            limit = self._max_request_line + 2
            self._check_octets(min(size, limit))
            start = self._start
            if size >= limit and self.data.find(b"\r\n", start, start + limit) < 0:
                raise RequestError(414, "request line too long")  # RFC 9112 section 3
        self._check_octets(min(size, self._max_section_size))
        if size > self._max_section_size:
            raise RequestError(431, "fields too large")  # RFC 6585 section 5

    def _check_octets(self, stop: int) -> None:
        data = self.data
        if self._start:  # the pattern knows the first octet by its place
            data = data[self._start : self._start + stop]
        if _illegal_octet(data, max(0, self._searched - 1), stop):
            raise RequestError(400, "illegal octet")


def max_request_line(max_head_size: int) -> int:
    """Octets that a request line may have without its line end."""
    return max_head_size // MAX_REQUEST_LINE_SHARE


def parse_head(head: bytes) -> tuple[RequestHead, str]:
    """Parse a head as ``LineBuffer.take_head`` returns it; raises ``RequestError``."""
    lines = head[:-4].split(b"\r\n")
    request_line = _request_line(lines[0])
    if request_line is None:
        raise RequestError(400, "malformed request line")
    method, target, version = request_line.groups()
    if version not in (b"1.0", b"1.1"):
        raise RequestError(505, "HTTP version not supported")  # RFC 9110 section 15.6.6
    fields = _fields(lines[1:])
    request = http1_request(method, target, version, fields, values_checked=True)
    return request, version.decode("ascii")


def _fields(lines: list[bytes]) -> Headers:
    # Without a colon there is no name, which is a malformed one.
    return [
        (name.lower() if colon else b"", value.strip(b" \t"))
        for name, colon, value in [line.partition(b":") for line in lines]
    ]
