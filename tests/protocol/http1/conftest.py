"""Every test of this folder runs once per HTTP/1.1 engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from http1_peer import EngineFactory, Peer

from h2asgi.config import HTTP1Config, Limits, Timeouts
from h2asgi.limits import WatchedBudget
from h2asgi.protocol.engines import http1_engine

REQUIRE_NATIVE = os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1"
"""Set where the native engines are installed: their tests then fail instead of being skipped."""


@pytest.fixture(params=["h11", "httptools"], scope="session")
def engine_factory(request: pytest.FixtureRequest) -> EngineFactory:
    if request.param == "httptools" and not find_spec("httptools") and not REQUIRE_NATIVE:
        pytest.skip("httptools is not installed")
    return http1_engine(HTTP1Config(engine=request.param))


@pytest.fixture
def connect(engine_factory: EngineFactory) -> Callable[..., Peer]:
    """Open a connection at time 0, with options of ``HTTP1Config`` by keyword."""

    def open_connection(
        *,
        websocket: bool = False,
        limits: Limits | None = None,
        unsent: WatchedBudget | None = None,
        **options: Any,
    ) -> Peer:
        config = HTTP1Config(**options)
        shared = {"websocket": websocket, "limits": limits, "unsent": unsent}
        engine = engine_factory(config, Timeouts(), 0.0, **shared)
        return Peer(engine)

    return open_connection


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    return connect()
