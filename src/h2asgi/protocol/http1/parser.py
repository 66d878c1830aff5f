"""What turns octets into requests; what a library adds to it is in the engines' files."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..events import Headers
from ..headers import RequestError, RequestHead
from .lines import LineBuffer


class RequestParser(ABC):
    """Turns octets into requests, one at a time; the first octet that is wrong decides how.

    ``trailers`` is None until the body has been read to its end. A request
    without a body has no ``read_body``. ``read_head`` and ``read_body`` raise
    ``RequestError``, after which only ``request_line`` may be called.
    """

    def __init__(self, max_head_size: int) -> None:
        self._buffer = LineBuffer(max_head_size)
        self._error: RequestError | None = None
        self.trailers: Headers | None = None

    @property
    def buffered(self) -> int:
        """Octets fed and not yet parsed."""
        return len(self._buffer)

    @property
    def started(self) -> bool:
        """Whether any octet of the next head has arrived."""
        return len(self._buffer) > 0 or self._buffer.empty_line_seen

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take a copy of ``data``; nothing is parsed yet."""
        self._buffer.append(data)

    def read_head(self) -> tuple[RequestHead, str] | None:
        """Parse the next head, with its HTTP version, or return None until it is complete."""
        octets = self._buffer.take_head()
        if octets is None:
            return None
        try:
            head, version = self._parse_head(octets)
        except RequestError:
            self._buffer.recheck_head()
            raise
        self.trailers = None
        if head.chunked or head.content_length:
            self._begin_body(head)
        else:
            self._buffer.begin_request()
        return head, version

    def read_body(self) -> bytes:
        """Return what can be had of the body now."""
        if self._error is not None:
            raise self._error
        pieces = []
        try:
            while (piece := self._next_piece()) is not None:
                pieces.append(piece)
        except RequestError as error:
            if not pieces:
                raise
            # What came before the mistake is delivered first, however it was cut into reads.
            self._error = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def request_line(self) -> tuple[str, bytes, str]:
        """Make out method, target and HTTP version of a request that was rejected."""
        return self._buffer.request_line()

    def _end_body(self, trailers: Headers) -> None:
        self.trailers = trailers
        self._buffer.begin_request()

    @abstractmethod
    def _parse_head(self, octets: bytes) -> tuple[RequestHead, str]:
        """Parse a head as ``LineBuffer.take_head`` returns it; raises ``RequestError``."""

    @abstractmethod
    def _begin_body(self, head: RequestHead) -> None:
        """Expect the body that ``head`` declares."""

    @abstractmethod
    def _next_piece(self) -> bytes | None:
        """Take a piece of body; None, once ``_end_body`` was called or for want of input."""
