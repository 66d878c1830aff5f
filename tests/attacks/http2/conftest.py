"""Every attack of this folder runs on each HTTP/2 engine, in memory."""

import pytest
from http2_fixtures import connect, engine_factory, peer

__all__ = ["connect", "engine_factory", "peer"]

pytest.register_assert_rewrite("http2_attacks", "http2_peer")
