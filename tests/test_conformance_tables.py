"""docs/conformance/*.md name tests that exist, and docs/conformance.md counts them rightly."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TABLES = {
    "http1": ROOT / "tests" / "protocol" / "http1",
    "http2": ROOT / "tests" / "protocol" / "http2",
    "extensions": ROOT / "tests" / "asgi",
    "priorities": ROOT / "tests" / "protocol" / "http2",
    "proxies": ROOT / "tests" / "protocol",
    "websocket": ROOT / "tests" / "protocol" / "websocket",
}
_REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(name: str) -> list[list[str]]:
    """Section, rule and test of every row."""
    text = (DOCS / "conformance" / f"{name}.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    return [line.strip("| ").split(" | ") for line in lines]


@cache
def source(path: Path) -> str:
    return path.read_text("utf-8")


def has_test(row: list[str]) -> bool:
    return _REFERENCE.search(row[2]) is not None


@pytest.mark.parametrize("name", TABLES)
def test_every_row_names_tests_that_exist_or_says_why_not(name: str) -> None:
    for row in rows(name):
        assert len(row) == 3, row
        assert has_test(row) or re.match(r"none\b.*: \w", row[2]), row
        for file, test in _REFERENCE.findall(row[2]):
            path = (ROOT if "/" in file else TABLES[name]) / file
            assert f"def {test}(" in source(path), f"{path.name} has no {test}"


def test_the_index_counts_rules_and_tests_rightly() -> None:
    index = (DOCS / "conformance.md").read_text("utf-8")
    for name in TABLES:
        table = rows(name)
        covered = sum(has_test(row) for row in table)
        # [RFC ...](conformance/http2.md) | rules | rules with a test
        assert re.search(rf"\(conformance/{name}\.md\) \| {len(table)} \| {covered} \|", index), (
            f"{name} has {len(table)} rules, {covered} of them with a test"
        )
