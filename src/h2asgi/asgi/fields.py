"""What header fields an application may send, checked once and here.

The engines do not look at them again, so nothing leaves this module that would
be malformed on the wire (RFC 9110 section 5, RFC 9113 section 8.2).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import IllegalMessage

Fields = list[tuple[bytes, bytes]]

MAX_KNOWN_FIELDS: Final = 1024
"""Fields remembered as legal. Applications send some dozens again and again, and others once."""

MAX_KNOWN_FIELD_SIZE: Final = 128
"""Octets of a field worth remembering; all of them together stay below half a megabyte."""

MAX_CONTENT_LENGTH_DIGITS: Final = 18
"""An exabyte less one: fits 64 bits everywhere."""

# Octets of a token (RFC 9110 section 5.6.2) to lower case, all others to NUL.
_LOWER_TOKEN: Final = bytes(
    [
        octet if re.match(rb"[!#$%&'*+\-.^_`|~0-9a-z]", bytes((octet,))) else 0
        for octet in bytes(range(256)).lower()
    ]
)
# CTL but HTAB: RFC 9110 section 5.5.
_CONTROLS: Final = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))

_DEFAULT_FIELDS: Final = frozenset((b"server", b"date"))
_DROPPED_ON_HTTP2: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"transfer-encoding")
)
_SPECIAL_FIELDS: Final = _DEFAULT_FIELDS | _DROPPED_ON_HTTP2
_NOT_IN_TRAILERS: Final = _DROPPED_ON_HTTP2 | frozenset(
    (
        *(b"content-length", b"host", b"trailer"),  # framing and routing
        *(b"cache-control", b"expect", b"max-forwards", b"pragma", b"range", b"te"),
        *(b"authorization", b"proxy-authenticate", b"proxy-authorization", b"set-cookie"),
        *(b"www-authenticate", b"age", b"date", b"expires", b"location", b"retry-after"),
        *(b"vary", b"warning", b"content-encoding", b"content-range", b"content-type"),
    )
)
"""RFC 9110 section 6.5.1: framing, routing, authentication, request modifiers, response controls
and the format of the content, which mean something only ahead of it."""

_NOT_PAIRS: Final = "headers must be an iterable of pairs (name, value)"

_Checked = tuple[tuple[bytes, bytes], int | None]
"""A field as it is sent, and its value if it is a content-length."""

# Keyed by what the application writes. The special ones are looked at each time.
_known_fields: Final[dict[Any, _Checked]] = {}


def response_fields(
    headers: Iterable[Sequence[bytes]], defaults: Fields, http_version: str
) -> tuple[Fields, int | None]:
    """Give the fields to send, with ``defaults`` added, and the content-length if there is one.

    ``headers`` is as in ``http.response.start``. A default gives way to a field
    of the same name, which is ``server`` or ``date``. Raises ``IllegalMessage``.
    """
    fields: Fields = []
    content_length: int | None = None
    own: set[bytes] | None = None
    for pair in headers if type(headers) is list else _elements(headers):
        try:
            checked = _known_fields.get(pair)
        except (TypeError, ValueError):  # a list, or holds a bytearray
            checked = None
        if checked is None:
            checked = _check_pair(pair)
            name = checked[0][0]
            if name in _DEFAULT_FIELDS:
                own = {name} if own is None else own | {name}
            elif name in _DROPPED_ON_HTTP2 and (
                http_version == "2" or name == b"transfer-encoding"
            ):
                # ASGI: the server alone decides about transfer-encoding. On HTTP/2
                # RFC 9113 section 8.2.2 forbids the others, which applications
                # written for HTTP/1.1 set in good faith.
                continue
        field, length = checked
        if length is not None:
            if content_length is not None:
                raise IllegalMessage("more than one content-length")
            content_length = length
        fields.append(field)
    if own is not None:
        defaults = [default for default in defaults if default[0] not in own]
    fields += defaults
    return fields, content_length


def trailer_fields(headers: Iterable[Sequence[bytes]]) -> Fields:
    """Give the fields of a trailer section, ``headers`` as in ``http.response.trailers``.

    Raises ``IllegalMessage`` also for fields that cannot come that late.
    """
    fields: Fields = []
    for pair in _elements(headers):
        field, _ = _check_pair(pair)
        if field[0] in _NOT_IN_TRAILERS:
            raise IllegalMessage(f"{field[0].decode()} must not be in trailers")
        fields.append(field)
    return fields


def link_fields(links: Iterable[Any]) -> Fields:
    """Give the ``link`` fields of ``http.response.early_hint``; raises ``IllegalMessage``."""
    if isinstance(links, (bytes, str)) or not isinstance(links, Iterable):
        raise IllegalMessage("links must be an iterable of bytes")
    return [check_field(b"link", link) for link in links]


def _elements(headers: Any) -> list[Any]:
    try:
        return list(headers)
    except TypeError:
        raise IllegalMessage(_NOT_PAIRS) from None


def _check_pair(pair: Any) -> _Checked:
    """Check a field that is not known, and remember it if it is likely to come again."""
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise IllegalMessage(_NOT_PAIRS) from None
    field = check_field(name, value)
    checked = field, int(field[1]) if field[0] == b"content-length" else None
    if (
        type(name) is type(value) is bytes
        and len(name) + len(value) <= MAX_KNOWN_FIELD_SIZE
        and field[0] not in _SPECIAL_FIELDS
    ):
        if len(_known_fields) >= MAX_KNOWN_FIELDS:
            # Those that come again are soon back. If none were ever dropped, those
            # that came once would take their place.
            _known_fields.clear()
        _known_fields[name, value] = checked
    return checked


def check_field(name: Any, value: Any) -> tuple[bytes, bytes]:
    """Give the field with its name in lower case and no white space around its value."""
    if type(name) is not bytes:
        name = octets("a header name", name)
    if type(value) is not bytes:
        value = octets("a header value", value)
    value = value.strip(b" \t")
    if len(value.translate(None, _CONTROLS)) != len(value):
        raise IllegalMessage(f"control character in the value of header {name!r}: {value!r}")
    lower = name.translate(_LOWER_TOKEN)
    # A colon is not in a token, so no pseudo-header field gets through either.
    if not lower or 0 in lower:
        raise IllegalMessage(f"illegal header name: {name[:80]!r}")
    if lower == b"content-length" and not (
        value.isdigit() and len(value) <= MAX_CONTENT_LENGTH_DIGITS
    ):
        raise IllegalMessage(f"illegal content-length: {value[:80]!r}")
    return lower, value


def octets(what: str, value: Any) -> bytes:
    """Give ``value`` as bytes if it is of a kind that holds octets."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    hint = "; encode it first" if isinstance(value, str) else ""
    raise IllegalMessage(
        f"{what} must be bytes, not {type(value).__name__}: {reprlib.repr(value)}{hint}"
    )
