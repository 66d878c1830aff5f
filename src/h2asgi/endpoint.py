"""What a server needs before there is an application: a TLS context and listening sockets.

A supervisor opens it once, for all of its workers; a server alone opens its own.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from . import banner, key_pairs, metrics, sockets
from .config import BindConfig, Config, TLSConfig
from .errors import ConfigurationError
from .health import Service
from .inheritance import Inherited
from .key_pairs import KeyPair
from .listener import Colleagues
from .protocol.engines import engine_notes
from .sockets import How, ListeningSocket
from .tally import Tallies, of_one_process
from .tls import certificate_warnings, create_context
from .tls_context import ServerContext
from .trust import Trusted

logger = logging.getLogger("h2asgi")


@dataclass(slots=True)
class Endpoint:
    """``notes`` are lines for the operator, to be shown once it serves.

    On ``redirect_sockets`` clients are sent to https, on ``redirect_port``. On ``health_sockets``
    health checks are answered, for the ``service`` where there are several workers; on
    ``metrics_sockets``, which may be the same, those who watch, from ``tallies``; on
    ``inspect_sockets`` the inspector is. ``trusted`` are believed about their clients;
    ``proxies`` are the same if they use the PROXY protocol. With ``reuse_port``,
    ``further_sockets`` are those of the second worker and so on. ``tls`` names the files of the
    certificate. It is ``shared`` among workers.
    """

    ssl_context: ServerContext | None = None
    sockets: Sequence[ListeningSocket] = ()
    further_sockets: Sequence[Sequence[ListeningSocket]] = ()
    redirect_sockets: Sequence[ListeningSocket] = ()
    redirect_port: int = 0
    health_sockets: Sequence[ListeningSocket] = ()
    metrics_sockets: Sequence[ListeningSocket] = ()
    inspect_sockets: Sequence[ListeningSocket] = ()
    trusted: Trusted = field(default_factory=lambda: Trusted(()))
    proxies: Trusted | None = None
    colleagues: Colleagues | None = None
    service: Service | None = None
    tallies: Tallies | None = None
    notes: list[str] = field(default_factory=list)
    tls: TLSConfig | None = None
    inherited: Inherited = field(default_factory=Inherited)
    shared: bool = False

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Where it listens: (host, port), or the path of a Unix socket."""
        return [listening.address for listening in self.sockets]

    def every_socket(self) -> list[ListeningSocket]:
        """Give each listening socket once."""
        further = (listening for group in self.further_sockets for listening in group)
        every = (*self.sockets, *further, *self._further_ports(), *self.inspect_sockets)
        return list({id(listening): listening for listening in every}.values())

    def _further_ports(self) -> Sequence[ListeningSocket]:
        """Give those that all workers share in any case."""
        return (*self.redirect_sockets, *self.health_sockets, *self.metrics_sockets)

    def of_worker(
        self,
        index: int,
        count: int,
        colleagues: Colleagues,
        service: Service,
        tallies: Tallies | None = None,
    ) -> Endpoint:
        """Give a worker's part, in its process: all, or with ``reuse_port`` sockets of its own.

        The files of Unix sockets are the supervisor's to remove.
        """
        mine = self.sockets
        if self.further_sockets:
            groups = (self.sockets, *self.further_sockets)
            mine = [listening for group in groups[index::count] for listening in group]
            kept = {listening.sock for listening in (*mine, *self._further_ports())}
            for listening in self.every_socket():
                if listening.sock not in kept:
                    listening.sock.close()  # or connections would wait there for nobody
        health = [replace(found, file=None) for found in self.health_sockets]
        metrics_sockets = health
        if self.metrics_sockets is not self.health_sockets:
            metrics_sockets = [replace(found, file=None) for found in self.metrics_sockets]
        unique = {id(listening): listening for listening in mine}.values()
        return replace(
            self,
            sockets=[replace(listening, file=None) for listening in unique],
            redirect_sockets=[replace(found, file=None) for found in self.redirect_sockets],
            health_sockets=health,
            metrics_sockets=metrics_sockets,
            tallies=tallies,
            inspect_sockets=[replace(found, file=None) for found in self.inspect_sockets],
            further_sockets=(),
            colleagues=None if self.further_sockets else colleagues,
            service=service,
            shared=True,
        )

    def renew_certificate(self, config: Config) -> list[KeyPair]:
        """Read the files anew; raises ``ConfigurationError`` and then leaves all as it is.

        New connections get the new certificate, in the same context, so that sessions can
        still be resumed: the pairs come back, for other processes to load. Where that is not
        enough, because authorities, revocation lists, options or the kind of key are
        others, there is a new context, and nothing to hand on.
        """
        if not config.tls.enabled:
            return []
        tls = _certificate(config.tls)
        pairs = key_pairs.read(tls)
        context = create_context(
            tls, http1=config.http1.enabled, http2=config.http2.enabled, pairs=pairs
        )
        for warning in certificate_warnings(tls):
            logger.warning("%s", warning)
        self.tls = tls
        if self.ssl_context is None or self.ssl_context.fixed != context.fixed:
            self.ssl_context = context
            return []
        key_pairs.replace_all(self.ssl_context, pairs, check_authority=tls.check_authority)
        return pairs

    def leave_to_successor(self) -> None:
        """Leave the files of Unix sockets in place: they were handed over."""
        for listening in self.every_socket():
            listening.file = None

    def close(self) -> None:
        """Stop listening; harmless when it was done before."""
        for listening in self.every_socket():
            listening.close()
        self.sockets = self.redirect_sockets = self.further_sockets = ()
        self.health_sockets = self.metrics_sockets = self.inspect_sockets = ()


def open_endpoint(config: Config, inherited: Inherited | None = None, workers: int = 1) -> Endpoint:
    """Do what can fail by an operator's mistake: raises ``ConfigurationError``."""
    # An engine that was asked for and is not installed is missed here.
    for note in engine_notes(config.http1, config.http2, config.websocket):
        logger.warning("%s", note)
    endpoint = Endpoint(inherited=inherited or Inherited(), trusted=Trusted(config.proxies.trusted))
    endpoint.proxies = endpoint.trusted if config.proxies.proxy_protocol else None
    endpoint.renew_certificate(config)
    how = sockets.how(config.bind, endpoint.inherited)
    try:
        if config.proxies.health_bind is not None:
            _health(endpoint, config, config.proxies.health_bind, how)
        if config.metrics.address is not None:
            _metrics(endpoint, config, config.metrics.address, how)
        if config.inspect.address is not None:
            _inspect(endpoint, config.inspect.address, how)
        wanted = _wanted(config, how.inherited)
        endpoint.sockets = sockets.listen(wanted, how)
        if config.bind.redirect_http is not None:
            _redirect(endpoint, config.bind, wanted, how)
        if config.bind.reuse_port:
            _open_for_each(endpoint, how, workers)
        for address in how.inherited.close():
            logger.warning("no option names the socket %s that was handed down: closed", address)
        if config.tls.dev_cert:
            from .devcerts import ca_file, trust  # which costs a start 30 ms and 10 MiB

            urls = banner.urls(endpoint.addresses, "https")
            endpoint.notes += trust.trust_hint(ca_file(), urls[0].partition(" ")[0])
    except BaseException:
        endpoint.close()
        raise
    return endpoint


def _wanted(config: Config, inherited: Inherited) -> list[sockets.Address]:
    """Say where to listen: where options say, else on the sockets that were handed down."""
    bind = config.bind
    if inherited.sockets and not bind.bind and bind.host is None and bind.port is None:
        return sockets.parse_inherited(inherited, but_for=bind.redirect_http)
    return sockets.parse(bind, tls=config.tls.enabled)


def _open_for_each(endpoint: Endpoint, how: How, workers: int) -> None:
    """Open sockets for further workers, and as long as others of the same address are left."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("--reuse-port needs SO_REUSEPORT, which this system does not have")
    further: list[list[ListeningSocket]] = []
    endpoint.further_sockets = further
    while len(further) < workers - 1 or how.inherited.has_any_of(endpoint.addresses):
        further.append(sockets.listen_again(endpoint.sockets, how))


def _redirect(
    endpoint: Endpoint, config: BindConfig, served: list[sockets.Address], how: How
) -> None:
    assert config.redirect_http is not None
    wanted = sockets.parse_redirect(served, config.redirect_http)
    endpoint.redirect_sockets = sockets.listen(wanted, replace(how, reuse_port=False))
    addresses = [listening.address for listening in endpoint.sockets]
    tcp_ports = (address[1] for address in addresses if isinstance(address, tuple))
    endpoint.redirect_port = config.redirect_to or next(tcp_ports)
    for url in banner.urls([found.address for found in endpoint.redirect_sockets], "http"):
        endpoint.notes.append(f"{url} leads to https, port {endpoint.redirect_port}")


def _health(endpoint: Endpoint, config: Config, address: str, how: How) -> None:
    wanted = sockets.parse_health(address)
    endpoint.health_sockets = sockets.listen(wanted, replace(how, reuse_port=False))
    for url in banner.urls([found.address for found in endpoint.health_sockets], "http"):
        endpoint.notes.append(f"health checks are answered on {url}, {config.proxies.health_path}")


def _metrics(endpoint: Endpoint, config: Config, address: str, how: How) -> None:
    metrics.check_library()
    endpoint.tallies = of_one_process()
    wanted = sockets.parse_metrics(address)
    health = config.proxies.health_bind
    if health is not None and sockets.parse_health(health) == wanted:
        endpoint.metrics_sockets = endpoint.health_sockets
    else:
        endpoint.metrics_sockets = sockets.listen(wanted, replace(how, reuse_port=False))
    for url in banner.urls([found.address for found in endpoint.metrics_sockets], "http"):
        endpoint.notes.append(f"metrics are shown on {url}, {metrics.PATH}")


def _inspect(endpoint: Endpoint, address: str, how: How) -> None:
    wanted = sockets.parse_inspect(address)
    endpoint.inspect_sockets = sockets.listen(wanted, replace(how, reuse_port=False))
    for found in endpoint.inspect_sockets:
        for url in banner.urls([found.address], "http"):
            endpoint.notes.append(f"the inspector is on {url}")
        if not sockets.is_local(found):
            logger.warning(
                "the inspector shows all traffic, in the clear, to whoever can reach %s:"
                " take a loopback address unless that is meant",
                wanted[0],
            )


def _certificate(tls: TLSConfig) -> TLSConfig:
    """Name the files of the certificate, with ``dev_cert`` one that is made now."""
    if not tls.dev_cert:
        return tls
    from .devcerts import resolve

    return resolve(tls)
