"""Recorders on a clock that a test moves, and engines of both protocols that they observe."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from http2_fixtures import engine_factory

from h2asgi.config import Config, HTTP1Config, Timeouts
from h2asgi.connection import ServerState
from h2asgi.errors import ConfigurationError
from h2asgi.inspector.recorder import Recorder
from h2asgi.protocol.engine import Engine
from h2asgi.protocol.engines import ENGINES, http1_engine
from h2asgi.state import Endpoints

__all__ = ["engine_factory"]

pytest.register_assert_rewrite("http2_peer")


class Clock:
    """What a recorder wants of a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        timer = SimpleNamespace(at=self.now + delay, run=lambda: callback(*args), cancelled=False)
        timer.cancel = lambda: setattr(timer, "cancelled", True)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Any) -> Any:
        return self.call_later(0, callback)

    def pass_(self, seconds: float) -> None:
        """Let time pass, and run what is due once."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.run()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Any) -> Recorder:
    state = ServerState(
        app=None,  # type: ignore[arg-type]
        config=Config(),
        loop=clock,
        default_headers=SimpleNamespace(fields=[]),
    )
    recorder = Recorder(state)
    recorder.join()
    return recorder


@pytest.fixture
def observe(recorder: Recorder) -> Callable[[Engine], Engine]:
    numbers = itertools.count(1)

    def observe_engine(engine: Engine) -> Engine:
        client, server = ("192.0.2.1", 5000), ("192.0.2.9", 443)
        endpoints = Endpoints("https", client, server, {}, None, next(numbers))
        transport: Any = asyncio.Transport()
        return recorder.observe(engine, endpoints, transport, 0.0)

    return observe_engine


@pytest.fixture(params=ENGINES["http1"])
def http1(request: pytest.FixtureRequest, observe: Callable[[Engine], Engine]) -> Engine:
    """An HTTP/1.1 engine that is observed."""
    try:
        engine_type = http1_engine(HTTP1Config(engine=request.param))
    except ConfigurationError as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            raise
        pytest.skip(str(error))
    return observe(engine_type(HTTP1Config(), Timeouts(), 0.0, websocket=True))
