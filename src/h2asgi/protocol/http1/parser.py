"""What turns octets into requests; what a library adds to it is in the engines' files."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..events import Headers
from ..headers import RequestError
from .heads import Head, KnownHeads
from .lines import LineBuffer, max_request_line, parse_head


class RequestParser(LineBuffer, ABC):
    """Turns octets into requests, one at a time; the first octet that is wrong decides how.

    ``trailers`` is None until the body has been read to its end. A request
    without a body has no ``read_body``. ``read_head`` and ``read_body`` raise
    ``RequestError``, after which only ``request_line`` may be called.
    """

    def __init__(self, max_head_size: int) -> None:
        super().__init__(max_head_size)
        self._known = KnownHeads(max_head_size, max_request_line(max_head_size))
        self._outstanding: int | None = 0  # octets of a body of known length
        self._error: RequestError | None = None
        self.trailers: Headers | None = None

    @property
    def started(self) -> bool:
        """Whether any octet of the next head has arrived."""
        return bool(self.data) or self.empty_line_seen

    def read_head(self) -> Head | None:
        """Parse the next head, or return None until it is complete."""
        known = self._known
        head = known.last
        if head is not None and self.data == known.last_octets and not self._start:
            # The same as last time and nothing else, as from a client that polls.
            octets = known.last_octets
            self.data = b""
            self._searched = 0
        else:
            found = self._find_head()
            if found is None:
                return None
            octets, head = found
        if head.chunked or head.content_length:
            self._begin_body(octets, head)
        else:
            self.empty_line_seen = False
        return head

    def _find_head(self) -> tuple[bytes, Head] | None:
        octets = self.peek_head()
        if octets is not None:
            head = self._known.find(octets)
            if head is not None:
                self._drop(len(octets))
                return octets, head
        octets = self.take_head()
        if octets is None:
            return None
        head = self._parse_new_head(octets)
        self.begin_request()
        return octets, head

    def _begin_body(self, octets: bytes, head: Head) -> None:
        self.expect_body(octets)
        self.trailers = None
        self._outstanding = head.content_length
        if head.chunked:
            self._begin_chunked_body(octets)

    def _parse_new_head(self, octets: bytes) -> Head:
        try:
            head = self._parse_head(octets)
        except RequestError:
            self.recheck_head()
            raise
        self._known.keep(octets, head)
        return head

    def read_body(self) -> bytes:
        """Return what can be had of the body now."""
        if self._outstanding is not None:
            return self._read_sized_body(self._outstanding)
        if self._error is not None:
            raise self._error
        pieces: list[bytes | bytearray] = []
        try:
            trailers = self._read_chunked_body(pieces)
            if trailers is not None:
                self._end_body(trailers)
        except RequestError as error:
            if not pieces:
                raise
            # What came before the mistake is delivered first, however it was cut into reads.
            self._error = error
        return b"".join(pieces)

    def _read_sized_body(self, outstanding: int) -> bytes:
        data = self.take(outstanding)
        self._outstanding = outstanding - len(data)
        if not self._outstanding:
            self._end_body([])
        return data

    def _end_body(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.begin_request()

    def _parse_head(self, octets: bytes) -> Head:
        """Parse a head as ``LineBuffer.take_head`` returns it; raises ``RequestError``."""
        return Head.of(*parse_head(octets))

    @abstractmethod
    def _begin_chunked_body(self, head: bytes) -> None:
        """Expect a body in chunks behind this head."""

    @abstractmethod
    def _read_chunked_body(self, pieces: list[bytes | bytearray]) -> Headers | None:
        """Append what can be had of the body now; give its trailers once it is over."""
