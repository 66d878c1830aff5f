"""Connections between accept and their protocol: the PROXY header, then the TLS handshake."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable

from .admission import Place
from .callbacks import Callbacks
from .protocol.proxy import MalformedProxyHeader, ProxyHeader, ProxyHeaderParser
from .shared_by_transports import SharedByTransports
from .socket_transport import SocketTransport
from .tally import ADDRESS_LIMIT, HANDSHAKE_FAULTS, HANDSHAKE_TIMEOUTS, HANDSHAKES_LEFT, Tally
from .tcp import prepare
from .tls_context import ServerContext
from .tls_handshake import Handshake
from .tls_transport import TLSTransport

logger = logging.getLogger("h2asgi")

ServerAddress = tuple[str, int | None]
Factory = Callable[[ServerAddress, Callable[[], None], ProxyHeader | None], Callbacks]


class Arrivals:
    """All that are under way, oldest first.

    ``factory`` makes the protocol of one connection, given the address it came in by as in
    the ASGI scope's ``server``, what it has to call once it is lost, and what a load balancer
    has said of it. Each has ``timeout`` seconds for everything. ``on_over`` is called whenever
    one is under way no longer. ``tally`` counts handshakes that fail.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        *,
        ssl_context: ServerContext | None,
        has_proxies: bool,
        timeout: float,
        tally: Tally | None,
        on_over: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.factory = factory
        self.ssl_context = ssl_context
        """For connections to come."""
        self.has_proxies = has_proxies
        self.timeout = timeout
        self.shared = SharedByTransports(loop)
        self._tally = tally
        self._on_over = on_over
        self._under_way: dict[Arrival, float] = {}  # with their begin
        self._deadline: asyncio.TimerHandle | None = None  # of the oldest, or of one before it

    def __len__(self) -> int:
        return len(self._under_way)

    def admit(self, sock: socket.socket, place: Place) -> None:
        """Begin with a connection that was accepted, whose ``place`` is given back at its end."""
        arrival = Arrival(self, sock, place)
        begun = self.loop.time()
        self._under_way[arrival] = begun
        arrival.begin()
        if self._under_way and self._deadline is None:
            self._deadline = self.loop.call_at(begun + self.timeout, self._expire)

    def over(self, arrival: Arrival) -> None:
        """Forget one; harmless when it was done before."""
        if self._under_way.pop(arrival, None) is not None:
            self._on_over()

    @property
    def oldest(self) -> float:
        """When the oldest has begun, in the loop's time; there must be one."""
        return next(iter(self._under_way.values()))

    def end_oldest(self) -> None:
        """Close the oldest."""
        next(iter(self._under_way)).end()

    def end(self) -> None:
        """Close all."""
        for arrival in list(self._under_way):
            arrival.end()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def count(self, word: int) -> None:
        """Have the metrics show what has happened."""
        if self._tally is not None:
            self._tally.add(word)

    def _expire(self) -> None:
        self._deadline = None
        latest = self.loop.time() - self.timeout
        while self._under_way and self.oldest <= latest:
            next(iter(self._under_way)).expire()
        if self._under_way:
            self._deadline = self.loop.call_at(self.oldest + self.timeout, self._expire)


class Arrival:
    """One of them. Owns its socket, until a transport does."""

    def __init__(self, arrivals: Arrivals, sock: socket.socket, place: Place) -> None:
        self._arrivals = arrivals
        self._sock = sock
        self._place = place
        self._server: ServerAddress
        self._parser: ProxyHeaderParser | None = None
        self._header: ProxyHeader | None = None
        self._handshake: Handshake | None = None

    def begin(self) -> None:
        """Wait for what comes first; in the clear, and without a load balancer, for nothing."""
        try:
            self._server = _address(self._sock)
            if self._arrivals.has_proxies:
                self._parser = ProxyHeaderParser()
                self._arrivals.loop.add_reader(self._sock.fileno(), self._header_ready)
            else:
                self._secure()
        except Exception as error:
            self._fail(error)

    def end(self) -> None:
        """Close the connection."""
        if self._handshake is not None:
            self._handshake.abandon()
            self._handshake = None
        elif self._sock.fileno() >= 0:  # else a transport has closed it
            self._arrivals.loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._arrivals.over(self)
        self._place.leave()

    def expire(self) -> None:
        """Close the connection, for its time is over."""
        if self._handshake is None:
            self._fail(TimeoutError("its PROXY header took too long"))
            return
        limit = self._arrivals.timeout
        late = TimeoutError(f"the handshake took longer than {limit:g} s")
        self._agreed(self._handshake.failure or late)

    def _fail(self, error: Exception) -> None:
        self.end()
        if isinstance(error, (OSError, MalformedProxyHeader)):
            # Plain HTTP on the TLS port, a time-out, a reset, no common version:
            # a peer's affair, and ssl.SSLError is an OSError.
            logger.debug("a connection failed before its first byte: %s", error)
        else:
            logger.error("a connection could not be set up", exc_info=error)

    def _header_ready(self) -> None:
        try:
            if self._read_header():
                self._secure()
        except Exception as error:
            self._fail(error)

    def _read_header(self) -> bool:
        """Read whose the connection is, and nothing behind that; says whether it is known."""
        parser = self._parser
        assert parser is not None
        while parser.wanted:
            try:
                data = self._sock.recv(parser.wanted)
            except BlockingIOError:
                return False
            if not data:
                raise ConnectionResetError("it ended before its PROXY header did")
            parser.feed(data)
        header = parser.header
        assert header is not None
        if header.source is not None and not self._place.count_for(header.source[0]):
            self._arrivals.count(ADDRESS_LIMIT)
            raise ConnectionAbortedError(
                f"{header.source[0]} has as many connections as one address may have"
            )
        self._header = header
        self._arrivals.loop.remove_reader(self._sock.fileno())
        return True

    def _secure(self) -> None:
        arrivals = self._arrivals
        if arrivals.ssl_context is None:
            self._hand_over(SocketTransport(arrivals.loop, self._sock, arrivals.shared))
        else:
            self._handshake = Handshake(
                arrivals.loop, self._sock, arrivals.ssl_context, arrivals.shared, self._agreed
            )
            self._handshake.begin()

    def _agreed(self, error: Exception | None) -> None:
        handshake = self._handshake
        assert handshake is not None
        if error is not None:
            self._count_failure(error)
            self._fail(error)
            return
        self._handshake = None
        arrivals = self._arrivals
        try:
            self._hand_over(TLSTransport(arrivals.loop, self._sock, handshake.tls, arrivals.shared))
        except Exception as failure:
            self._fail(failure)

    def _count_failure(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            self._arrivals.count(HANDSHAKE_TIMEOUTS)
        elif isinstance(error, OSError):
            fault = isinstance(error, ssl.SSLError)
            self._arrivals.count(HANDSHAKE_FAULTS if fault else HANDSHAKES_LEFT)

    def _hand_over(self, transport: SocketTransport) -> None:
        protocol = self._arrivals.factory(self._server, self._place.leave, self._header)
        self._arrivals.over(self)
        transport.start(protocol)


def _address(sock: socket.socket) -> ServerAddress:
    """Give the address that a connection was accepted on, once its socket is prepared."""
    sock.setblocking(False)
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return os.fsdecode(name), None
    prepare(sock)
    return name[0], name[1]
