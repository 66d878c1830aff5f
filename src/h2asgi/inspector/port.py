"""The port in the clear that the inspector is on, beside the server that it looks at."""

from __future__ import annotations

from dataclasses import replace

from ..connection import ServerState
from ..endpoint import Endpoint
from ..further_port import FurtherPort, small_requests
from .access import Access
from .page import Inspector
from .recorder import Recorder

MAX_CONNECTIONS = 32
"""A page has six at the most, of which one lasts as long as it is open."""

LAST_ANSWER_TIME = 1.0
"""Seconds for what is on its way to viewers when the server stops."""


class InspectorPort:
    """Accepts on the ``inspect_sockets`` of ``endpoint``, which it owns from now on.

    Its connections are its own: they are not in ``state``, and so it does not look at itself.
    ``names`` are hosts that it may be asked by, beside addresses and localhost.
    """

    def __init__(self, endpoint: Endpoint, state: ServerState, names: frozenset[str]) -> None:
        self.recorder = Recorder(state)
        self._inspector = Inspector(self.recorder, Access(names))
        config = small_requests(state.config)
        config = replace(
            config,
            timeouts=replace(config.timeouts, response=0.0),
            limits=replace(config.limits, concurrency=None),
        )
        self._state = ServerState(
            app=self._inspector,
            config=config,
            loop=state.loop,
            default_headers=state.default_headers,
            read_buffer=state.read_buffer,
        )
        self._port = FurtherPort(
            endpoint.inspect_sockets,
            self._state,
            limit=MAX_CONNECTIONS,
            limit_name="the limit of --inspect",
        )
        self.start = self._port.start

    async def stop(self) -> None:
        """Accept nothing more; let viewers know, and the connections go on unobserved."""
        self._port.stop()
        self._inspector.stopping.set()
        self.recorder.stop()
        for connection in tuple(self._state.connections):
            connection.begin_shutdown()
        await self._port.wait_for_end(LAST_ANSWER_TIME)
