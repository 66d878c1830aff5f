"""Code blocks of a document that stand for files: the first line of each is its name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def section(document: str, heading: str = "") -> str:
    """Give a document, or what stands below one of its headings of the second level."""
    text = (ROOT / "docs" / document).read_text("utf-8")
    if not heading:
        return text
    _, found, after = text.partition(f"\n## {heading}\n")
    assert found, heading
    return after.partition("\n## ")[0]


def blocks(text: str) -> list[str]:
    """Give the contents of Python blocks in their order."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_files(text: str, folder: Path) -> None:
    """Write each block that begins with a comment such as ``# conftest.py``."""
    for block in blocks(text):
        if named := re.match(r"# (\w+\.py)\n", block):
            (folder / named[1]).write_text(block)
