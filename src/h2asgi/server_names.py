"""Names of servers: what an operator writes, what a client asks for, what a certificate covers.

A name is in lower case, in A-labels (RFC 5890), without a dot at its end. ``*.`` in
front stands for exactly one label (RFC 9525 section 6.3).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from .errors import ConfigurationError

MAX_AUTHORITY_SIZE = 260
"""Octets: a name has up to 253, a port five and its colon (RFC 1035 section 2.3.4)."""

REMEMBERED_AUTHORITIES = 256
"""Authorities whose answer is remembered, for each certificate."""

_name = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*").fullmatch
_port = re.compile(r":[0-9]*$")


class NamedPair(NamedTuple):
    """A certificate for one name; without ``keyfile`` the key is in ``certfile``."""

    name: str
    certfile: str
    keyfile: str | None


def parse_pairs(texts: Iterable[str]) -> list[NamedPair]:
    """Read ``NAME=CERTFILE[,KEYFILE]``, as ``--cert`` has it; raises ConfigurationError."""
    pairs: dict[str, NamedPair] = {}
    for text in texts:
        written, _, files = text.partition("=")
        certfile, _, keyfile = files.partition(",")
        if not certfile or (not keyfile and files.endswith(",")):
            raise ConfigurationError(
                f"--cert {text!r} must be NAME=CERTFILE or NAME=CERTFILE,KEYFILE"
            )
        name = canonical(written)
        if not _name(name) or _is_address(name):
            raise ConfigurationError(
                f"--cert {text!r} must begin with a host name, such as example.com or *.example.com"
            )
        if name in pairs:
            raise ConfigurationError(f"--cert names {name} twice")
        pairs[name] = NamedPair(name, certfile, keyfile or None)
    return list(pairs.values())


def canonical(name: str) -> str:
    """Give the one form of ``name``; what cannot be a name comes back as it is."""
    name = name.lower().removesuffix(".")
    if name.isascii():
        return name
    try:
        wildcard = "*." if name.startswith("*.") else ""
        return wildcard + name.removeprefix("*.").encode("idna").decode("ascii")
    except UnicodeError:
        return name


def wildcard(name: str) -> str:
    """Give the name with ``*`` that covers ``name``."""
    return "*." + name.partition(".")[2]


def _is_address(name: str) -> bool:
    return name.rpartition(".")[2].isdigit()


def coverage(names: frozenset[str], addresses: frozenset[str]) -> Callable[[bytes], bool]:
    """Give what says whether an authority (RFC 3986 section 3.2) is among those of a certificate.

    ``addresses`` are as ``ipaddress`` writes them. Answers are remembered.
    """

    @lru_cache(maxsize=REMEMBERED_AUTHORITIES)
    def look_up(authority: bytes) -> bool:
        host = canonical(_port.sub("", authority.decode("latin-1")))
        if host.startswith("[") or _is_address(host):
            try:
                return str(ipaddress.ip_address(host.strip("[]"))) in addresses
            except ValueError:
                return False
        return "*" not in host and (host in names or wildcard(host) in names)

    def covers(authority: bytes) -> bool:
        return len(authority) <= MAX_AUTHORITY_SIZE and look_up(authority)

    return covers
