"""Request heads that a connection has seen: what was found good once is not parsed again.

What a head says is a function of its octets, and most clients repeat themselves: all
of the head when they poll, all but the request line when they do not. So what is
remembered is the fields, with the head they last came in. A head is known only
where parsing it in full would find the same; whatever is in doubt is parsed in full.

Each connection remembers for itself. What it remembers may be secret (cookies,
credentials), is gone when it is, and no client can push out or probe what another sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..events import Headers
from ..headers import RequestHead

MAX_KNOWN_SECTIONS: Final = 8
"""Field sections remembered per connection: one for each kind of request of a client."""

MAX_KNOWN_OCTETS: Final = 4 * 1024
"""Octets of them together, and of a head that is looked up: several heads of a browser, and
with the objects made of them not more than an idle connection costs anyway."""

# A part of what is allowed, in which nothing is left to check: origin-form and HTTP/1.1.
_plain_request_line = re.compile(
    rb"(?!CONNECT )([!#$%&'*+\-.^_`|~0-9A-Z]+) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n"
).match


@dataclass(slots=True)
class Head:
    """A ``RequestHead``, and what it says of its connection.

    ``persistent`` says whether it lets the connection live on (RFC 9112 section 9.3);
    ``asks_for_websocket`` that its fields do, which means nothing with any method but GET
    (RFC 6455 section 4.1); ``accepts_trailers`` is as in ``RequestReceived``. It may be
    remembered: what is handed on needs a list of fields of its own.
    """

    method: str
    target: bytes
    version: str
    headers: Headers
    content_length: int | None
    chunked: bool
    expect_continue: bool
    persistent: bool
    asks_for_websocket: bool
    accepts_trailers: bool

    @classmethod
    def of(cls, request: RequestHead, version: str) -> Head:
        """Add to a request what it says of its connection."""
        headers = request.headers
        options = _tokens(headers, b"connection")
        upgrade = version == "1.1" and b"upgrade" in options
        return cls(
            request.method,
            request.target,
            version,
            headers,
            request.content_length,
            request.chunked,
            request.expect_continue,
            b"close" not in options and (version == "1.1" or b"keep-alive" in options),
            # RFC 9110 section 7.8: without the option, or in HTTP/1.0, the field is ignored.
            upgrade and b"websocket" in _tokens(headers, b"upgrade"),
            # RFC 9110 section 10.1.4. In HTTP/1.0 there are no chunks to put trailers behind.
            version == "1.1" and b"trailers" in _tokens(headers, b"te"),
        )


def _tokens(headers: Headers, name: bytes) -> list[bytes]:
    """Give the members of all the fields of this name, in lower case (RFC 9110 section 5.6.1)."""
    return [token for field, value in headers if field == name for token in list_of_tokens(value)]


def list_of_tokens(value: bytes) -> list[bytes]:
    """Split a list in which case means nothing, as that of a ``connection`` field."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]


class KnownHeads:
    """What one connection remembers. Clears itself when it is full."""

    __slots__ = ("_by_fields", "_max_request_line", "_max_size", "_size", "last", "last_octets")

    def __init__(self, max_size: int, max_request_line: int) -> None:
        self._max_size = min(max_size, MAX_KNOWN_OCTETS)
        self._max_request_line = max_request_line
        self._by_fields: dict[bytes, Head] = {}
        self._size = 0  # octets of all the keys
        self.last: Head | None = None
        self.last_octets = b""  # in which ``last`` came

    def find(self, octets: bytes) -> Head | None:
        """Give what parsing the head would give, or None where that takes parsing.

        It is to be used before the next call, which may give the same object.
        """
        if octets == self.last_octets:
            return self.last
        if len(octets) > self._max_size:
            return None
        end = octets.find(b"\r\n")
        head = self._by_fields.get(octets[end:])
        if head is None or end > self._max_request_line:
            return None
        line = _plain_request_line(octets)
        if line is None:
            return None
        method, head.target = line.groups()
        head.method = method.decode("ascii")
        self.last_octets = octets
        self.last = head
        return head

    def keep(self, octets: bytes, head: Head) -> None:
        """Remember a head that was parsed."""
        size = len(octets)
        # In origin-form and HTTP/1.1 all but method and target follows from the fields.
        if size > self._max_size or _plain_request_line(octets) is None:
            return
        fields = octets[octets.find(b"\r\n") :]
        self._size += len(fields)
        if len(self._by_fields) == MAX_KNOWN_SECTIONS or self._size > MAX_KNOWN_OCTETS:
            self._by_fields.clear()
            self._size = len(fields)
        self._by_fields[fields] = head
        self.last_octets = octets
        self.last = head
