"""HTTP/1.1 on httptools, which is llhttp.

llhttp parses heads that ``lines.LineBuffer`` has found to be clean. Where it is laxer
than this server, the head is compared with what was made of it; where it is stricter
(it knows only the methods it was built with), ``lines.parse_head`` decides. So it
never has the last word on a request, only the first.

Bodies are not given to it. It does not tell where one ends when it was asked to
upgrade, nor what is wrong with a chunk; and without it, a request that asks for an
upgrade which is not taken has its body like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import ClassVar, TypeVar

import httptools

from ..events import Headers
from ..headers import http1_request
from .engine import HTTP1Engine
from .heads import Head
from .lines import LineBuffer
from .parser import RequestParser

T = TypeVar("T")

Body = Generator[Iterable[bytes | bytearray] | None, None, Headers]
"""Pieces of a body, None whenever more has to arrive first, and in the end its trailers."""


class _Parser(RequestParser):
    """``RequestParser`` on httptools."""

    _body: Body

    def __init__(self, max_head_size: int) -> None:
        super().__init__(max_head_size)
        self._llhttp: _LLHTTP | None = None

    def _parse_head(self, octets: bytes) -> Head:
        if self._llhttp is None:
            self._llhttp = _LLHTTP()
        parsed = self._llhttp.parse(octets)
        if parsed is None:
            self._llhttp = None
            return super()._parse_head(octets)
        method, target, version, fields = parsed
        request = http1_request(method, target, version, fields, values_checked=True)
        if request.chunked or request.content_length:
            self._llhttp = None  # it waits for a body
        return Head.of(request, version.decode("ascii"))

    def _begin_chunked_body(self, head: bytes) -> None:
        self._body = _chunked_body(self)

    def _read_chunked_body(self, pieces: list[bytes | bytearray]) -> Headers | None:
        try:
            while (taken := next(self._body)) is not None:
                pieces += taken
        except StopIteration as end:
            trailers: Headers = end.value
            return trailers
        return None


class _LLHTTP:
    """Parses heads that declare no body, and one that does."""

    def __init__(self) -> None:
        self._head = _Head()
        self._parser = httptools.HttpRequestParser(self._head)

    def parse(self, octets: bytes) -> tuple[bytes, bytes, bytes, Headers] | None:
        """Give method, target, version and fields; None where that is not for llhttp to say."""
        head = self._head
        head.begin()
        try:
            self._parser.feed_data(octets)
        except httptools.HttpParserUpgrade:
            pass  # behind a whole head
        except httptools.HttpParserError:
            return None
        if not head.complete:
            return None
        method: bytes = self._parser.get_method()
        for version in (b"1.1", b"1.0"):
            # RFC 9112 section 3: single spaces. Section 2.2: no white space before the first field.
            line = b"%b %b HTTP/%b\r\n" % (method, head.target, version)
            if octets.startswith(line) and octets[len(line)] not in b" \t":
                break
        else:
            return None
        # Section 5.2: no line that continues the one before.
        if len(head.fields) != octets.count(b"\n") - 2:
            return None
        return method, head.target, version, head.fields


class _Head:
    """What llhttp calls back with."""

    __slots__ = ("complete", "fields", "target")

    def begin(self) -> None:
        self.target = b""
        self.fields: Headers = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves white space behind the value.
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _chunked_body(buffer: LineBuffer) -> Body:
    """RFC 9112 section 7.1."""
    while True:
        yield buffer.take_whole_chunks()
        size = yield from _arrived(buffer.take_chunk_size)
        if not size:
            return (yield from _arrived(buffer.take_trailers))
        while size:
            piece = buffer.take(size)
            size -= len(piece)
            yield (piece,) if piece else None
        yield from _arrived(buffer.take_chunk_end)


def _arrived(take: Callable[[], T | None]) -> Generator[None, None, T]:
    """Wait for what is taken as a whole."""
    while (taken := take()) is None:
        yield None
    return taken


class HttptoolsEngine(HTTP1Engine):
    """The native HTTP/1.1 engine."""

    name: ClassVar[str] = "httptools"
    parser: ClassVar[type[RequestParser]] = _Parser
