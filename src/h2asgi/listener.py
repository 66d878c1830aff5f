"""The accept loop: who may come in, and when.

It is our own since ``loop.create_server`` can neither pause accepting nor bound
the handshakes under way, and since each event loop treats a process that has
run out of descriptors differently.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from .admission import Admission
from .arrivals import Arrivals, Factory
from .sockets import ListeningSocket
from .tally import ADDRESS_LIMIT, CONNECTIONS_LIMIT, HANDSHAKES_LIMIT, Tally
from .tls_context import ServerContext
from .trust import Trusted

logger = logging.getLogger("h2asgi")

ACCEPTS_PER_TURN = 16
"""Connections taken per wake-up, 40 to 100 us each: a burst leaves the others their turn, and who
is gone already is found out before it counts against a limit."""

EXHAUSTED_PAUSE = 1.0
"""Seconds without accepting once descriptors ran out; trying at once again would only spin."""

MAX_HANDSHAKES = 1000
"""TLS handshakes under way, and never more than half of all connections: some 50 KiB and two steps
of calculation each, and whoever only begins them must not keep out those who go on."""

HANDSHAKE_PATIENCE = 1.0
"""Seconds after which a handshake gives way to a new connection when there are too many: several
round trips across the world. Whoever stalls can thus hold up others for no longer."""

ROOM_INTERVAL = 0.25
"""Seconds after which it is looked for room again, when there are as many as there may be."""

WARNING_INTERVAL = 60.0
"""Seconds between two warnings that the limit is reached: a peer decides how often it is."""

_GONE = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN"),
        *("ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
"""What accept(2) reports about the connection it took from the queue, not about the listener."""

COLLEAGUES_TIME = 0.01
"""Seconds for which connections are left to workers that have fewer: one that is free takes them at
once. As long as none does, twice as many as the last time are taken after each such pause."""

MAX_SHARE = 64
"""Connections taken then, at the most."""


class Colleagues(Protocol):
    """The other workers that accept on the same sockets."""

    def publish(self, connections: int) -> None:
        """Tell them how many connections there are here."""

    def fewest(self) -> int:
        """How many the worker has that has the fewest, this one included."""


class Listener:
    """Accepts on several sockets, and owns them and what arrives by them.

    ``factory`` and ``ssl_context`` are those of ``Arrivals``, where ``handshake_timeout`` is for
    everything. ``limit`` and ``per_address`` are those of ``Admission``; ``on_full`` is called
    when somebody waits for a place that is not there, and again every ``ROOM_INTERVAL``. With
    ``proxies`` connections are taken from those alone, and only with a header of the PROXY
    protocol in front. ``tally`` counts limits that are reached, and handshakes that fail.
    """

    def __init__(
        self,
        sockets: list[ListeningSocket],
        factory: Factory,
        *,
        ssl_context: ServerContext | None,
        handshake_timeout: float,
        limit: int,
        per_address: int | None,
        on_full: Callable[[], None],
        limit_name: str = "--limit-connections",
        colleagues: Colleagues | None = None,
        proxies: Trusted | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._proxies = proxies
        self._colleagues = colleagues
        self._fewest = 0  # that a colleague had at the end of the last pause
        self._share = 1  # connections to take at the end of one
        self._sockets = sockets
        self._admission = Admission(limit, per_address, self._room_was_made)
        self._on_full = on_full
        self._limit_name = limit_name
        self._max_handshakes = min(MAX_HANDSHAKES, max(1, limit // 2))
        self._loop = asyncio.get_running_loop()
        self._arrivals = Arrivals(
            self._loop,
            factory,
            ssl_context=ssl_context,
            has_proxies=proxies is not None,
            timeout=handshake_timeout,
            tally=tally,
            on_over=self._arrival_over,
        )
        self._all_arrived = asyncio.Event()  # for ``finish_handshakes``
        self._resuming: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._awaiting_room = False
        self._warned = -WARNING_INTERVAL

    def start(self) -> None:
        """Begin to accept, or go on."""
        self._awaiting_room = False
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        for listening in self._sockets:
            self._loop.add_reader(listening.sock, self._accept, listening.sock)

    def renew(self, ssl_context: ServerContext | None) -> None:
        """Have connections to come begin with this context."""
        self._arrivals.ssl_context = ssl_context

    def stop(self) -> None:
        """Accept nothing more and close the sockets; handshakes go on."""
        self._pause()
        if self._resuming is not None:
            self._resuming.cancel()
        for listening in self._sockets:
            listening.close()
        self._sockets = []
        self._colleagues = None

    async def finish_handshakes(self, seconds: float) -> None:
        """Let the handshakes under way come to their end for so long, then end them."""
        self._all_arrived.clear()
        try:
            if self._arrivals:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._all_arrived.wait()
        finally:
            self.end_handshakes()

    def end_handshakes(self) -> None:
        """End the handshakes under way."""
        self._arrivals.end()

    def _pause(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening.sock)

    def _accept(self, listening: socket.socket) -> None:
        if not self._has_room():
            self._await_room()
            return
        for _ in range(ACCEPTS_PER_TURN):
            if self._leaves_it_to_others() or not self._accept_one(listening):
                return
            if not self._has_room():
                return  # if somebody waits, the loop says so

    def _accept_one(self, listening: socket.socket) -> bool:
        """Take a connection if there is one; says whether to try again."""
        try:
            sock, peer = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _GONE:
                logger.debug("a connection was gone before it was accepted: %s", error)
                return True
            self._rest(error)
            return False
        self._exhausted = False
        self._admit(sock, peer)
        return True

    def _admit(self, sock: socket.socket, peer: Any) -> None:
        host = peer[0] if isinstance(peer, tuple) else None
        if self._proxies is not None:
            if not self._proxies.peer(host):
                logger.debug("%s is none of --forwarded-allow-ips", host or "a Unix socket")
                sock.close()
                return
            host = None  # whose address counts is in the header
        place = self._admission.enter(host)
        if place is None:
            self._arrivals.count(ADDRESS_LIMIT)
            logger.debug("%s has as many connections as one address may have", peer[0])
            sock.close()
            return
        self._publish()
        self._arrivals.admit(sock, place)

    def _arrival_over(self) -> None:
        if not self._arrivals:
            self._all_arrived.set()
        self._room_was_made()

    def _has_room(self) -> bool:
        return not self._admission.full and len(self._arrivals) < self._max_handshakes

    def _await_room(self) -> None:
        """Pause until one more connection may come."""
        if self._admission.full:
            self._arrivals.count(CONNECTIONS_LIMIT)
            self._warn_of_limit()
            self._on_full()
            delay = ROOM_INTERVAL
        else:
            delay = self._arrivals.oldest + HANDSHAKE_PATIENCE - self._loop.time()
            if delay <= 0:
                self._arrivals.count(HANDSHAKES_LIMIT)
                logger.debug("a handshake gives way to a new connection")
                self._arrivals.end_oldest()
                return  # if somebody still waits, the loop says so
        self._awaiting_room = True
        self._pause()
        self._resume_after(delay)

    def _leaves_it_to_others(self) -> bool:
        """Pause for a moment if other workers have fewer connections.

        Some few that live long, as a load balancer opens them, would otherwise all
        go to the worker that happened to be idle.
        """
        if self._colleagues is None:
            return False
        fewest = self._colleagues.fewest()
        if self._admission.taken <= fewest + max(1, fewest // 8):
            return False
        self._pause()
        self._resume_after(COLLEAGUES_TIME, self._take_what_others_left)
        return True

    def _take_what_others_left(self) -> None:
        self.start()
        fewest = self._colleagues.fewest() if self._colleagues is not None else 0
        busy = fewest == self._fewest
        self._share = min(2 * self._share, MAX_SHARE) if busy else 1
        self._fewest = fewest
        for listening in self._sockets:
            for _ in range(self._share):
                if not (self._has_room() and self._accept_one(listening.sock)):
                    break

    def _publish(self) -> None:
        if self._colleagues is not None:
            self._colleagues.publish(self._admission.taken)

    def _room_was_made(self) -> None:
        self._publish()
        if self._awaiting_room:
            self.start()

    def _warn_of_limit(self) -> None:
        now = self._loop.time()
        if now - self._warned >= WARNING_INTERVAL:
            self._warned = now
            logger.warning(
                "there are %d connections (%s): idle ones give way, others wait",
                self._admission.limit,
                self._limit_name,
            )

    def _rest(self, error: OSError) -> None:
        """Leave new connections in the kernel's queue for a while."""
        if not self._exhausted:
            self._exhausted = True
            logger.warning(
                "cannot accept connections (%s): trying again every %g s",
                error.strerror or error,
                EXHAUSTED_PAUSE,
            )
        self._pause()
        self._resume_after(EXHAUSTED_PAUSE)

    def _resume_after(self, seconds: float, how: Callable[[], None] | None = None) -> None:
        if self._resuming is not None:
            self._resuming.cancel()  # of another socket, in the same turn of the loop
        self._resuming = self._loop.call_later(seconds, how or self.start)
