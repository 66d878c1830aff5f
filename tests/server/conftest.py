from __future__ import annotations

import os
from pathlib import Path

import fake_connection
import pytest
import trustme

from h2asgi import server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option of the person who runs the tests takes part."""
    for name in [name for name in os.environ if name.startswith("H2ASGI_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def connection_calls(monkeypatch: pytest.MonkeyPatch) -> fake_connection.Calls:
    """Serve with fake connections; gives the list of what is asked of them."""
    monkeypatch.setattr(server, "Connection", fake_connection.FakeConnection)
    monkeypatch.setattr(server, "ServerState", fake_connection.FakeServerState)
    fake_connection.CALLS.clear()
    fake_connection.CALLS.release = None
    return fake_connection.CALLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def dev_certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and a certificate for localhost and both loopback addresses."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    leaf = authority.issue_cert("localhost", "127.0.0.1", "::1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
