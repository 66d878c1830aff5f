"""A project of its own in a virtual environment of its own, with h2asgi as a wheel from here.

Needs a package index. Without one it is skipped, or fails if H2ASGI_REQUIRE_TOOLS=1 says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "testing"


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("H2ASGI_", "PYTEST_", "COVERAGE_", "PYTHON"))
    }
    return kept | {"H2ASGI_COMPILE": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _install(python: str, *what: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *what],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        if os.environ.get("H2ASGI_REQUIRE_TOOLS") == "1":
            pytest.fail(f"cannot install {what}:\n{done.stderr}")
        pytest.skip("there is no package index")


@pytest.mark.timeout(300)
def test_a_project_tests_itself_with_the_fixtures(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    project = tomllib.loads((SAMPLE / "pyproject.toml").read_text())
    own, *others = project["dependency-groups"]["test"]
    assert own == "h2asgi[testing]"
    _install(python, f"{ROOT}[testing]", *project["project"]["dependencies"], *others)
    shutil.copytree(SAMPLE, tmp_path / "notes", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [python, "-m", "pytest", "-v"],
        cwd=tmp_path / "notes",
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plugins: " in done.stdout
    assert re.search(r"^plugins: .*\bh2asgi-", done.stdout, re.MULTILINE)
    tests = len(re.findall(r"::test_\S+ PASSED", done.stdout))
    assert re.search(rf"^=+ {tests} passed in ", done.stdout, re.MULTILINE)
    assert tests == 7
