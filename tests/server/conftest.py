from __future__ import annotations

from collections.abc import Iterator

import fake_connection
import pytest

from h2asgi import server


@pytest.fixture
def connection_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve with fake connections; gives the list of what is asked of them."""
    monkeypatch.setattr(server, "Connection", fake_connection.FakeConnection)
    monkeypatch.setattr(server, "ServerState", fake_connection.FakeServerState)
    fake_connection.CALLS.clear()
    return fake_connection.CALLS
