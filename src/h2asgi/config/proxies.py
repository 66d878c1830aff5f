"""What stands in front: whom to believe about clients, and what load balancers are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """Proxies and load balancers."""

    trusted: tuple[str, ...] = option(
        (), "forwarded-allow-ips", "Load balancers",
        "Proxies to believe about their clients: addresses, networks such as 10.0.0.0/8, unix for "
        "Unix sockets, or * for everybody. Repeatable. [default: none]",
        metavar="ADDRESS",
    )  # fmt: skip
    forwarded: Literal["x-forwarded", "forwarded"] | None = option(
        None, "forwarded", "Load balancers",
        "Fields that are read from them: X-Forwarded-For, -Proto, -Host and -Port, or Forwarded "
        "(RFC 7239). [default: x-forwarded; none with --proxy-protocol]",
    )  # fmt: skip
    proxy_protocol: bool = option(
        False, "proxy-protocol", "Load balancers",
        "Take connections from --forwarded-allow-ips alone, and only with a header of the PROXY "
        "protocol, version 1 or 2.",
    )  # fmt: skip
    health_path: str | None = option(
        None, "health-path", "Load balancers",
        "Path that the server itself answers: 200, or 503 while it starts or drains.",
        metavar="PATH",
    )  # fmt: skip
    health_bind: str | None = option(
        None, "health-bind", "Load balancers",
        "A further address, in the clear, that answers --health-path alone, also while the "
        "application starts.",
        metavar="ADDRESS",
    )  # fmt: skip
    drain_delay: float = option(
        0.0, "drain-delay", "Load balancers",
        "How long a server that is asked to stop goes on as before, but for its health checks.",
        minimum=0.0,
    )  # fmt: skip

    @property
    def fields(self) -> Literal["x-forwarded", "forwarded"] | None:
        """Which fields are read, if any."""
        if not self.trusted:
            return None
        # A header of the PROXY protocol says it all; its clients may have written the fields.
        return self.forwarded or (None if self.proxy_protocol else "x-forwarded")
