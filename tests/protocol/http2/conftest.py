"""Every test of this folder runs on each HTTP/2 engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from h2asgi.config import HTTP2Config, Timeouts
from h2asgi.protocol.engine import Engine
from h2asgi.protocol.http2.h2_engine import H2Engine
from h2asgi.protocol.http2.ngh2_engine import NGH2Engine

if TYPE_CHECKING:
    from http2_peer import EngineFactory, Peer

ENGINES = [H2Engine, NGH2Engine]
pytest.register_assert_rewrite("http2_peer")  # which is imported after this, by the tests


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name, scope="session")
def engine_factory(request: pytest.FixtureRequest) -> EngineFactory:
    """An engine at time 0 with the default settings but for those named."""

    def make(timeouts: Timeouts | None = None, **config: Any) -> Engine:
        engine: Engine = request.param(HTTP2Config(**config), timeouts or Timeouts(), 0.0)
        return engine

    return make


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
