"""Every test of this folder that asks for a codec runs once for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from h2asgi.config import WebSocketConfig
from h2asgi.protocol.engines import websocket_codec
from h2asgi.protocol.websocket.codec import Codec
from h2asgi.protocol.websocket.deflate import Agreement, PerMessageDeflate

REQUIRE_NATIVE = os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1"


@pytest.fixture(params=["wsproto", "websockets"], scope="session")
def kind(request: pytest.FixtureRequest) -> type[Codec]:
    if request.param == "websockets" and not find_spec("websockets") and not REQUIRE_NATIVE:
        pytest.skip("websockets is not installed")
    return websocket_codec(WebSocketConfig(engine=request.param))


@pytest.fixture
def connect(kind: type[Codec]) -> Callable[..., Codec]:
    """Open a WebSocket; ``deflate`` is what was agreed on."""

    def open_(max_message_size: int = 1 << 20, deflate: Agreement | None = None) -> Codec:
        return kind(max_message_size, None if deflate is None else PerMessageDeflate(deflate))

    return open_


@pytest.fixture
def codec(connect: Callable[..., Codec]) -> Codec:
    return connect()
