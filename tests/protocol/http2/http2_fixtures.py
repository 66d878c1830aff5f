"""Fixtures that make a test run on each HTTP/2 engine, in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from h2asgi.config import HTTP2Config, Limits, Timeouts
from h2asgi.limits import Budget, WatchedBudget
from h2asgi.protocol.engine import Engine
from h2asgi.protocol.engines import ENGINES

if TYPE_CHECKING:
    from http2_peer import EngineFactory, Peer


def factory(name: str) -> EngineFactory:
    """Engines of that name; skips the test when its library is not installed."""
    try:
        engine_type = ENGINES["http2"][name]()
    except ImportError as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            pytest.fail(f"{error}, and H2ASGI_REQUIRE_NATIVE is set")
        pytest.skip(str(error))

    def make(
        timeouts: Timeouts | None = None,
        unread_bodies: Budget | None = None,
        *,
        websocket: bool = False,
        limits: Limits | None = None,
        unsent: WatchedBudget | None = None,
        **config: Any,
    ) -> Engine:
        return engine_type(
            HTTP2Config(**config),
            timeouts or Timeouts(),
            0.0,
            unread_bodies,
            websocket=websocket,
            limits=limits,
            unsent=unsent,
        )

    return make


@pytest.fixture(params=ENGINES["http2"], scope="session")
def engine_factory(request: pytest.FixtureRequest) -> EngineFactory:
    """An engine at time 0 with the default settings but for those named."""
    return factory(request.param)


@pytest.fixture(scope="session")
def both_engines() -> tuple[EngineFactory, EngineFactory]:
    """The two to be compared."""
    return factory("h2"), factory("ngh2")


@pytest.fixture
def connect(engine_factory: EngineFactory) -> Callable[..., Peer]:
    """A client whose preface is done."""

    from http2_peer import Peer

    def make(*settings: tuple[int, int], **config: Any) -> Peer:
        return Peer(engine_factory(**config)).connect(*settings)

    return make


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    return connect()
