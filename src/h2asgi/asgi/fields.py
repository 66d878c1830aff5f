"""What header fields an application may send, checked once and here.

The engines do not look at them again, so nothing leaves this module that would
be malformed on the wire (RFC 9110 section 5, RFC 9113 section 8.2).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import IllegalMessage

Fields = list[tuple[bytes, bytes]]

MAX_KNOWN_NAMES = 1024
"""Names remembered as legal. Applications use some dozens; some may make them up."""

MAX_KNOWN_NAME_SIZE = 64
"""Octets of a name worth remembering."""

MAX_CONTENT_LENGTH_DIGITS = 18
"""An exabyte less one: fits 64 bits everywhere."""

_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))  # CTL but HTAB: RFC 9110 section 5.5

_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))
_SPECIAL_FIELDS = _CONNECTION_FIELDS | {
    b"transfer-encoding",
    b"content-length",
    b"server",
    b"date",
}
_known_names: dict[bytes, bytes] = {}  # as the application writes it -> lower-case


def response_fields(
    headers: Iterable[Sequence[bytes]], defaults: Fields, http_version: str
) -> tuple[Fields, int | None]:
    """Give the fields to send, with ``defaults`` added, and the content-length if there is one.

    ``headers`` is as in ``http.response.start``. A default gives way to a field
    of the same name, which is ``server`` or ``date``. Raises ``IllegalMessage``.
    """
    fields: Fields = []
    content_length: int | None = None
    own: set[bytes] = set()
    for name, value in _pairs(headers):
        field = check_field(name, value)
        name = field[0]
        if name in _SPECIAL_FIELDS:
            # ASGI: the server alone decides about transfer-encoding. On HTTP/2
            # RFC 9113 section 8.2.2 forbids the others, which applications
            # written for HTTP/1.1 set in good faith.
            if name == b"transfer-encoding":
                continue
            if name in _CONNECTION_FIELDS and http_version == "2":
                continue
            if name == b"content-length":
                if content_length is not None:
                    raise IllegalMessage("more than one content-length")
                content_length = _content_length(field[1])
            own.add(name)
        fields.append(field)
    if own:
        fields.extend(default for default in defaults if default[0] not in own)
    else:
        fields += defaults
    return fields, content_length


def check_field(name: Any, value: Any) -> tuple[bytes, bytes]:
    """Give the field with its name in lower case and no white space around its value."""
    if type(name) is not bytes:
        name = octets("a header name", name)
    if type(value) is not bytes:
        value = octets("a header value", value)
    value = value.strip(b" \t")
    if len(value.translate(None, _CONTROLS)) != len(value):
        raise IllegalMessage(f"control character in the value of header {name!r}: {value!r}")
    return _known_names.get(name) or _check_name(name), value


def octets(what: str, value: Any) -> bytes:
    """Give ``value`` as bytes if it is of a kind that holds octets."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    hint = "; encode it first" if isinstance(value, str) else ""
    raise IllegalMessage(
        f"{what} must be bytes, not {type(value).__name__}: {reprlib.repr(value)}{hint}"
    )


def _check_name(name: bytes) -> bytes:
    # A colon is not in a token, so no pseudo-header field gets through either.
    if not _token(name):
        raise IllegalMessage(f"illegal header name: {name[:80]!r}")
    lower = name.lower()
    if len(_known_names) < MAX_KNOWN_NAMES and len(name) <= MAX_KNOWN_NAME_SIZE:
        _known_names[name] = lower
    return lower


def _content_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > MAX_CONTENT_LENGTH_DIGITS:
        raise IllegalMessage(f"illegal content-length: {value[:80]!r}")
    return int(value)


def _pairs(headers: Any) -> Iterable[tuple[Any, Any]]:
    """Take the shape apart from the content, so that either mistake is named."""
    try:
        return [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        raise IllegalMessage("headers must be an iterable of pairs (name, value)") from None
