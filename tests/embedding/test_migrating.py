"""The tables of ``docs/migrating.md`` against the ``--help`` of both sides.

The other servers are looked for in ``H2ASGI_RIVALS``, a folder of commands, and otherwise installed
into a virtual environment of their own, at the versions of ``benchmarks/requirements.txt``.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from environments import command_folder, install
from pages import ROOT, section

from h2asgi import cli

RIVALS = {
    "uvicorn": "uvicorn",
    "Hypercorn": "hypercorn",
    "Gunicorn": "gunicorn",
    "Daphne": "daphne",
}

_flag = re.compile(r"--[A-Za-z0-9][\w-]*")
_definition = re.compile(r"^ {1,6}(-[-\w].*?)(?: {2}|$)", re.MULTILINE)
"""An option of click's or argparse's: further lines of its text are indented further."""


def _ours() -> set[str]:
    return {name for p in cli.command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}


def _rows(name: str) -> dict[str, tuple[str, str]]:
    """What each option of a server is here, and the remark."""
    found = re.findall(
        r"^\| `(--[\w-]+)` \| (—|`--[\w-]+`) \| (.*)\|$",
        section("migrating.md", f"From {name}"),
        re.MULTILINE,
    )
    rows = {theirs: (ours.strip("`"), remark) for theirs, ours, remark in found}
    table = section("migrating.md", f"From {name}").count("\n| `-")
    assert len(rows) == len(found) == table, "a row is there twice, or has another form"
    return rows


def _requirements() -> list[str]:
    """The servers alone, without what the benchmarks need besides."""
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text("utf-8").splitlines()
    plain = [re.sub(r"\[.*?\]", "", line) for line in lines]
    return [line for line in plain if line.partition("==")[0] in RIVALS.values()]


@pytest.fixture(scope="session")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands."""
    if found := os.environ.get("H2ASGI_RIVALS"):
        return Path(found)
    folder = tmp_path_factory.mktemp("rivals")
    install(folder, *_requirements())
    return command_folder(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RIVALS)
def test_every_option_of_theirs_has_a_row(name: str, rivals: Path) -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [rivals / RIVALS[name], "--help"], env=environment, capture_output=True, text=True
    )
    options = [set(_flag.findall(line)) for line in _definition.findall(done.stdout)]
    theirs = set().union(*options)
    assert "--help" in theirs, done.stdout + done.stderr
    assert len(theirs) > 20
    assert set(_rows(name)) == theirs


@pytest.mark.parametrize("name", RIVALS)
def test_the_versions_are_those_of_the_requirements(name: str) -> None:
    (version,) = (
        line.partition("==")[2].removesuffix(".*")
        for line in _requirements()
        if line.startswith(RIVALS[name] + "==")
    )
    assert f"\n{name} {version}" in section("migrating.md", f"From {name}")


@pytest.mark.parametrize("name", RIVALS)
def test_every_option_of_ours_exists(name: str) -> None:
    text = section("migrating.md", f"From {name}")
    assert {ours for ours, _ in _rows(name).values()} - {"—"} <= _ours()
    remarks = " ".join(remark for _, remark in _rows(name).values())
    outside = " ".join(line for line in text.splitlines() if not line.startswith("|"))
    assert set(_flag.findall(remarks + outside)) <= _ours()


@pytest.mark.parametrize("name", RIVALS)
def test_what_has_the_same_name_here_is_not_said_to_be_missing(name: str) -> None:
    missing = {theirs for theirs, (ours, _) in _rows(name).items() if ours == "—"}
    assert not missing & _ours()
