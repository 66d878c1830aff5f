"""Every test of this folder runs on each HTTP/2 engine."""

import pytest
from http2_fixtures import both_engines, connect, engine_factory, peer

__all__ = ["both_engines", "connect", "engine_factory", "peer"]

pytest.register_assert_rewrite("http2_peer")  # which is imported after this, by the tests
