"""What a server needs before there is an application: a TLS context and listening sockets.

A supervisor opens it once, for all of its workers; a server alone opens its own.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import banner, sockets
from .config import BindConfig, Config, TLSConfig
from .health import Service
from .listener import Colleagues
from .protocol.engines import engine_notes
from .sockets import ListeningSocket
from .tls import certificate_warnings, create_context
from .trust import Trusted

logger = logging.getLogger("h2asgi")


@dataclass(slots=True)
class Endpoint:
    """``notes`` are lines for the operator, to be shown once it serves.

    On ``redirect_sockets`` clients are sent to https, on ``redirect_port``. On ``health_sockets``
    health checks are answered, for the ``service`` where there are several workers. ``trusted``
    are believed about their clients; ``proxies`` are the same if they use the PROXY protocol.
    """

    ssl_context: ssl.SSLContext | None = None
    sockets: Sequence[ListeningSocket] = ()
    redirect_sockets: Sequence[ListeningSocket] = ()
    redirect_port: int = 0
    health_sockets: Sequence[ListeningSocket] = ()
    trusted: Trusted = field(default_factory=lambda: Trusted(()))
    proxies: Trusted | None = None
    colleagues: Colleagues | None = None
    service: Service | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Where it listens: (host, port), or the path of a Unix socket."""
        return [listening.address for listening in self.sockets]

    def renew_certificate(self, config: Config) -> None:
        """Read the files anew, for the processes to come; raises ``ConfigurationError``."""
        if config.tls.enabled:
            self.ssl_context = _context(config, self.notes)

    def close(self) -> None:
        """Stop listening; harmless when it was done before."""
        for listening in (*self.sockets, *self.redirect_sockets, *self.health_sockets):
            listening.close()
        self.sockets = self.redirect_sockets = self.health_sockets = ()


def open_endpoint(config: Config) -> Endpoint:
    """Do what can fail by an operator's mistake: raises ``ConfigurationError``."""
    # An engine that was asked for and is not installed is missed here.
    for note in engine_notes(config.http1, config.http2, config.websocket):
        logger.warning("%s", note)
    endpoint = Endpoint(trusted=Trusted(config.proxies.trusted))
    endpoint.proxies = endpoint.trusted if config.proxies.proxy_protocol else None
    endpoint.renew_certificate(config)
    wanted = sockets.parse(config.bind, tls=config.tls.enabled)
    endpoint.sockets = sockets.listen(wanted, config.bind.backlog)
    try:
        if config.bind.redirect_http is not None:
            _redirect(endpoint, config.bind, wanted, config.bind.redirect_http)
        if config.proxies.health_bind is not None:
            _health(endpoint, config, config.proxies.health_bind)
    except BaseException:
        endpoint.close()
        raise
    return endpoint


def _redirect(
    endpoint: Endpoint, config: BindConfig, served: list[sockets.Address], port: int
) -> None:
    wanted = sockets.parse_redirect(served, port)
    endpoint.redirect_sockets = sockets.listen(wanted, config.backlog)
    addresses = [listening.address for listening in endpoint.sockets]
    tcp_ports = (address[1] for address in addresses if isinstance(address, tuple))
    endpoint.redirect_port = config.redirect_to or next(tcp_ports)
    for url in banner.urls([found.address for found in endpoint.redirect_sockets], "http"):
        endpoint.notes.append(f"{url} leads to https, port {endpoint.redirect_port}")


def _health(endpoint: Endpoint, config: Config, address: str) -> None:
    wanted = sockets.parse_health(address)
    endpoint.health_sockets = sockets.listen(wanted, config.bind.backlog)
    for url in banner.urls([found.address for found in endpoint.health_sockets], "http"):
        endpoint.notes.append(f"health checks are answered on {url}, {config.proxies.health_path}")


def _context(config: Config, notes: list[str]) -> ssl.SSLContext:
    tls = _certificate(config.tls, notes)
    context = create_context(tls, http1=config.http1.enabled, http2=config.http2.enabled)
    for warning in certificate_warnings(tls):
        logger.warning("%s", warning)
    return context


def _certificate(tls: TLSConfig, notes: list[str]) -> TLSConfig:
    """Name the files of the certificate, with ``dev_cert`` one that is made now."""
    if not tls.dev_cert:
        return tls
    from . import devcerts  # which costs a start 30 ms and 10 MiB

    pair = devcerts.resolve(tls)
    notes.append(devcerts.trust_hint(devcerts.ca_file()))
    return pair
