"""For tests of applications: the server on a thread, with a certificate, and clients that trust it.

    with serve(app) as server, server.client() as client:
        assert client.get("/").http_version == "HTTP/2"

pytest has the same as fixtures (``pytest_plugin.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .config import Config
from .errors import ConfigurationError
from .importer import ASGIApplication
from .options import make_config
from .process import new_event_loop
from .server import Server

if TYPE_CHECKING:
    import httpx

NAMES = ("localhost", "127.0.0.1", "::1")

GRACEFUL_TIMEOUT = 2.0
"""Seconds for requests that a test left behind; in service it would be 25."""

STOP_TIMEOUT = 30.0
"""Seconds for a server to stop, beyond which the application must be holding it up."""

_NEEDED = "h2asgi.testing needs trustme and httpx: pip install 'h2asgi[testing]'"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM format: the authority to trust, and a certificate for the loopback's names."""

    ca_file: str
    certfile: str
    keyfile: str


def make_certificate(folder: Path) -> Certificate:
    """Make an authority and a certificate in ``folder``; raises ``ConfigurationError``."""
    try:
        import trustme
    except ImportError:
        raise ConfigurationError(_NEEDED) from None
    authority = trustme.CA()
    leaf = authority.issue_cert(*NAMES)
    made = Certificate(*(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")))
    authority.cert_pem.write_to_path(made.ca_file)
    leaf.cert_chain_pems[0].write_to_path(made.certfile)
    leaf.private_key_pem.write_to_path(made.keyfile)
    return made


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that runs: where it is, and clients of it. Without TLS ``ca_file`` is None."""

    port: int
    ca_file: str | None

    @property
    def url(self) -> str:
        """Such as ``https://localhost:40123``, without a slash at the end."""
        return f"{'https' if self.ca_file else 'http'}://localhost:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Such as ``wss://localhost:40123``."""
        return f"{'wss' if self.ca_file else 'ws'}://localhost:{self.port}"

    def ssl_context(self) -> ssl.SSLContext:
        """Give a new context that trusts the server; clients change the one they are given."""
        return ssl.create_default_context(cafile=self.ca_file)

    def client(self, *, http2: bool = True, **options: Any) -> httpx.Client:
        """Give an ``httpx.Client`` that speaks HTTP/2, or HTTP/1.1; to be entered or closed."""
        client: httpx.Client = _httpx().Client(**self._client_options(http2), **options)
        return client

    def async_client(self, *, http2: bool = True, **options: Any) -> httpx.AsyncClient:
        """Give an ``httpx.AsyncClient``, to be entered with ``async with``."""
        client: httpx.AsyncClient = _httpx().AsyncClient(**self._client_options(http2), **options)
        return client

    def _client_options(self, http2: bool) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "http1": not http2,
            "http2": http2,
            "trust_env": False,  # no proxy is asked for what is on this machine
            "verify": self.ssl_context() if self.ca_file else False,
        }


def _httpx() -> ModuleType:
    try:
        import httpx
    except ImportError:
        raise ConfigurationError(_NEEDED) from None
    return httpx


@contextlib.contextmanager
def serve(
    app: str | ASGIApplication,
    *,
    tls: bool = True,
    certificate: Certificate | None = None,
    **options: object,
) -> Iterator[LiveServer]:
    """Serve ``app`` on a free port, in an event loop on a thread, while the context is entered.

    ``app`` and ``options`` are those of ``h2asgi.run``. What the application raises is logged to
    ``h2asgi`` with its traceback. Raises ``ConfigurationError`` or ``ApplicationError``.
    """
    with contextlib.ExitStack() as stack:
        if tls and certificate is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="h2asgi-"))
            certificate = make_certificate(Path(folder))
        settings: dict[str, object] = {"port": 0, "graceful_timeout": GRACEFUL_TIMEOUT, **options}
        if tls and certificate is not None:
            settings |= {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
        _hear_loggers()
        background = _Background(make_config(app, **settings))
        stack.callback(background.stop)
        port = background.start()
        yield LiveServer(port, certificate.ca_file if tls and certificate else None)


def _hear_loggers() -> None:
    """Undo what ``dictConfig`` does to loggers that are older than an application's settings."""
    for name in ("h2asgi", "h2asgi.error", "h2asgi.access"):
        logging.getLogger(name).disabled = False


class _Background:
    """A server on a thread, in an event loop of its own."""

    def __init__(self, config: Config) -> None:
        self._thread = threading.Thread(target=self._run, name="h2asgi", daemon=True)
        self._config = config
        self._port: Future[int] = Future()
        self._ended: Future[None] = Future()

    def start(self) -> int:
        """Wait until it serves, or raise why it does not; give its port."""
        self._thread.start()
        return self._port.result()

    def stop(self) -> None:
        """Have it stop as it does in service; raise what happened to it meanwhile."""
        if not self._port.done():
            return  # the wait for it was interrupted, and the thread is none that is waited for
        if self._port.exception() is None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed: it has failed
                self._loop.call_soon_threadsafe(self._stop.set)
        try:
            self._ended.result(STOP_TIMEOUT)
        except TimeoutError:
            raise RuntimeError(
                f"the server did not stop within {STOP_TIMEOUT:g} s: "
                "the application blocks its event loop, or left a thread there"
            ) from None

    def _run(self) -> None:
        choice = self._config.loop
        try:
            with asyncio.Runner(loop_factory=partial(new_event_loop, choice)) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._port.done():
                self._ended.set_exception(error)
                return
            self._port.set_exception(error)
        self._ended.set_result(None)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with Server(self._config.app, self._config) as server:
            address = server.addresses[0]
            assert isinstance(address, tuple)  # port 0 is of TCP
            self._port.set_result(address[1])
            await self._stop.wait()
