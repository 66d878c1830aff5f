"""Hostile clients: each bounded, on the loopback, and over by itself.

What a peer does may not be logged above the level of info, and never with a traceback;
a test that expects a warning takes it from ``complaints``.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


@dataclass(frozen=True)
class Certificate:
    """A PEM file with a key and a certificate for localhost, and who issued it."""

    certfile: str
    authority: trustme.CA

    def client(self, *protocols: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    authority = trustme.CA()
    path: Path = tmp_path_factory.mktemp("attacks") / "localhost.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return Certificate(str(path), authority)


@pytest.fixture(autouse=True)
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the server warned of; whatever the test leaves in it fails the test."""
    caplog.set_level(logging.DEBUG, "h2asgi")
    found: list[str] = []

    class Complaints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno > logging.INFO or (record.name == "h2asgi" and record.exc_info):
                found.append(record.getMessage())

    collector = Complaints()
    logging.getLogger("h2asgi").addHandler(collector)
    yield found
    logging.getLogger("h2asgi").removeHandler(collector)
    assert found == []
