"""Every test of this folder runs once per HTTP/1.1 engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import EngineFactory, Peer

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.protocol.http1.h11_engine import H11Engine

ENGINES: list[EngineFactory] = [H11Engine]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name, scope="session")
def engine_factory(request: pytest.FixtureRequest) -> EngineFactory:
    return request.param


@pytest.fixture
def connect(engine_factory: EngineFactory) -> Callable[..., Peer]:
    """Open a connection at time 0, with options of ``HTTP1Config`` by keyword."""
    return lambda **options: Peer(engine_factory(HTTP1Config(**options), Timeouts(), 0.0))


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    return connect()
