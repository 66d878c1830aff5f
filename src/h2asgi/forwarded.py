"""What proxies in front say of a request: X-Forwarded-* fields, or Forwarded (RFC 7239).

Each proxy adds, at the end, whom it was asked by. So the fields are read from
their end, and only as far as they were written by somebody who is believed:
the last address that is not such a one is the client. What stands in front of
it may have been written by anybody, and is not looked at. What cannot be read
ends the chain where it stands; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple

from .protocol.events import Headers
from .protocol.headers import authority_text
from .protocol.proxy import IPAddress, plain
from .trust import Trusted

MAX_HOPS = 32
"""Proxies in a row that are looked through: no request goes through as many, and each costs a few
microseconds."""

MAX_LINE_SIZE = 4096
"""Octets at the end of a Forwarded line that are looked at: so many hops, with all they may say."""

MAX_NODE_SIZE = 64
"""Octets of an address, with brackets and port."""

REMEMBERED_CLIENTS = 1024
"""Clients that are not read again: they come with request after request; 300 octets each."""

_X_FORWARDED: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
)

_node = re.compile(
    rb"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([0-9.]+)(?::([0-9]{1,5}))?|([0-9A-Fa-f:.]+)"
).fullmatch
"""An address, perhaps with a port; IPv6 without brackets has none."""

_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_OF_WEBSOCKETS: Final = {"http": "ws", "https": "wss"}

_PAIR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"(?:[^\"\\]|\\.)*\")"
_element = re.compile(rb"[ \t]*" + _PAIR + rb"(?:[ \t]*;[ \t]*" + _PAIR + rb")*[ \t]*").fullmatch
"""RFC 7239 section 4."""

_pairs = re.compile(_PAIR).findall
_escape = re.compile(rb"\\(.)")


class Hop(NamedTuple):
    """What one proxy says of who asked it; None and empty where it says nothing."""

    node: bytes | None = None
    proto: bytes | None = None
    host: bytes | None = None
    port: bytes | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What is believed of a request; None is not known. A port of 0 was not told."""

    client: tuple[str, int] | None
    scheme: str | None
    host: bytes | None
    port: int | None


class Forwarding:
    """Reads one kind of fields, of requests whose peer is believed."""

    def __init__(self, trusted: Trusted, kind: Literal["x-forwarded", "forwarded"]) -> None:
        self._trusted = trusted
        self._hops = _x_forwarded if kind == "x-forwarded" else _forwarded
        self._client = lru_cache(REMEMBERED_CLIENTS)(self._read_client)

    def believes(self, client: tuple[str, int] | None) -> bool:
        """Whether ``client``, who opened a connection, may speak for others."""
        return self._trusted.peer(None if client is None else client[0])

    def origin(self, headers: Headers) -> Origin:
        """Follow the chain of proxies to its end."""
        client, told = None, Hop()
        for told in self._hops(headers):
            node = told.node
            found = self._client(node) if node and len(node) <= MAX_NODE_SIZE else None
            if found is None:
                break
            client, is_proxy = found
            if not is_proxy:
                break
        host = told.host if told.host and authority_text(told.host) else None
        scheme = _SCHEMES.get(told.proto.lower()) if told.proto else None
        return Origin(client, scheme, host, _port(told.port))

    def _read_client(self, node: bytes) -> tuple[tuple[str, int], bool] | None:
        """Give the client that a proxy names, and whether it is a proxy that is believed."""
        found = _address(node)
        if found is None:
            return None
        address, port = found
        return (str(address), port), self._trusted.address(address)

    def apply(self, scope: dict[str, Any], headers: Headers) -> None:
        """Set in ``scope`` what is known; ``headers`` are the request's, and stay as they are."""
        origin = self.origin(headers)
        if origin.client is not None:
            scope["client"] = origin.client
        if origin.scheme is not None:
            websocket = scope["type"] == "websocket"
            scope["scheme"] = _OF_WEBSOCKETS[origin.scheme] if websocket else origin.scheme
        if origin.host is not None:
            others = [field for field in headers if field[0] != b"host"]
            scope["headers"] = [(b"host", origin.host), *others]
        name, port = scope["server"]
        if origin.port is not None and port is not None:
            scope["server"] = name, origin.port


# X-Forwarded-*: lists side by side. Some proxies add to all of them, some to -For alone.


def _x_forwarded(headers: Headers) -> Iterator[Hop]:
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _X_FORWARDED:
            lines.setdefault(name, []).append(value)
    nodes, *others = (
        _elements(lines.get(name))
        for name in (
            *(b"x-forwarded-for", b"x-forwarded-proto"),
            *(b"x-forwarded-host", b"x-forwarded-port"),
        )
    )
    if not nodes:
        yield Hop(None, *(values[-1] if values else None for values in others))
    for place in range(-1, -len(nodes) - 1, -1):
        yield Hop(nodes[place], *(_beside(values, nodes, place) for values in others))


def _elements(lines: list[bytes] | None) -> list[bytes]:
    """Give the last elements of a list that may stand in several lines (RFC 9110 section 5.3)."""
    if lines is None:
        return []
    value = lines[0] if len(lines) == 1 else b",".join(lines)
    return [element.strip(b" \t") for element in value.rsplit(b",", MAX_HOPS)[-MAX_HOPS:]]


def _beside(values: list[bytes], nodes: list[bytes], place: int) -> bytes | None:
    """Give the value for a node; where there are not as many, what the nearest proxy says."""
    if not values:
        return None
    return values[place] if len(values) == len(nodes) else values[-1]


# Forwarded: one list, of elements with parameters.


def _forwarded(headers: Headers) -> Iterator[Hop]:
    lines = [value for name, value in headers if name == b"forwarded"]
    left = MAX_HOPS
    for line in reversed(lines):
        rest = line[-MAX_LINE_SIZE:]
        while rest and left:
            rest, element = _last_element(rest)
            hop = _hop(_pairs(element))
            if hop is None:
                return
            yield hop
            left -= 1


def _last_element(line: bytes) -> tuple[bytes, bytes]:
    """Split off the last element; what is none is left out, and the whole line with it.

    Looked for from the end: a quote that a client left open must not swallow what a
    proxy wrote behind it. A comma inside quotes is passed over, since what follows
    it has an odd number of quotes and so is no element.
    """
    comma = len(line)
    while comma >= 0:
        comma = line.rfind(b",", 0, comma)
        if _element(line, comma + 1):
            return line[: max(comma, 0)], line[comma + 1 :]
        if comma < 0:
            break
    return b"", b""


def _hop(pairs: list[bytes]) -> Hop | None:
    """Read the parameters of an element; None if there is none, or one twice (section 4)."""
    if not pairs:
        return None
    told: dict[bytes, bytes] = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        if value[:1] == b'"':
            value = _escape.sub(rb"\1", value[1:-1])
        if (name := name.lower()) in told:
            return None
        told[name] = value
    return Hop(told.get(b"for"), told.get(b"proto"), told.get(b"host"))


# Values.


def _address(node: bytes) -> tuple[IPAddress, int] | None:
    """Read an address and its port, or 0; None for names, ``unknown`` and whatever else."""
    found = _node(node)
    if found is None:
        return None
    bracketed, port6, dotted, port4, bare = found.groups()
    try:
        address = ip_address((bracketed or dotted or bare).decode("ascii"))
    except ValueError:
        return None
    if bracketed and address.version == 4:
        return None
    port = int(port6 or port4 or b"0")
    return (plain(address), port) if port <= 0xFFFF else None


def _port(text: bytes | None) -> int | None:
    if not text or len(text) > 5 or not text.isdigit():
        return None
    port = int(text)
    return port if 0 < port <= 0xFFFF else None
