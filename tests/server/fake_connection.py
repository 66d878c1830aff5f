"""A connection that answers nothing, for tests of what the server does with connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Calls(list[str]):
    """What the server asked of connections, in order; cleared by the fixture that installs this.

    ``release`` is set when streams are reset, for a task that heeds it.
    """

    release: asyncio.Event | None = None


CALLS = Calls()


@dataclass
class FakeServerState:
    app: Any
    config: Any
    loop: asyncio.AbstractEventLoop
    trace: Any
    default_headers: Any
    unsent: Any
    lifespan_state: dict[str, Any] | None = None
    forwarding: Any = None
    health: Any = None
    request_ids: Any = None
    tally: Any = None
    connections: set[Any] = field(default_factory=set)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    on_idle: Any = None

    def start(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine in the place of an application."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        CALLS.append("task cancelled" if task.cancelled() else "task ended")
        self.tasks.discard(task)
        if self.on_idle:
            self.on_idle()


class FakeConnection(asyncio.BufferedProtocol):
    def __init__(
        self,
        state: Any,
        *,
        tls: bool,
        server: tuple[str, int | None],
        lost: Callable[[], None],
        proxied: Any = None,
    ) -> None:
        self.state = state
        self.tls = tls
        self.server = server
        self.lost = lost
        self.finished = False
        self.buffer = bytearray(1024)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.state.connections.add(self)
        transport.write(repr(self.server).encode() + b"\n")

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        self.state.connections.discard(self)
        self.lost()
        if self.state.on_idle:
            self.state.on_idle()

    def leave(self) -> None:
        CALLS.append("leave")
        if not self.state.tasks:
            self.finished = True

    def abort_streams(self) -> None:
        CALLS.append("abort_streams")
        self.finished = True
        if CALLS.release is not None:
            CALLS.release.set()

    def abort(self) -> None:
        CALLS.append("abort")
        self.transport.abort()
