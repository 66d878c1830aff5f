"""Names that a development certificate is for, and those that its authority may vouch for."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from ..errors import ConfigurationError

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

PRIVATE_DOMAINS = ("home.arpa", "internal", "local", "localhost", "test")
"""Domains that nobody can register: RFC 8375, ICANN's resolution of 29 July 2024, RFC 6762 and
RFC 6761. Whoever has the key of the authority can be no site of the internet by them."""

PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "::1/128"),
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("fc00::/7", "fe80::/10"),
    )
)
"""Loopback, and addresses that lead nowhere on the internet (RFC 1918, 3927, 4193 and 4291)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_dns_name = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*").fullmatch


def normalized(text: str) -> str:
    """Give a name or an address as certificates have it; raises ConfigurationError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    if not _dns_name(name):
        raise ConfigurationError(
            f"{text!r} cannot be in a certificate: give a host name or an address, without a port"
        )
    wildcard, domain = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    import idna

    try:
        return wildcard + idna.encode(domain).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigurationError(f"{text!r} cannot be in a certificate: {error}") from None


def machine_name() -> str | None:
    """Give this machine's name, if a certificate can hold it."""
    name = socket.gethostname().lower()
    return name if re.fullmatch(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*", name) else None


class Permitted:
    """What an authority may vouch for (RFC 5280 section 4.2.1.10): domains with all below them."""

    def __init__(self, domains: Iterable[str], networks: Iterable[Network]) -> None:
        self.domains = frozenset(domains)
        self.networks = frozenset(networks)

    @classmethod
    def for_names(cls, names: Iterable[str]) -> Permitted:
        """Permit what is private, and ``names``."""
        domains, networks = set(PRIVATE_DOMAINS), set(PRIVATE_NETWORKS)
        private = cls(domains, networks)
        for name in names:
            if name in private:
                continue
            try:
                networks.add(ipaddress.ip_network(name))
            except ValueError:
                domains.add(name.removeprefix("*."))
        return cls(domains, networks)

    def __contains__(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            labels = name.removeprefix("*.").split(".")
            above = {".".join(labels[start:]) for start in range(len(labels))}
            return not above.isdisjoint(self.domains)
        return any(address in network for network in self.networks)

    def __or__(self, other: Permitted) -> Permitted:
        return Permitted(self.domains | other.domains, self.networks | other.networks)
