"""The documents say what is there: commands, options and links."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import h2asgi
from h2asgi import cli, errors, options

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("certs/*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
COMMAND_LINE = ROOT / "docs" / "reference" / "command-line.md"

_code_block = re.compile(r"^( *)(```|~~~).*?^\1\2[ ]*$", re.MULTILINE | re.DOTALL)
_code_span = re.compile(r"`[^`\n]*`")
_link = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_heading = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", ["serve", "test"])
def test_the_readme_has_each_command_as_one_line_behind_its_mark(name: str) -> None:
    blocks = re.findall(
        rf"^<!-- {name} -->\n```sh\n(.*?)\n```$", _readme(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 1
    assert "\n" not in blocks[0]
    assert blocks[0].startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_readme_names_every_kind_of_what_is_missing() -> None:
    missing = _readme().partition("## What is not there yet")[2].partition("\n## ")[0]
    assert "HTTP/3" in missing


def _readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_the_reference_says_what_the_code_says() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    for path, text in generate["pages"]():
        assert path.read_text("utf-8") == text, "run python docs/reference/generate.py"


def test_a_new_topic_gets_a_heading_and_a_table() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    text = generate["command_line"]("# Command line\n\n## Other\n\nThe end.\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [*options.TOPICS, "Other"]
    assert text.count("\n| `--") == len(options.OPTIONS)
    assert generate["command_line"](text) == text


def test_the_reference_has_the_options_that_are_the_command_line_s_alone() -> None:
    section = COMMAND_LINE.read_text("utf-8").partition("\n## Other\n")[2]
    own = {p.opts[0] for p in cli.command.params if isinstance(p, click.Option)}
    own -= {option.flag for option in options.OPTIONS}
    assert set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)) == own | {"--help"}


def test_every_option_that_a_document_names_exists() -> None:
    known = {name for p in cli.command.params for name in (*p.opts, *p.secondary_opts)}
    known.add("--help")
    names = ("README.md", "docs/server-behavior.md", "docs/security.md")
    for document in [ROOT / name for name in names]:
        text = document.read_text("utf-8")
        named = set(re.findall(r"`(--[a-z0-9-]+)", text))
        assert named <= known, document.name


def test_the_comparison_is_with_the_versions_that_the_benchmarks_run() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text("utf-8").partition("## Protocols")[0]
    pins = (ROOT / "benchmarks" / "requirements.txt").read_text("utf-8")
    for name, version in re.findall(r"^(\w+)(?:\[.*\])?==([\d.]+)\.\*", pins, re.MULTILINE):
        assert f"{name} {version}." in text


def test_the_comparison_knows_what_this_server_has() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    flags = {option.flag for option in options.OPTIONS}
    for flag, row in (
        ("--reload", "restart when code changes"),
        ("--metrics", "metrics"),
        ("--interface", "WSGI"),
    ):
        (ours,) = re.findall(rf"^\| {row} \| (.*?) \|", text, re.MULTILINE)
        assert (ours in ("no", "not yet")) == (flag not in flags), f"{row}: {ours}"


def test_every_attack_in_the_document_has_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\|(?! (?:Attack|Fault) |-)", line)]
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    for row in rows:
        tests = re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])
        assert tests, row
        for test in tests:
            assert any(f"def {test}(" in source for source in sources), test


def test_the_reference_shows_every_exception_that_is_public() -> None:
    text = (ROOT / "docs" / "reference" / "exceptions.md").read_text("utf-8")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in text


def test_the_python_api_is_called_as_the_reference_shows_it() -> None:
    text = (ROOT / "docs" / "reference" / "python-api.md").read_text("utf-8")
    shown = dict(re.findall(r"^## `(?:await )?h2asgi\.(\w+)(?:\((.*)\))?`", text, re.MULTILINE))
    assert set(shown) == set(h2asgi.__all__)
    for name, parameters in shown.items():
        if parameters:
            known = inspect.signature(getattr(h2asgi, name)).parameters
            named = re.findall(r"(\w+)(?:=\w+)?(?:, |$)", parameters)
            assert named == [each for each in known if each in named]
            assert {p for p in known if known[p].default is inspect.Parameter.empty} <= set(named)


def _links(document: Path) -> Iterator[str]:
    text = _code_span.sub("", _code_block.sub("", document.read_text("utf-8")))
    for target in _link.findall(text):
        if not re.match(r"[a-z]+:", target):
            yield target


def _anchors(document: Path) -> set[str]:
    """The ids that Markdown renderers give to headings."""
    headings = _heading.findall(_code_block.sub("", document.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for link in _links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link
