from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_parts import Certificates, Run


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No option and no certificate of the person who runs the tests takes part."""
    for name in list(os.environ):
        if name.startswith("H2ASGI_") or name == "SSLKEYLOGFILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("H2ASGI_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def _own_path(tmp_path: Path) -> Iterator[None]:
    """Take back what importing an application leaves behind in this process."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        # Only the application's own: extension modules cannot be imported twice.
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


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


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "made"
    folder.mkdir()
    return Certificates(folder)
