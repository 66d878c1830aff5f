"""A project of its own in a virtual environment of its own, with h2asgi as a wheel from here.

Needs a package index.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from environments import command_folder, environment, install
from pages import ROOT

SAMPLE = ROOT / "examples" / "testing"


@pytest.mark.timeout(300)
def test_a_project_tests_itself_with_the_fixtures(tmp_path: Path) -> None:
    project = tomllib.loads((SAMPLE / "pyproject.toml").read_text())
    own, *others = project["dependency-groups"]["test"]
    assert own == "h2asgi[testing]"
    install(tmp_path / "venv", f"{ROOT}[testing]", *project["project"]["dependencies"], *others)
    shutil.copytree(SAMPLE, tmp_path / "notes", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [command_folder(tmp_path / "venv") / "python", "-m", "pytest", "-v"],
        cwd=tmp_path / "notes",
        env=environment(),
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
