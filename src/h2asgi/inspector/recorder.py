"""What is recorded while somebody looks, and for how much of the server's time.

As long as nobody has the page open, connections have their own engines and nothing here is
called. The first viewer puts an observing engine in front of each; some time after the last one
has left, they are taken away again. So they are, until the next tick, when there is no room for
more requests and those that are recorded are over: a server under load is looked at in parts.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..connection import ServerState
from ..protocol.engine import Engine
from ..protocol.observed import ObservedEngine, ObservedHTTP1, ObservedHTTP2
from ..state import Endpoints
from ..tls_object import TLSObject
from .log import MAX_CONNECTIONS, Log
from .observer import ConnectionObserver
from .records import ConnectionRecord

TICK: Final = 0.25
"""Seconds between what viewers are told: often enough to look live."""

MAX_SAMPLED: Final = 32
"""Connections whose flow control is looked at in each tick, the newest ones."""

LINGER: Final = 10.0
"""Seconds for a viewer to come back, as by loading the page anew."""

SETTINGS_SHOWN: Final = (
    *("max_concurrent_streams", "stream_window", "connection_window", "max_connection_window"),
    *("max_frame_size", "max_header_list_size"),
)


class Recorder(Log):
    """Records what the connections of ``state`` do, as long as there are viewers."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or state.loop
        super().__init__(self._loop.time)
        self._state = state
        self.viewers = 0
        self._resting: dict[Engine, ObservedEngine] = {}  # by the engine that goes on alone
        self._pausing = False
        self._live: dict[int, ConnectionObserver] = {}
        self._timer: asyncio.TimerHandle | None = None

    # Who looks.

    @property
    def recording(self) -> bool:
        """Whether connections are observed."""
        return self._timer is not None

    def join(self) -> None:
        """Take note of a viewer; the first one begins the recording."""
        self.viewers += 1
        if not self.recording:
            self.open()
            self._state.observing = self.observe
            for connection in tuple(self._state.connections):
                connection.observe(self.observe)
            self._tick()

    def leave(self) -> None:
        """Take note that a viewer is gone."""
        self.viewers -= 1
        if not self.viewers:
            self._loop.call_later(LINGER, self._stop_unless_viewed)

    def _stop_unless_viewed(self) -> None:
        if not self.viewers:
            self.stop()

    def stop(self) -> None:
        """Let connections go on unobserved; what was recorded stays."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self.close()
        self._state.observing = None
        self._resting.clear()
        for connection in tuple(self._state.connections):
            connection.observe(_unobserved)
        for observer in tuple(self._live.values()):
            observer.ended("not looked at any more")

    def _tick(self) -> None:
        self.make_room()
        self._resume()
        for observer in tuple(self._live.values())[-MAX_SAMPLED:]:
            observer.sample(self._loop.time())
        self._timer = self._loop.call_later(TICK, self._tick)

    def full(self) -> None:
        """See ``Log``. Engines are not replaced while one of them is being called."""
        if not self._pausing:
            self._pausing = True
            self._loop.call_soon(self._pause)

    def _pause(self) -> None:
        self._pausing = False
        if self.recording and self.stream_room <= 0:
            self.pauses += 1
            for connection in tuple(self._state.connections):
                connection.observe(self._rest)

    def _rest(
        self, engine: Engine, endpoints: Endpoints, transport: asyncio.Transport, made: float
    ) -> Engine:
        if isinstance(engine, ObservedEngine) and engine.observer.rest():
            self._resting[engine.engine] = engine
            return engine.engine
        return engine

    def _resume(self) -> None:
        if not self._resting:
            return
        for connection in tuple(self._state.connections):
            connection.observe(self.observe)
        for observed in self._resting.values():
            observed.observer.ended("ended while there was no room")
        self._resting.clear()

    def observe(
        self, engine: Engine, endpoints: Endpoints, transport: asyncio.Transport, made: float
    ) -> Engine:
        """Give an engine that is observed, see ``Connection.observe``."""
        if isinstance(engine, ObservedEngine):
            return engine
        if resting := self._resting.pop(engine, None):
            return resting
        if len(self._live) >= MAX_CONNECTIONS:
            self.skipped_connections += 1
            return engine
        http2 = engine.http_version == "2"
        record = ConnectionRecord(
            number=endpoints.connection,  # as logs have it
            client=_address(endpoints.client),
            server=_address(endpoints.server),
            protocol="HTTP/2" if http2 else "HTTP/1.1",
            engine=engine.name,
            tls=_tls(transport, endpoints),
            opened=made,
            limits=self._limits() if http2 else {},
        )
        self.add_connection(record)
        observer = ConnectionObserver(self, record, engine, endpoints.scheme, self._forget)
        self._live[record.number] = observer
        self.touch(record)
        return (ObservedHTTP2 if http2 else ObservedHTTP1)(engine, observer)

    def _limits(self) -> dict[str, int]:
        config = self._state.config.http2
        return {name: getattr(config, name) for name in SETTINGS_SHOWN}

    def _forget(self, record: ConnectionRecord) -> None:
        self._live.pop(record.number, None)


def _unobserved(
    engine: Engine, endpoints: Endpoints, transport: asyncio.Transport, made: float
) -> Engine:
    return engine.engine if isinstance(engine, ObservedEngine) else engine


def _address(name: tuple[str, int | None] | None) -> str:
    if name is None or name[1] is None:
        return "unix" if name is None else name[0]
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _tls(transport: asyncio.Transport, endpoints: Endpoints) -> dict[str, Any] | None:
    if "tls" not in endpoints.extensions:
        return None
    tls: TLSObject | None = transport.get_extra_info("tls")
    if tls is None:
        return None
    return {
        "version": tls.version(),
        "cipher": tls.cipher(),
        "alpn": tls.alpn(),
        "resumed": tls.resumed,
        "clientCertificate": endpoints.extensions["tls"].get("client_cert_name"),
    }
