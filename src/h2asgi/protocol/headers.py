"""What a request head may look like, decided once for every engine.

The libraries behind the engines differ in what they let through. These rules
are the union of what any of them should reject, so that the choice of an
engine never changes what reaches the application.

``http2_request`` and ``http1_request`` turn the fields of one request into a
``RequestHead`` or raise ``RequestError``. Status 400 means malformed: a stream
error of type PROTOCOL_ERROR on HTTP/2 (RFC 9113 section 8.1.1), the answer 400
and a closed connection on HTTP/1.1. Any other status is an answer to a
well-formed request that is not served.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Final, NoReturn

from ..errors import H2ASGIError
from .events import Headers

MAX_CONTENT_LENGTH_DIGITS: Final = 18
"""An exabyte less one: fits 64 bits everywhere, and no ``int()`` of a megabyte of digits."""

_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_lower_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
# Tables that turn what is illegal into NUL: ``0 in`` is then the fastest look.
_LOWER_TOKEN_OCTETS: Final = bytes(
    [octet if _lower_token(bytes([octet])) else 0 for octet in range(256)]
)
# RFC 9110 section 5.5: CTL other than HTAB are invalid in a value.
_VALUE_OCTETS: Final = bytes(
    0 if (octet < 0x20 and octet != 9) or octet == 0x7F else octet for octet in range(256)
)
_target_text = re.compile(rb"[\x21\x22\x24-\x7e]+").fullmatch  # no white space, CTL or "#"
authority_text = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[0-9A-Za-z\-._~]+)?\]|[0-9A-Za-z\-._~%!$&'()*+,;=]+)(?::[0-9]*)?"
).fullmatch
_scheme_text = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*").fullmatch

CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Connection-specific fields, which HTTP/2 forbids both ways (RFC 9113 section 8.2.2)."""

_NOT_IN_HTTP2_TRAILERS: Final = frozenset((b"content-length", b"host", b"te"))
"""RFC 9110 section 6.5.1: nothing about framing or routing comes that late."""

_SPECIAL_FIELDS: Final = CONNECTION_FIELDS | {
    b"te",
    b"host",
    b"cookie",
    b"content-length",
    b"expect",
}


class RequestError(H2ASGIError):
    """A request that must not reach the application; see the module's docstring.

    ``method`` and ``target`` are what could be made out of it, for the log.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.method = ""
        self.target = b""


@dataclasses.dataclass(slots=True)
class RequestHead:
    """A request head that keeps the rules; fields as in ``events.RequestReceived``."""

    method: str
    target: bytes
    headers: Headers
    content_length: int | None
    expect_continue: bool
    chunked: bool = False
    protocol: str | None = None
    """Of an extended CONNECT; over HTTP/1.1 it is not for the request alone to say."""
    priority: bytes | None = None
    """The field of that name (RFC 9218 section 5), all its lines in one; None on HTTP/1.1."""
    list_size: int = dataclasses.field(default=0, compare=False)
    """As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 section 6.5.2); 0 on HTTP/1.1."""


def http2_request(
    fields: Headers, max_header_list_size: int, *, websocket: bool = False
) -> RequestHead:
    """Check and normalise the decoded fields of an HTTP/2 request (RFC 9113 section 8.3).

    ``websocket`` says that the client was told SETTINGS_ENABLE_CONNECT_PROTOCOL.
    """
    # Section 8.3: they come first; among the others their colon is an illegal character.
    pseudo = dict(fields[: len(_REQUEST_PSEUDO_FIELDS)])
    if pseudo.keys() != _REQUEST_PSEUDO_FIELDS or pseudo[b":method"] == b"CONNECT":
        pseudo = _pseudo_fields(fields, websocket)
    regular = fields[len(pseudo) :]
    section = _http2_section(regular)
    if section.host == b"":
        _malformed("empty host")
    method, target = _http2_request_line(pseudo)
    authority = pseudo.get(b":authority", section.host)
    # Section 8.3.1: http and https have an authority, and Host must not differ from it.
    if authority is None or not authority_text(authority):
        _malformed("missing or illegal authority")
    if section.host is not None and section.host.lower() != authority.lower():
        _malformed("host differs from :authority")
    size = sum([32 + len(name) + len(value) for name, value in fields])
    if size > max_header_list_size:
        # Section 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE.
        raise RequestError(431, "request header fields are too large")
    head = section.finish(method, target, authority)
    head.list_size = size
    head.priority = section.priority
    if b":protocol" in pseudo:
        _make_extended_connect(head, pseudo[b":protocol"])
    return head


def _make_extended_connect(head: RequestHead, protocol: bytes) -> None:
    """RFC 8441 section 4; names of protocols are compared as in RFC 9110 section 7.8."""
    if protocol.lower() != b"websocket":
        raise RequestError(501, "protocol is not served")
    head.protocol = "websocket"
    head.expect_continue = False
    head.content_length = None  # RFC 9110 section 9.3.6: CONNECT has no content


def _pseudo_fields(fields: Headers, websocket: bool) -> dict[bytes, bytes]:
    """The pseudo-header fields of a request that does not have just the usual four."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        if name in pseudo:
            _malformed("repeated pseudo-header field")
        pseudo[name] = value
    if not pseudo.keys() <= _REQUEST_PSEUDO_FIELDS:
        # RFC 8441 section 3: it is not known to whom was not told of it.
        if not websocket or pseudo.keys() != _EXTENDED_CONNECT_FIELDS:
            _malformed("unknown pseudo-header field")
        # Section 4: an extension of CONNECT alone.
        if pseudo[b":method"] != b"CONNECT" or not _token(pseudo[b":protocol"]):
            _malformed("illegal :protocol")
    return pseudo


def _http2_section(fields: Headers) -> _FieldSection:
    """Check the regular fields, which mostly are none that mean something here."""
    names = _check_names(fields)
    _check_values(fields)
    section = _FieldSection()
    if b"priority" in names:
        section.priority = b", ".join([value for name, value in fields if name == b"priority"])
    if _SPECIAL_FIELDS.isdisjoint(names):
        section.headers = fields
        return section
    for field in fields:
        name, value = field
        if name not in _SPECIAL_FIELDS:
            section.headers.append(field)
        elif name in CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
            # Section 8.2.2.
            _malformed("connection-specific field")
        else:
            section.add_special(name, value)
    return section


def http2_request_line(fields: Headers) -> tuple[str, bytes]:
    """What method and target can be made out of a request that is not served, for the log."""
    pseudo = dict(fields)
    method = pseudo.get(b":method", b"").decode("ascii", "backslashreplace")
    return method, pseudo.get(b":path") or pseudo.get(b":authority", b"")


_REQUEST_PSEUDO_FIELDS: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_EXTENDED_CONNECT_FIELDS: Final = _REQUEST_PSEUDO_FIELDS | {b":protocol"}
"""RFC 8441 section 4 asks for :scheme and :path, and an http or https URI has an authority."""


def _http2_request_line(pseudo: dict[bytes, bytes]) -> tuple[str, bytes]:
    method = pseudo.get(b":method", b"")
    if method != b"GET" and not _token(method):
        _malformed("missing or illegal :method")
    name = method.decode("ascii").upper()
    if name == "CONNECT" and b":protocol" not in pseudo:
        # Section 8.5: a tunnel has :authority, but no :scheme and no :path.
        if pseudo.keys() != {b":method", b":authority"}:
            _malformed("CONNECT with other pseudo-header fields than :authority")
        raise RequestError(501, "CONNECT is not served")
    scheme = pseudo.get(b":scheme", b"")
    if scheme != b"https" and not _scheme_text(scheme):
        _malformed("missing or illegal :scheme")
    target = pseudo.get(b":path", b"")
    if not _is_origin_form(target) and not (target == b"*" and method == b"OPTIONS"):
        _malformed("missing or illegal :path")
    return name, target


def http1_request(
    method: bytes,
    target: bytes,
    http_version: bytes,
    fields: Headers,
    *,
    values_checked: bool = False,
) -> RequestHead:
    """Check and normalise an HTTP/1.x request head; field names lower-case (RFC 9112).

    ``values_checked`` says that no value holds a control character or has white
    space around it, which whoever cuts octets into fields knows anyway.
    """
    section = _FieldSection()
    transfer_encoding: bytes | None = None
    _check_names(fields)
    if not values_checked:
        _check_values(fields)
    for field in fields:
        name, value = field
        if name not in _SPECIAL_FIELDS:
            section.headers.append(field)
        elif name == b"transfer-encoding":
            if transfer_encoding is not None:
                _malformed("repeated transfer-encoding")
            transfer_encoding = value.lower()
            section.headers.append((name, value))
        elif name in CONNECTION_FIELDS or name == b"te":
            section.headers.append((name, value))
        else:
            section.add_special(name, value)
    if not _token(method):
        _malformed("illegal method")
    if method.upper() == b"CONNECT":
        raise RequestError(501, "CONNECT is not served")
    target, authority = _http1_target(method, target, section.host)
    if http_version == b"1.0":
        section.expect_continue = False  # RFC 9110 section 10.1.1
    elif section.host is None:
        _malformed("missing host")  # RFC 9112 section 3.2
    head = section.finish(method.decode("ascii").upper(), target, authority)
    if transfer_encoding is not None:
        _check_transfer_encoding(transfer_encoding, http_version, head)
        head.chunked = True
    return head


def _illegal_value(value: bytes) -> bool:
    # RFC 9113 section 8.2.1: no white space around it either.
    return 0 in value.translate(_VALUE_OCTETS) or value.strip() != value


def _check_names(fields: Headers) -> list[bytes]:
    """Check all names at once, and give them: a pattern a field costs more than all the rest."""
    names = [name for name, _ in fields]
    if b"" in names or 0 in b"".join(names).translate(_LOWER_TOKEN_OCTETS):
        _malformed("illegal field name")
    return names


def _check_values(fields: Headers) -> None:
    values = [value for _, value in fields]
    if 0 in b"".join(values).translate(_VALUE_OCTETS) or [v.strip() for v in values] != values:
        _malformed("illegal field value")


def _http1_target(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes | None]:
    """Reduce any form of RFC 9112 section 3.2 to origin-form or ``*``, and find the host."""
    if host and not authority_text(host):
        _malformed("illegal host")
    if _is_origin_form(target) or (target == b"*" and method == b"OPTIONS"):
        return target, host
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https") or not _target_text(rest):
        _malformed("illegal request target")
    # Section 3.2.2: the authority of an absolute-form target replaces Host.
    end = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if not authority_text(authority):
        _malformed("illegal authority in the request target")
    if not target and method == b"OPTIONS":
        return b"*", authority  # section 3.2.4
    return (target if target[:1] == b"/" else b"/" + target), authority


def _check_transfer_encoding(coding: bytes, http_version: bytes, head: RequestHead) -> None:
    """RFC 9112 sections 6.1 and 6.3: what is ambiguous is how requests are smuggled."""
    if head.content_length is not None:
        _malformed("transfer-encoding with content-length")
    if http_version == b"1.0":
        _malformed("transfer-encoding in HTTP/1.0")
    codings = [part.strip(b" \t") for part in coding.split(b",")]
    if codings[-1] != b"chunked" or b"chunked" in codings[:-1]:
        _malformed("chunked is not the final transfer coding")
    if len(codings) > 1:
        raise RequestError(501, "unknown transfer coding")


def trailers(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Check a trailer section: no pseudo-header fields, nothing about the connection."""
    checked: Headers = []
    for name, value in fields:
        if not _lower_token(name) or _illegal_value(value):
            _malformed("illegal trailer field")
        if name in CONNECTION_FIELDS:
            _malformed("connection-specific trailer field")
        checked.append((name, value))
    return checked


def http2_trailers(fields: Headers) -> Headers:
    """Check a trailer section of HTTP/2, where it is one of the message's own sections."""
    checked = trailers(fields)
    if not _NOT_IN_HTTP2_TRAILERS.isdisjoint([name for name, _ in checked]):
        _malformed("field is not for trailers")
    return checked


class _FieldSection:
    """The regular fields of one request while they are read."""

    __slots__ = ("content_length", "cookies", "expect_continue", "headers", "host", "priority")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.host: bytes | None = None
        self.cookies: list[bytes] = []
        self.content_length: int | None = None
        self.expect_continue = False
        self.priority: bytes | None = None

    def add_special(self, name: bytes, value: bytes) -> None:
        if name == b"cookie":
            self.cookies.append(value)
            return
        if name == b"host":
            if self.host is not None:
                _malformed("repeated host")  # RFC 9112 section 3.2
            self.host = value
            return
        if name == b"content-length":
            # RFC 9110 section 8.6: a list or a repetition may be rejected, and is.
            if self.content_length is not None:
                _malformed("repeated content-length")
            if not value.isdigit() or len(value) > MAX_CONTENT_LENGTH_DIGITS:
                _malformed("illegal content-length")
            self.content_length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_continue = True
        self.headers.append((name, value))

    def finish(self, method: str, target: bytes, authority: bytes | None) -> RequestHead:
        headers = self.headers
        if self.cookies:
            # RFC 9113 section 8.2.3, before anything that is not HTTP/2 sees them.
            # An empty one would leave white space at an end, where RFC 9110 section 5.5 has none.
            headers.append((b"cookie", b"; ".join(filter(None, self.cookies))))
        if authority is not None:
            headers.insert(0, (b"host", authority))
        return RequestHead(method, target, headers, self.content_length, self.expect_continue)


def _is_origin_form(target: bytes) -> bool:
    return target[:1] == b"/" and _target_text(target) is not None


def _malformed(reason: str) -> NoReturn:
    raise RequestError(400, reason)
