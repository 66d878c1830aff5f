from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import fake_connection
import pytest
import trustme
from clear_peer import unix_pair
from tls_peer import tcp_pair

from h2asgi import process, server
from h2asgi.config import TLSConfig
from h2asgi.tls import create_context
from h2asgi.tls_context import ServerContext


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


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine as a process of our own does, on each event loop."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def run(main: Coroutine[Any, Any, None]) -> None:
        process.run(process.new_event_loop(request.param), main)

    return run


@pytest.fixture(params=["ssl", "pyopenssl"])
def tls_engine(request) -> str:
    if request.param == "pyopenssl":
        pytest.importorskip("OpenSSL")
    return request.param


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def contexts(
    request, authority, dev_certificate, tls_engine
) -> tuple[ServerContext, ssl.SSLContext]:
    """Of server and client, for each engine and version of TLS."""
    tls = TLSConfig(certfile=str(dev_certificate), engine=tls_engine)
    server = create_context(tls, http1=True, http2=True)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.set_alpn_protocols(["h2"])
    client.minimum_version = client.maximum_version = request.param
    return server, client


@pytest.fixture(params=[tcp_pair, unix_pair], ids=["tcp", "unix"])
def make(request) -> Callable[[], tuple[socket.socket, socket.socket]]:
    """Make the two ends of a connection in the clear."""
    return request.param


@pytest.fixture
def no_complaints(caplog) -> Iterator[None]:
    """Fail if anything is logged above the level of peers' affairs."""
    yield
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]
