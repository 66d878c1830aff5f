"""The opening handshake, the server's side (RFC 6455 section 4.2, RFC 8441 section 5).

That the request is one for a WebSocket at all, ``RequestReceived.protocol``
says; here is what the WebSocket's own fields must be.
"""

from __future__ import annotations

import binascii
import re
from hashlib import sha1
from typing import NoReturn

from ...config import WebSocketConfig
from ...errors import H2ASGIError, IllegalMessage
from ..events import Headers, RequestReceived
from ..headers import CONNECTION_FIELDS
from .codec import Codec
from .deflate import Agreement, Offer, PerMessageDeflate, agree

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""

_VERSION = b"13"

MAX_EXTENSIONS = 1024
"""Octets of Sec-WebSocket-Extensions: ten times what browsers send. Each offer is read in Python,
so that a head full of them would take as long as thousands of requests."""

_FRAMING_FIELDS = CONNECTION_FIELDS | {b"content-length"}
"""Not the application's to send: RFC 9110 sections 7.6.1 and 8.6."""

_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_quoted = re.compile(r'"((?:[^"\\]|\\.)*)"').fullmatch
_escape = re.compile(r"\\(.)")


class HandshakeRejected(H2ASGIError):
    """A handshake to be answered with ``status``, ``headers`` and ``reason`` as the body.

    400 if it is malformed, 426 for another version, 403 for a foreign Origin, 431 for too long a
    list of extensions.
    ``headers`` has only what the status asks for.
    """

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers: Headers = headers or []


class Handshake:
    """A handshake that may be accepted. ``subprotocols`` are the client's, in its order."""

    __slots__ = ("_agreement", "_key", "_max_message_size", "_upgrade", "subprotocols")

    def __init__(
        self,
        upgrade: bool,
        key: bytes | None,
        subprotocols: list[str],
        agreement: Agreement | None,
        max_message_size: int,
    ) -> None:
        self.subprotocols = subprotocols
        self._upgrade = upgrade
        self._key = key
        self._agreement = agreement
        self._max_message_size = max_message_size

    @property
    def compresses(self) -> bool:
        """Whether messages may be compressed once it is accepted."""
        return self._agreement is not None

    def accept(self, subprotocol: str | None, headers: Headers) -> Headers:
        """Give the fields of the accepting response for ``Engine.accept_tunnel``.

        ``headers`` are the application's, legal as fields; those that frame a
        message are left out. Raises ``IllegalMessage`` for a subprotocol that
        the client has not offered (RFC 6455 section 4.2.2), and for fields that
        belong to the handshake (ASGI: ``websocket.accept``).
        """
        fields: Headers = []
        if self._upgrade:
            fields += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        if self._key is not None:
            fields.append((b"sec-websocket-accept", _accept_value(self._key)))
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise IllegalMessage(f"the client has not offered the subprotocol {subprotocol!r}")
            fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        if self._agreement is not None:
            fields.append((b"sec-websocket-extensions", str(self._agreement).encode("ascii")))
        for name, value in headers:
            if name.startswith(b"sec-websocket-"):
                raise IllegalMessage(f"{name.decode('ascii')} is the server's to send")
            if name not in _FRAMING_FIELDS:
                fields.append((name, value))
        return fields

    def codec(self, kind: type[Codec]) -> Codec:
        """Give the codec for what was negotiated.

        ``kind`` is what ``engines.websocket_codec`` chose.
        """
        deflate = None if self._agreement is None else PerMessageDeflate(self._agreement)
        return kind(self._max_message_size, deflate)


def check_handshake(request: RequestReceived, config: WebSocketConfig) -> Handshake:
    """Check the request for a WebSocket; raises ``HandshakeRejected``."""
    fields = _Fields(request.headers)
    over_http1 = request.http_version != "2"
    version = fields.single(b"sec-websocket-version")
    if version is None:
        _malformed("there is no Sec-WebSocket-Version")
    if version != _VERSION:
        raise HandshakeRejected(
            426, "only version 13 of WebSocket is spoken", _upgrade_required(over_http1)
        )
    key = _checked_key(fields.single(b"sec-websocket-key")) if over_http1 else _relayed_key(fields)
    _check_origin(fields.single(b"origin"), config.origins)
    subprotocols = fields.elements(b"sec-websocket-protocol")
    if not all(map(_token, subprotocols)):
        _malformed("Sec-WebSocket-Protocol is not a list of tokens")
    if fields.size(b"sec-websocket-extensions") > MAX_EXTENSIONS:
        raise HandshakeRejected(431, "Sec-WebSocket-Extensions is too long")
    offers = [_offer(element) for element in fields.elements(b"sec-websocket-extensions")]
    agreement = agree(offers) if config.per_message_deflate else None
    return Handshake(over_http1, key, subprotocols, agreement, config.max_message_size)


class _Fields:
    """The fields of a request by their names."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def single(self, name: bytes) -> bytes | None:
        """The value of a field that may stand once, without white space around it."""
        values = [value for field, value in self._headers if field == name]
        if len(values) > 1:
            _malformed(f"more than one {name.decode('ascii')}")
        return values[0].strip(b" \t") if values else None

    def size(self, name: bytes) -> int:
        """Octets of all the fields of this name."""
        return sum(len(value) for field, value in self._headers if field == name)

    def elements(self, name: bytes) -> list[str]:
        """The elements of a list that may be spread over several fields.

        Empty ones do not count (RFC 9110 section 5.6.1.2). No element of the two
        lists that are read so can hold a comma, not even between quotes.
        """
        values = [value for field, value in self._headers if field == name]
        if not values:
            return []
        parts = (part.strip(" \t") for part in b",".join(values).decode("latin-1").split(","))
        return [part for part in parts if part]


def _upgrade_required(over_http1: bool) -> Headers:
    headers = [(b"sec-websocket-version", _VERSION)]  # RFC 6455 section 4.4
    if over_http1:
        # RFC 9110 section 15.5.22.
        headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    return headers


def _checked_key(key: bytes | None) -> bytes:
    """RFC 6455 section 4.2.1: 16 octets in base64."""
    try:
        octets = binascii.a2b_base64(key or b"", strict_mode=True)
    except binascii.Error:
        octets = b""
    if key is None or len(octets) != 16:
        _malformed("Sec-WebSocket-Key is not 16 octets in base64")
    return key


def _relayed_key(fields: _Fields) -> bytes | None:
    """Over HTTP/2 there is no key to be checked (RFC 8441 section 5), so that a bad one is none.

    Where there is one, a proxy has turned the upgrade of a client into CONNECT and has left it to
    us to answer the key, as Envoy does: without that the client fails its handshake.
    """
    try:
        return _checked_key(fields.single(b"sec-websocket-key"))
    except HandshakeRejected:
        return None


def _accept_value(key: bytes) -> bytes:
    """RFC 6455 section 4.2.2."""
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def _check_origin(origin: bytes | None, allowed: tuple[str, ...]) -> None:
    """RFC 6455 section 10.2. A client that sends no Origin is no browser, and is let pass."""
    if not allowed or origin is None:
        return
    if origin.decode("latin-1").lower() not in map(str.lower, allowed):
        raise HandshakeRejected(403, "this origin may not open WebSockets")


def _offer(element: str) -> Offer:
    """An element of Sec-WebSocket-Extensions (RFC 6455 section 9.1)."""
    name, *parameters = (part.strip(" \t") for part in element.split(";"))
    if not _token(name):
        _malformed_extensions()
    return name, [_parameter(parameter) for parameter in parameters]


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not _token(name.rstrip(" \t")):
        _malformed_extensions()
    if not equals:
        return text, None
    value = value.lstrip(" \t")
    quoted = _quoted(value)
    if quoted is not None:
        value = _escape.sub(r"\1", quoted[1])
    if not _token(value):  # what stands between quotes must be a token too
        _malformed_extensions()
    return name.rstrip(" \t"), value


def _malformed_extensions() -> NoReturn:
    _malformed("Sec-WebSocket-Extensions is malformed")


def _malformed(reason: str) -> NoReturn:
    raise HandshakeRejected(400, reason)
