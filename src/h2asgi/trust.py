"""Whom to believe when it says on whose behalf it comes: ``--forwarded-allow-ips``."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from .errors import ConfigurationError
from .protocol.proxy import IPAddress, plain

EVERYBODY = "*"
UNIX = "unix"


class Trusted:
    """Addresses and networks; ``texts`` may hold several each, with commas between.

    Raises ``ConfigurationError``.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        entries = [part.strip() for text in texts for part in text.split(",")]
        self._everybody = EVERYBODY in entries
        self._unix = self._everybody or UNIX in entries
        self._networks = [_network(entry) for entry in entries if entry not in (EVERYBODY, UNIX)]

    def address(self, address: IPAddress) -> bool:
        """Whether ``address``, as ``plain`` gives it, is believed."""
        return self._everybody or any(address in network for network in self._networks)

    def peer(self, host: str | None) -> bool:
        """Whether whoever connects from ``host`` is; None is a Unix socket."""
        if host is None:
            return self._unix
        return self._everybody or self.address(plain(ip_address(host)))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"--forwarded-allow-ips {text!r} is no address: write, say, 10.0.0.5, 10.0.0.0/8, "
            "2001:db8::/32, unix, or * for everybody"
        ) from None
    raise ConfigurationError(
        f"--forwarded-allow-ips {text!r} is an address inside a network: write {meant}, or the "
        "address alone"
    )
