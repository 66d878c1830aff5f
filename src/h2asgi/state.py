"""What requests share: of their server, and of their connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from .asgi.response import DefaultFields
from .asgi.scope import Application
from .config import Config
from .forwarded import Forwarding
from .health import Health
from .request_ids import RequestIDs
from .tally import Tally
from .trace import Trace
from .turns import Flushes


@dataclass(slots=True, eq=False)
class ApplicationState:
    """What the requests of one server share.

    ``on_idle`` is called whenever a connection, or the last application task, is gone.
    ``beginning`` counts requests whose application is called in the next flush.
    ``time`` is the loop's, made once. ``context`` is what the context variables of every request
    begin with, and of ``flushes``: what calls the server may be scheduled by an application, and
    has the context of that.
    ``forwarding`` and ``health`` are None where nothing is believed and nothing asked,
    ``request_ids`` where requests have none, ``tally`` where nobody watches.
    """

    app: Application
    config: Config
    loop: asyncio.AbstractEventLoop
    default_headers: DefaultFields
    trace: Trace | None = None
    lifespan_state: dict[str, Any] | None = None
    on_idle: Callable[[], None] | None = None
    forwarding: Forwarding | None = None
    health: Health | None = None
    request_ids: RequestIDs | None = None
    tally: Tally | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    beginning: int = 0
    context: Context = field(default_factory=copy_context)
    time: Callable[[], float] = field(init=False)
    flushes: Flushes = field(init=False)

    def __post_init__(self) -> None:
        self.time = self.loop.time
        self.flushes = Flushes(self.loop, self.context)

    @property
    def in_work(self) -> int:
        """Requests and WebSockets that an application works on, its client there or not."""
        return len(self.tasks) + self.beginning


@dataclass(slots=True, frozen=True)
class Endpoints:
    """What every request of a connection says of it, as in the ASGI scope.

    ``covers`` says whether an authority may be asked for here, if that is to be checked.
    ``connection`` is the number by which logs know it, of those of this process.
    """

    scheme: str
    client: tuple[str, int] | None
    server: tuple[str, int | None]
    extensions: Mapping[str, dict[str, Any]]
    covers: Callable[[bytes], bool] | None
    connection: int

    def __str__(self) -> str:
        client = "{}:{}".format(*self.client) if self.client else "unix"
        return f"{client} (connection {self.connection})"
