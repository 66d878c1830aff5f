from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No option and no certificate of the person who runs the tests takes part."""
    for name in list(os.environ):
        if name.startswith("H2ASGI_") or name == "SSLKEYLOGFILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("H2ASGI_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def _own_path() -> Iterator[None]:
    """Take back what importing an application leaves behind in this process."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def h2asgi(tmp_path: Path) -> Run:
    """Run ``python -m h2asgi`` with the given arguments in an empty folder."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "h2asgi", *arguments],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@dataclass(frozen=True)
class Pair:
    certfile: str
    keyfile: str


class Certificates:
    """Makes pairs of every kind from one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)

    def pair(
        self,
        name: str = "pair",
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        *,
        begin: timedelta = timedelta(days=-1),
        end: timedelta = timedelta(days=1),
        password: bytes | None = None,
    ) -> Pair:
        now = datetime.now(UTC)
        leaf = self.authority.issue_cert(
            "localhost", not_before=now + begin, not_after=now + end, key_type=key_type
        )
        key = leaf.private_key_pem.bytes()
        if password is not None:
            key = load_pem_private_key(key, None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
            )
        certfile, keyfile = self.folder / f"{name}-cert.pem", self.folder / f"{name}-key.pem"
        certfile.write_bytes(leaf.cert_chain_pems[0].bytes())
        keyfile.write_bytes(key)
        return Pair(str(certfile), str(keyfile))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "made"
    folder.mkdir()
    return Certificates(folder)
