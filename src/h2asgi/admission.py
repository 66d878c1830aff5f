"""Who may connect: how many connections there may be, in all and from one address.

A connection has its place from the moment it is accepted until it is lost, so
that handshakes count too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

MAX_CONNECTIONS = 10_000
"""Connections unless an option says otherwise: at some 20 to 60 KiB each about half a gibibyte,
and more than one Python process can keep busy."""

USUAL_DESCRIPTORS = 1024
"""What most systems allow a process, where it is not told."""

IPV6_SITE = 64
"""Leading bits of an IPv6 address that count as one client: a host has all addresses of its subnet
to choose from (RFC 4291 section 2.5.1, RFC 8981)."""


def default_limit() -> int:
    """Connections for which there are descriptors: three quarters of what the process may have.

    The rest is the application's, for files, databases and clients of its own.
    """
    return min(MAX_CONNECTIONS, _descriptors() * 3 // 4)


def _descriptors() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return USUAL_DESCRIPTORS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft


class Admission:
    """Gives each connection its place; ``on_leave`` is called whenever one is free again.

    ``limit`` and ``per_address`` count connections; None for the latter is no limit.
    """

    def __init__(self, limit: int, per_address: int | None, on_leave: Callable[[], None]) -> None:
        self.limit = limit
        self.per_address = per_address
        self._on_leave = on_leave
        self.taken = 0
        self._by_client: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether nobody more may come in."""
        return self.taken >= self.limit

    def enter(self, host: str | None) -> Place | None:
        """Give a place, or None if this address has all that it may have.

        ``host`` is the address of the client; None is nobody's, as on a Unix socket,
        or not known yet.
        """
        place = Place(self)
        if host is not None and not place.count_for(host):
            return None
        self.taken += 1
        return place

    def take_share(self, client: str) -> bool:
        """Count one connection more for a client, if it may have one; for ``Place`` alone."""
        count = self._by_client.get(client, 0)
        if self.per_address is not None and count >= self.per_address:
            return False
        self._by_client[client] = count + 1
        return True

    def leave(self, client: str | None) -> None:
        """Take a place back; for ``Place`` alone."""
        self.taken -= 1
        if client is not None:
            left = self._by_client[client] - 1
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]
        self._on_leave()


class Place:
    """What one connection holds; ``leave`` may be called again, and does nothing then."""

    __slots__ = ("_admission", "_client")

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission
        self._client: str | None = None

    def count_for(self, host: str) -> bool:
        """Count it for ``host``; says whether that address may have it."""
        admission = self._admission
        if admission is None or admission.per_address is None:
            return True
        client = client_of(host)
        if not admission.take_share(client):
            return False
        self._client = client
        return True

    def leave(self) -> None:
        """Give the place back."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave(self._client)


def client_of(host: str) -> str:
    """Name whom an address counts for: itself, or the subnet of an IPv6 address."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_SITE), strict=False))
