"""docs/conformance/http1.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "docs" / "conformance" / "http1.md").read_text("utf-8")
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)))


@pytest.mark.parametrize(("file", "test"), REFERENCES)
def test_named_test_exists(file: str, test: str) -> None:
    folder = ROOT if "/" in file else Path(__file__).parent
    assert f"\ndef {test}(" in (folder / file).read_text("utf-8")


def test_every_rule_names_a_test_or_says_why_not() -> None:
    rows = [row.split(" | ") for row in TABLE.splitlines() if re.match(r"\| \d", row)]
    assert len(rows) > 50
    for row in rows:
        assert re.search(r"\.py::|none", row[-1]), row
