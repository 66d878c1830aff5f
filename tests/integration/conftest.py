"""Real sockets, real TLS: an authority, servers on a thread of ours, and servers as processes.

A test marked ``tool("curl")`` is skipped where that program is missing, and
fails there when H2ASGI_REQUIRE_TOOLS=1 says that it should not be missing.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from serving import BackgroundServer, Certificate, Command, httpx_client


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tool(name): needs this program on the PATH")


MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a number for the end of the test run's output; none decides a test."""

    def note(text: str) -> None:
        request.config.stash.setdefault(MEASURED, []).append(f"{request.node.name}: {text}")

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if notes := config.stash.get(MEASURED, []):
        terminalreporter.section("measured")
        for note in notes:
            terminalreporter.write_line(note)


@pytest.fixture(autouse=True)
def _needed_tool(request: pytest.FixtureRequest) -> None:
    for marker in request.node.iter_markers("tool"):
        (name,) = marker.args
        if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None:
            if os.environ.get("H2ASGI_REQUIRE_TOOLS") == "1":
                pytest.fail(f"{name} is missing, and H2ASGI_REQUIRE_TOOLS is set")
            pytest.skip(f"{name} is missing")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1", "::1")
    ca_file, certfile, keyfile = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca_file)
    leaf.private_key_pem.write_to_path(keyfile)
    Path(certfile).write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    return Certificate(ca_file, certfile, keyfile)


@pytest.fixture
def serve(certificate: Certificate) -> Iterator[Callable[..., BackgroundServer]]:
    """Serve an application on a thread until the test ends: ``serve(app, tls=True, **options)``.

    The server must not have logged an error by then, unless the test took it
    from ``server.errors``.
    """
    servers: list[BackgroundServer] = []

    def start(app: object, *, tls: bool = True, **options: object) -> BackgroundServer:
        server = BackgroundServer(app, certificate if tls else None, options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
    for server in servers:
        assert server.errors == []


@pytest.fixture(params=["HTTP/2", "HTTP/1.1"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["tls", "clear"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tls")


FRAMEWORKS = ("FastAPI", "Starlette", "Django", "Quart", "Litestar")


@pytest.fixture(scope="session")
def _framework_servers(certificate: Certificate) -> Iterator[dict[str, BackgroundServer]]:
    servers: dict[str, BackgroundServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(params=FRAMEWORKS)
def framework(
    request: pytest.FixtureRequest,
    certificate: Certificate,
    _framework_servers: dict[str, BackgroundServer],
) -> Iterator[BackgroundServer]:
    """A server with the application of one framework; it runs until the session ends."""
    name = request.param
    if name not in _framework_servers:
        module = importlib.import_module(f"apps.{name.lower()}_app")
        server = BackgroundServer(module.app, certificate, {})
        server.start()
        _framework_servers[name] = server
    server = _framework_servers[name]
    server.errors.clear()
    yield server
    assert server.errors == []


@pytest.fixture
def client(framework: BackgroundServer, protocol: str) -> Iterator[httpx.Client]:
    """An httpx client of ``framework`` over ``protocol``."""
    with httpx_client(framework, protocol) as client:
        yield client


@pytest.fixture
def command(certificate: Certificate) -> Iterator[Callable[..., Command]]:
    """Run ``python -m h2asgi`` with an application of this folder: ``command("app:app", ...)``.

    Its output must hold no traceback and no error unless the test looks at it
    itself and clears ``output``.
    """
    commands: list[Command] = []

    def start(app: str, *options: str, tls: bool = True, **more: Any) -> Command:
        running = Command(app, certificate if tls else None, options, **more)
        commands.append(running)
        running.wait_until_listening()
        return running

    yield start
    for running in commands:
        running.kill()
    for running in commands:
        assert not running.complaints()
