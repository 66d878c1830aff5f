"""What a library that parses HTTP/1.1 has to offer; see ``engine.py`` for the rest."""

from __future__ import annotations

from typing import Protocol

from ..events import Headers
from ..headers import RequestHead


class RequestParser(Protocol):
    """Turns octets into requests, one at a time; the first octet that is wrong decides how.

    ``trailers`` is None until the body has been read to its end. A request
    without a body has no ``read_body``. ``read_head`` and ``read_body`` raise
    ``RequestError``, after which only ``request_line`` may be called.
    """

    trailers: Headers | None

    @property
    def buffered(self) -> int:
        """Octets fed and not yet parsed."""

    @property
    def started(self) -> bool:
        """Whether any octet of the next head has arrived."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take a copy of ``data``; nothing is parsed yet."""

    def read_head(self) -> tuple[RequestHead, str] | None:
        """Parse the next head, with its HTTP version, or return None until it is complete."""

    def read_body(self) -> bytes:
        """Return what can be had of the body now."""

    def request_line(self) -> tuple[str, bytes, str]:
        """Make out method, target and HTTP version of a request that was rejected."""
