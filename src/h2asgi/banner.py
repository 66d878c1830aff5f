"""What the server says about itself once it accepts connections."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

from ._version import __version__
from .config import Config
from .protocol import engine as seam
from .protocol.engines import http1_engine, http2_engine
from .tls import engine_name

logger = logging.getLogger("h2asgi")

COMPILED = not seam.__file__.endswith(".py")

Address = tuple[str, int] | str

_DEFAULT_PORTS = {"http": 80, "https": 443}


def announce(config: Config, addresses: Sequence[Address], notes: Sequence[str], loop: str) -> None:
    """Log the start-up lines and ``notes``, and a warning where it serves others in the clear."""
    for line in (*lines(config, addresses, loop), *notes):
        logger.info("%s", line)
    exposed_to_others = exposed(addresses)
    if exposed_to_others and not config.tls.enabled:
        logger.warning(
            "serving in the clear on %s: whoever is on the way can read and change it",
            ", ".join(exposed_to_others),
        )


def lines(config: Config, addresses: Sequence[Address], loop: str) -> list[str]:
    """Give the start-up lines: version and what it runs on, then the addresses."""
    engines = [http2_engine(config.http2).name] * config.http2.enabled
    engines += [http1_engine(config.http1).name] * config.http1.enabled
    if config.tls.enabled and (tls := engine_name(config.tls)) != "ssl":
        engines.append(tls)
    protocols = ["HTTP/2"] * config.http2.enabled + ["HTTP/1.1"] * config.http1.enabled
    how = "over TLS" if config.tls.enabled else "in the clear"
    compiled = "compiled; " if COMPILED else ""
    workers = f"; {config.workers} workers" if config.workers != 1 else ""
    first = (
        f"h2asgi {__version__} serves {' and '.join(protocols)} {how}"
        f" ({compiled}engines {', '.join(engines)}; loop {loop}{workers})"
    )
    return [first, *urls(addresses, "https" if config.tls.enabled else "http")]


def urls(addresses: Sequence[Address], scheme: str) -> list[str]:
    """Give what an operator can click on, one for each address that is not another's twin.

    127.0.0.1 and ::1 on one port are ``localhost``; so is an address that
    stands for all of the machine's, and says so.
    """
    found: dict[str, None] = {}
    for address in addresses:
        found[_url(address, addresses, scheme)] = None
    return list(found)


def _url(address: Address, addresses: Sequence[Address], scheme: str) -> str:
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    loopback = {("127.0.0.1", port), ("::1", port)}
    if address in loopback and loopback.issubset(addresses):
        return f"{scheme}://localhost{suffix}"
    if _parsed(host).is_unspecified:
        return f"{scheme}://localhost{suffix} (and every other address: {host})"
    if ":" in host:
        # RFC 6874: the percent sign of a zone is itself encoded in a URL.
        return f"{scheme}://[{host.replace('%', '%25')}]{suffix}"
    return f"{scheme}://{host}{suffix}"


def exposed(addresses: Sequence[Address]) -> list[str]:
    """Give the TCP addresses that other machines can reach."""
    return [
        f"{address[0]} port {address[1]}"
        for address in addresses
        if not isinstance(address, str) and not _parsed(address[0]).is_loopback
    ]


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)
