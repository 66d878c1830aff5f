"""HTTP/1.1 on h11.

h11 is laxer than this server, so heads are split by ``lines.parse_head``, and h11
reads from ``lines.LineBuffer``. Each chunked body is read by a ``h11.Connection`` of
its own over that one buffer, which is shown the head first; responses are written
without it: h11's view of upgrades, of HTTP/1.0 keep-alive and of the other direction
then never stands in the way of the next request.
"""

from __future__ import annotations

from typing import ClassVar, Final, cast

import h11
from h11._receivebuffer import ReceiveBuffer  # what stands in for it is why h11 is pinned to 0.16

from ..events import Headers
from ..headers import RequestError
from .engine import HTTP1Engine
from .lines import LineBuffer
from .parser import RequestParser

_UNLIMITED: Final = 2**62  # h11 has no say in sizes: the buffer has


class _Parser(RequestParser):
    """``RequestParser`` on h11."""

    _connection: h11.Connection
    _input: _Input

    def _begin_chunked_body(self, head: bytes) -> None:
        self._input = _Input(head[:-4].split(b"\r\n"), self)
        self._connection = h11.Connection(h11.SERVER, _UNLIMITED)
        self._connection._receive_buffer = cast(ReceiveBuffer, self._input)
        try:
            self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise RequestError(400, "malformed request head") from error

    def _read_chunked_body(self, pieces: list[bytes | bytearray]) -> Headers | None:
        try:
            while type(event := self._connection.next_event()) is h11.Data:
                pieces.append(event.data)
        except h11.RemoteProtocolError as error:
            raise RequestError(400, "malformed request body") from error
        return self._input.trailers if type(event) is h11.EndOfMessage else None


class _Input:
    """What a ``h11.Connection`` calls of its receive buffer, for one request."""

    def __init__(self, head: list[bytes], buffer: LineBuffer) -> None:
        self._head: list[bytes] | None = head
        self._buffer = buffer
        self._joined = b""  # several chunks, and the line end behind them
        self.trailers: Headers = []

    def __len__(self) -> int:
        return len(self._buffer)

    def maybe_extract_lines(self) -> list[bytes] | None:
        """Hand out the head, then an empty trailer section in place of one that was checked."""
        if self._head is not None:
            head, self._head = self._head, None
            return head
        trailers = self._buffer.take_trailers()
        if trailers is None:
            return None
        self.trailers = trailers
        return []

    def maybe_extract_next_line(self) -> bytes | None:
        """Hand out a chunk's line without the extensions; those that are here whole, as one.

        h11 takes ten times as long for a chunk as it takes to cut it off.
        """
        if chunks := self._buffer.take_whole_chunks():
            self._joined = b"".join((*chunks, b"\r\n"))
            return b"%x\r\n" % (len(self._joined) - 2)
        size = self._buffer.take_chunk_size()
        return None if size is None else b"%x\r\n" % size

    def maybe_extract_at_most(self, count: int) -> bytes | None:
        """Hand out octets of the body, or of the line end behind a chunk."""
        if self._joined:
            data, self._joined = self._joined[:count], self._joined[count:]
            return data
        return self._buffer.take(count) or None


class H11Engine(HTTP1Engine):
    """The HTTP/1.1 engine in pure Python."""

    name: ClassVar[str] = "h11"
    parser: ClassVar[type[RequestParser]] = _Parser
