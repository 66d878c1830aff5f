"""From an empty virtual environment to a page that the browser trusts: commands and seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import document

ROOT = Path(__file__).parents[2]

INSTALL_TIME = 300.0


class Shell:
    """What a user types, one command after the other, in a home folder that has nothing in it."""

    def __init__(self, folder: Path) -> None:
        self.commands: list[str] = []
        self.began = time.monotonic()
        self._folder = folder
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("H2ASGI_", "XDG_", "PYTHON", "COVERAGE_"))
        } | {"HOME": str(folder), "H2ASGI_COMPILE": "0", "H2ASGI_PORT": "0"}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        self.commands.append(" ".join(command))
        return subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIME,
            check=False,
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Run a command that goes on."""
        self.commands.append(" ".join(command))
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.mark.tool("chromium")
@pytest.mark.tool("certutil")
@pytest.mark.timeout(2 * INSTALL_TIME)
def test_from_nothing_to_the_padlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[[str], None]
) -> None:
    shell = Shell(tmp_path)
    assert shell.run(sys.executable, "-m", "venv", ".venv").returncode == 0
    made = time.monotonic()
    installed = shell.run(".venv/bin/pip", "install", f"{ROOT}[dev]")
    if "Failed to establish a new connection" in installed.stderr:
        pytest.skip("the package index cannot be reached")
    assert installed.returncode == 0, installed.stderr
    ready = time.monotonic()
    trusted = shell.run(".venv/bin/h2asgi", "--dev-cert-install")
    assert trusted.returncode == 0, trusted.stderr
    app = ("--app-dir", str(ROOT / "examples"), "hello:app")
    server = shell.start(".venv/bin/h2asgi", "--dev-cert", *app)
    try:
        assert server.stderr is not None
        lines = iter(server.stderr)
        url = next(found[0] for line in lines if (found := re.search(r"https://\S+", line)))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert '"http_version": "2"' in document(url, tmp_path / "browser").replace("&quot;", '"')
    finally:
        server.terminate()
        server.communicate()
    end = time.monotonic()
    measured(
        f"{len(shell.commands)} commands, {end - shell.began:.0f} s:"
        f" environment {made - shell.began:.0f} s, pip {ready - made:.0f} s,"
        f" trust, server and browser {end - ready:.0f} s"
    )
