"""The code of a page: fenced and indented blocks with the comment that marks them, and commands in
its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN, FILE, OUTPUT = "not run", "file", "output of"
MARKS = (NOT_RUN, FILE, OUTPUT)
"""``<!-- not run: why -->`` before a block that no test can run; ``<!-- file: name -->`` before one
that the reader saves; ``<!-- output of: command -->`` before what a command prints."""

OF_CI = {"serve": "", "test": "it would run the tests within the tests; .ci/run runs it"}
"""Marks of README that ``.ci/run`` looks for, and why such a block is not run here."""

GENERATED = re.compile(r"from |end$")
"""Comments around what ``docs/reference/generate.py`` writes."""

_fence = re.compile(r"( *)(```+|~~~+) *([\w+-]*)")
_mark = re.compile(r" *<!-- *(.*?) *-->$")
_span = re.compile(r"(`+)(.+?)\1")
_command = re.compile(
    r"(?:sudo |\.venv/bin/|h2asgi (?=-)|python3? -|(?:pip|apt|apt-get|uv|uvx|pipx|npm|docker"
    r"|kubectl|systemctl|openssl|curl|nghttp|h2load|security|certutil|mkdocs) [^ ]).*"
)
"""What in the text is a whole command, and not the name of one."""


@dataclass(frozen=True)
class Block:
    """``language`` is empty for indented blocks, which are commands; ``line`` counts from 1."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    argument: str = ""

    @property
    def place(self) -> str:
        """Where it stands, as editors take it."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Give the blocks of a page in their order."""
    lines = page.read_text("utf-8").splitlines()
    name = page.relative_to(ROOT).as_posix()
    number, before = 0, ""  # the last line that was not blank
    while number < len(lines):
        line, begin = lines[number], number
        if fence := _fence.match(line):
            indent, ticks, language = fence.groups()
            number = _end_of_fence(lines, number + 1, ticks)
            text = [each.removeprefix(indent) for each in lines[begin + 1 : number]]
        elif line.startswith("    ") and line.strip() and _may_be_code(lines, number, before):
            language = ""
            while number + 1 < len(lines) and _goes_on(lines, number + 1):
                number += 1
            text = [each[4:] for each in lines[begin : number + 1]]
        else:
            before = (line.strip() and line) or before
            number += 1
            continue
        yield Block(name, begin + 1, language, "\n".join(text).rstrip() + "\n", *_marked(before))
        before, number = "", number + 1


def _end_of_fence(lines: list[str], number: int, ticks: str) -> int:
    while not lines[number].strip().startswith(ticks):
        number += 1
    return number


def _may_be_code(lines: list[str], number: int, before: str) -> bool:
    """Whether an indented line is no part of a list or a definition."""
    return not lines[number - 1].strip() and not re.match(r"\s|[-*:] |\d+\. |: ", before)


def _goes_on(lines: list[str], number: int) -> bool:
    following = next((line for line in lines[number:] if line.strip()), "")
    return following.startswith("    ")


def _marked(before: str) -> tuple[str, str]:
    found = _mark.match(before)
    if not found or GENERATED.match(found[1]):
        return "", ""
    mark, _, argument = found[1].partition(":")
    if mark in OF_CI:
        return (NOT_RUN, OF_CI[mark]) if OF_CI[mark] else ("", "")
    if mark not in MARKS or not argument.strip():
        return "unknown", found[1]
    return mark, argument.strip()


def commands(page: Path) -> Iterator[tuple[int, str]]:
    """Give the commands in the text and the tables of a page, with their lines."""
    lines = page.read_text("utf-8").splitlines()
    for block in blocks(page):
        for number in range(block.line - 1, block.line - 1 + block.text.count("\n") + 1):
            lines[number] = ""
    for number, line in enumerate(lines, 1):
        for _, span in _span.findall(line):
            if _command.fullmatch(span):
                yield number, span.replace("\\|", "|")
