"""A process in which native parts are missing, or of no use: the pure ones serve instead."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from apps.letters import HANG
from serving import Command

from h2asgi.tls import RECENT_OPENSSL

MISSING = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)"
NATIVE = ("ngh2", "httptools", "uvloop", "OpenSSL")


def _serves(server: Command) -> None:
    assert server.certificate is not None
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        context = server.certificate.client_context()
        with httpx.Client(verify=context, http2=http2, timeout=HANG, trust_env=False) as client:
            body = bytes(100_000)
            response = client.post(f"{server.url}/echo", content=body)
            assert (response.http_version, response.content) == (version, body)


def _engines(server: Command) -> str:
    """What the start-up line says that it runs on."""
    (line,) = (line for line in server.output if " serves HTTP/2 and HTTP/1.1 over TLS (" in line)
    return line.rpartition("(")[2].rstrip(")\n").removeprefix("compiled; ")


def test_without_native_parts(command: Callable[..., Command], tmp_path: Path) -> None:
    for name in NATIVE:
        (tmp_path / f"{name}.py").write_text(MISSING)
    server = command("probe_app:app", shadows=tmp_path)
    assert _engines(server) == "engines h2, h11; loop asyncio"
    assert not any("cannot be used" in line for line in server.output)
    _serves(server)


@pytest.mark.parametrize("ngh2", ["__version__ = '0.4.0'", "__version__ = '0.3.0'"])
def test_with_an_ngh2_that_does_not_fit(
    command: Callable[..., Command], tmp_path: Path, ngh2: str
) -> None:
    """Of another version, and of the right one but without what is needed."""
    (tmp_path / "ngh2.py").write_text(ngh2)
    server = command("probe_app:app", shadows=tmp_path)
    assert _engines(server).startswith("engines h2, ")
    assert sum("the engine ngh2 cannot be used" in line for line in server.output) == 1
    _serves(server)


def test_with_a_pyopenssl_that_does_not_fit(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    """One whose connections are made in another way."""
    package = tmp_path / "OpenSSL"
    package.mkdir()
    for name in ("__init__", "crypto", "SSL"):
        (package / f"{name}.py").write_text("")
    server = command("probe_app:app", shadows=tmp_path)
    assert "pyopenssl" not in _engines(server)
    old = ssl.OPENSSL_VERSION_INFO < RECENT_OPENSSL
    assert sum("the engine pyopenssl cannot be used" in line for line in server.output) == old
    _serves(server)
