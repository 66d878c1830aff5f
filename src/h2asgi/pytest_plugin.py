"""Fixtures for pytest: the application behind the real server. docs/how-to/testing.md shows them.

pytest imports this in every run, so nothing of the server is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from .testing import Certificate, LiveServer

UNNAMED = (
    "h2asgi does not know what to serve: write a fixture h2asgi_app that returns the application,"
    " or set h2asgi_app = module:attribute in pytest's configuration"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the one setting."""
    parser.addini("h2asgi_app", "what the h2asgi fixtures serve, as module:attribute", default="")


@pytest.fixture(scope="session")
def h2asgi_app(pytestconfig: pytest.Config) -> Any:
    """What is served; a project writes a fixture of this name to say so."""
    name = pytestconfig.getini("h2asgi_app")
    if not name:
        pytest.fail(UNNAMED, pytrace=False)
    return name


@pytest.fixture(scope="session")
def h2asgi_options() -> Mapping[str, object]:
    """Options of the server, and ``tls``; a project writes a fixture of this name for others."""
    return {}


@pytest.fixture(scope="session")
def h2asgi_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of all servers of the run."""
    from .testing import make_certificate

    return make_certificate(tmp_path_factory.mktemp("h2asgi"))


Serve = Callable[..., "LiveServer"]


def _serve(
    stack: ExitStack, certificate: Certificate, folder: str, app: Any, **options: Any
) -> LiveServer:
    from .testing import serve

    settings = {"app_dir": folder, "certificate": certificate, **options}
    return stack.enter_context(serve(app, **settings))


@pytest.fixture
def h2asgi_serve(h2asgi_certificate: Certificate, pytestconfig: pytest.Config) -> Iterator[Serve]:
    """Serve any application until the test ends: ``h2asgi_serve(app, **options)``."""
    with ExitStack() as stack:
        yield partial(_serve, stack, h2asgi_certificate, str(pytestconfig.rootpath))


@pytest.fixture
def h2asgi_server(
    h2asgi_app: Any, h2asgi_options: Mapping[str, object], h2asgi_serve: Serve
) -> LiveServer:
    """A server of ``h2asgi_app`` for one test, with a lifespan of its own."""
    return h2asgi_serve(h2asgi_app, **h2asgi_options)


@pytest.fixture(scope="session")
def h2asgi_session_server(
    h2asgi_app: Any,
    h2asgi_options: Mapping[str, object],
    h2asgi_certificate: Certificate,
    pytestconfig: pytest.Config,
) -> Iterator[LiveServer]:
    """One server of ``h2asgi_app`` for the whole run."""
    with ExitStack() as stack:
        folder = str(pytestconfig.rootpath)
        yield _serve(stack, h2asgi_certificate, folder, h2asgi_app, **h2asgi_options)


@pytest.fixture
def h2asgi_client(h2asgi_server: LiveServer) -> Iterator[httpx.Client]:
    """An ``httpx.Client`` of ``h2asgi_server``, over HTTP/2."""
    with h2asgi_server.client() as client:
        yield client
