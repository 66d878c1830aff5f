"""Every block of code of README and the documentation is run, or says why it is not."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from blocks import PAGES, ROOT, blocks, commands
from checks import check, finish
from sandbox import Sandbox

from h2asgi import cli

WITH_BLOCKS = [page for page in PAGES if any(blocks(page))]
WITH_COMMANDS = [page for page in PAGES if any(commands(page))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_the_code_of_a_page_does_what_it_says(page: Path, tally: Counter[str]) -> None:
    with Sandbox() as sandbox:
        for block in blocks(page):
            try:
                tally[check(block, sandbox)] += 1
            except Exception as error:
                error.add_note(block.place)
                raise
        finish(sandbox)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_commands_in_the_text_are_well_formed(page: Path, tally: Counter[str]) -> None:
    """They are parts of sentences and tables; those of h2asgi have options that exist."""
    known = {name for p in cli.command.params for name in (*p.opts, *p.secondary_opts)}
    for line, command in commands(page):
        done = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, f"{name(page)}:{line}: {done.stderr}"
        if command.startswith("h2asgi "):
            assert set(re.findall(r"--[a-z0-9-]+", command)) <= known | {"--help"}, command
        tally["commands in the text, of which the form is checked"] += 1
