"""Virtual environments that tests fill from a package index."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest


def command_folder(folder: Path) -> Path:
    """Where its commands are."""
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def environment() -> dict[str, str]:
    """What a command of another environment is to see of ours."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("H2ASGI_", "PYTEST_", "COVERAGE_", "PYTHON"))
    }
    return kept | {"H2ASGI_COMPILE": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def install(folder: Path, *what: str) -> None:
    """Make one with ``what``; without an index the test is skipped, if that is allowed."""
    venv.create(folder, with_pip=True)
    done = subprocess.run(
        [command_folder(folder) / "python", "-m", "pip", "install", "--quiet", *what],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        if os.environ.get("H2ASGI_REQUIRE_TOOLS") == "1":
            pytest.fail(f"cannot install {what}:\n{done.stderr}")
        pytest.skip("there is no package index")
