"""The PROXY protocol, versions 1 and 2 (HAProxy's ``doc/proxy-protocol.txt``).

A load balancer puts a header in front of a connection that says whose it is. It is read in
pieces that never reach beyond it: what follows is TLS's or HTTP's. The first 12 octets are
always the header's own; after them a version 1 line is read in steps of what it must at least
still have, and a version 2 header says how long it is.

The parser is our own because the one on PyPI (proxy-protocol 0.11) takes what the specification
forbids: ports as ``+80``, ``8_0`` and ``0080``, address zones, unknown families, and type-length
values that are cut off; a version 2 header that is too short raises ``struct.error``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ..errors import H2ASGIError

IPAddress = IPv4Address | IPv6Address

V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
FIRST_SIZE: Final = len(V2_SIGNATURE)
"""Octets that every header has: the shortest of version 1, ``PROXY UNKNOWN``, has 15."""

MAX_V1_SIZE: Final = 107
"""Octets of the longest line of version 1, with its CRLF (section 2.1)."""

MAX_V2_SIZE: Final = 8 * 1024
"""Octets behind the fixed part of version 2. Addresses have 216 at most, and the largest value that
anybody sends is a client's certificate of some two thousand. It is memory for each handshake."""

MAX_UNIQUE_ID_SIZE: Final = 128  # section 2.2.5

_V1_SIGNATURE = b"PROXY "
_V2_FIXED_SIZE = 16
_V1_FIELDS = 5  # spaces in a line: in front of family, two addresses, two ports
_v1_line = re.compile(
    rb"PROXY (?:(TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})|UNKNOWN(?: [^\r\n]*)?)\r\n"
).fullmatch

_LOCAL, _PROXY = 0x20, 0x21  # version and command (section 2.2)
_UNSPECIFIED, _UNIX = 0x00, 0x31
_FAMILIES: Final[dict[int, tuple[type[IPAddress], int]]] = {
    0x11: (IPv4Address, 4),
    0x12: (IPv4Address, 4),
    0x21: (IPv6Address, 16),
    0x22: (IPv6Address, 16),
}
"""By family and transport, with the size of an address; datagrams too, which QUIC's clients use."""

_UNIX_SIZE = 2 * 108

_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_SINGLE = frozenset((_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL))
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 0x01, 0x02, 0x04

Address = tuple[str, int]
Values = tuple[tuple[int, bytes], ...]


class MalformedProxyHeader(H2ASGIError):
    """What began the connection is no PROXY header, or one that cannot be believed."""


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """What a load balancer says of its client's TLS (section 2.2.6).

    ``verified`` says that the client gave a certificate and it was found good; ``common_name``
    is of a certificate that was verified, too.
    """

    version: str | None
    cipher: str | None
    verified: bool
    common_name: str | None


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Whose the connection is.

    ``relayed`` is false where it is the load balancer's own (LOCAL), or its client is not told
    (UNKNOWN): the endpoints of the connection are the true ones then. Otherwise ``source`` is the
    client and ``destination`` where it connected to; both are None for Unix sockets. ``values``
    are all type-length values of version 2, in their order.
    """

    version: int
    relayed: bool = False
    source: Address | None = None
    destination: Address | None = None
    alpn: bytes | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    tls: ClientTLS | None = None
    values: Values = ()


class ProxyHeaderParser:
    """Takes a header in pieces of at most ``wanted`` octets; at 0 ``header`` is there."""

    def __init__(self) -> None:
        self.wanted = FIRST_SIZE
        self.header: ProxyHeader | None = None
        self._read = bytearray()

    def feed(self, data: bytes) -> None:
        """Take a piece; raises ``MalformedProxyHeader``."""
        assert 0 < len(data) <= self.wanted
        read = self._read
        read += data
        if len(read) < FIRST_SIZE:
            # Sooner than the rest: whoever speaks something else may wait for an answer.
            if not (V2_SIGNATURE.startswith(read) or _may_be_v1(read)):
                raise MalformedProxyHeader("it does not begin with a PROXY header")
            self.wanted = FIRST_SIZE - len(read)
        elif read.startswith(V2_SIGNATURE):
            self._feed_v2(read)
        elif _may_be_v1(read):
            self._feed_v1(read)
        else:
            raise MalformedProxyHeader("it does not begin with a PROXY header")

    def _feed_v1(self, line: bytearray) -> None:
        if b"\n" in line:
            self.header = _v1(bytes(line))
            self.wanted = 0
            return
        self.wanted = _least_left(line)
        if len(line) + self.wanted > MAX_V1_SIZE:
            raise MalformedProxyHeader("its line is too long")

    def _feed_v2(self, read: bytearray) -> None:
        if len(read) < _V2_FIXED_SIZE:
            self.wanted = _V2_FIXED_SIZE - len(read)
            return
        size = int.from_bytes(read[14:_V2_FIXED_SIZE])
        if size > MAX_V2_SIZE:
            raise MalformedProxyHeader("it is too long")
        self.wanted = _V2_FIXED_SIZE + size - len(read)
        if not self.wanted:
            self.header = _v2(bytes(read))


def _may_be_v1(read: bytearray) -> bool:
    return read.startswith(_V1_SIGNATURE) or _V1_SIGNATURE.startswith(read)


# Version 1 (section 2.1).


def _least_left(line: bytearray) -> int:
    """Give how many octets a line has at least that goes on so."""
    if line.endswith(b"\r"):
        return 1
    if not line.startswith(b"PROXY TCP"):
        return 2
    # Each field that has not begun has an octet, and one in front.
    return 2 + 2 * max(0, _V1_FIELDS - line.count(b" ")) + line.endswith(b" ")


def _v1(line: bytes) -> ProxyHeader:
    found = _v1_line(line)
    if found is None:
        raise MalformedProxyHeader("its line is not as version 1 has it")
    family, source, destination, source_port, destination_port = found.groups()
    if family is None:
        return ProxyHeader(1)
    return ProxyHeader(
        1,
        True,
        (_v1_address(family, source), _v1_port(source_port)),
        (_v1_address(family, destination), _v1_port(destination_port)),
    )


def _v1_address(family: bytes, text: bytes) -> str:
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        return str(plain(kind(text.decode("ascii"))))
    except ValueError:
        raise MalformedProxyHeader("an address of its line is none") from None


def _v1_port(text: bytes) -> int:
    port = int(text)
    if port > 0xFFFF:
        raise MalformedProxyHeader("a port of its line is none")
    return port


# Version 2 (section 2.2).


def _v2(read: bytes) -> ProxyHeader:
    command, family, rest = read[12], read[13], read[_V2_FIXED_SIZE:]
    if command not in (_LOCAL, _PROXY):
        raise MalformedProxyHeader(f"version and command 0x{command:02x} are unknown")
    if family not in _FAMILIES and family not in (_UNSPECIFIED, _UNIX):
        raise MalformedProxyHeader(f"address family and transport 0x{family:02x} are unknown")
    if command == _LOCAL or family == _UNSPECIFIED:
        return ProxyHeader(2)  # section 2.2: whatever stands in it is to be ignored
    source = destination = None
    if family == _UNIX:
        _, rest = _cut(rest, _UNIX_SIZE)
    else:
        kind, size = _FAMILIES[family]
        addresses, rest = _cut(rest, 2 * size + 4)
        source_port, destination_port = struct.unpack("!HH", addresses[-4:])
        source = str(plain(kind(addresses[:size]))), source_port
        destination = str(plain(kind(addresses[size : 2 * size]))), destination_port
    return _with_values(read, _values(rest), source, destination)


def _with_values(
    read: bytes, values: Values, source: Address | None, destination: Address | None
) -> ProxyHeader:
    known = {kind: value for kind, value in values if kind in _SINGLE}
    if sum(kind in _SINGLE for kind, _ in values) > len(known):
        raise MalformedProxyHeader("one of its values is there twice")
    if _CRC32C in known:
        _check_crc32c(read, values)
    unique_id = known.get(_UNIQUE_ID)
    if unique_id is not None and len(unique_id) > MAX_UNIQUE_ID_SIZE:
        raise MalformedProxyHeader("its unique id is too long")
    return ProxyHeader(
        2,
        True,
        source,
        destination,
        alpn=known.get(_ALPN),
        authority=_text(known.get(_AUTHORITY)),
        unique_id=unique_id,
        tls=_client_tls(known[_SSL]) if _SSL in known else None,
        values=values,
    )


def _values(data: bytes) -> Values:
    """Read type-length values (section 2.2); all of ``data`` must be such."""
    values = []
    while data:
        head, data = _cut(data, 3)
        value, data = _cut(data, int.from_bytes(head[1:]))
        values.append((head[0], value))
    return tuple(values)


def _client_tls(value: bytes) -> ClientTLS | None:
    head, rest = _cut(value, 5)
    client, verify = struct.unpack("!BI", head)
    inner = dict(_values(rest))
    if not client & _CLIENT_SSL:
        return None
    presented = bool(client & (_CLIENT_CERT_CONN | _CLIENT_CERT_SESS))
    verified = presented and verify == 0
    return ClientTLS(
        _text(inner.get(_SSL_VERSION)),
        _text(inner.get(_SSL_CIPHER)),
        verified,
        _text(inner.get(_SSL_CN)) if verified else None,
    )


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise MalformedProxyHeader("it is shorter than what it should hold")
    return data[:size], data[size:]


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedProxyHeader("a text of it is not UTF-8") from None


def plain(address: IPAddress) -> IPAddress:
    """Give an IPv4 address in IPv6's form (RFC 4291 section 2.5.5.2) as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


# The checksum (section 2.2.3, RFC 3720 appendix B.4).


def _crc32c_table() -> list[int]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
        table.append(octet)
    return table


_CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Calculate CRC-32C; 0.1 us an octet."""
    table, crc = _CRC32C_TABLE, 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ table[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _check_crc32c(read: bytes, values: Values) -> None:
    """Compare with the whole header, the checksum in it taken as zeros."""
    end = len(read)
    for kind, value in reversed(values):
        if kind == _CRC32C:
            break
        end -= 3 + len(value)
    if len(value) != 4:
        raise MalformedProxyHeader("its checksum does not have four octets")
    if crc32c(read[: end - 4] + bytes(4) + read[end:]) != int.from_bytes(value):
        raise MalformedProxyHeader("its checksum is wrong")
