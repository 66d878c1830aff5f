"""Writes what the reference takes from the code: ``python docs/reference/generate.py``.

- ``command-line.md``: the table below the heading of each topic, from the declarations of options;
- ``python-api.md``: what stands between ``<!-- from NAME -->`` and ``<!-- end -->``, from the
  docstrings of NAME, and of its documented attributes and methods but those of ``without A, B``.

The rest of both pages is written by hand. A test says when a page is out of date.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import click

import h2asgi
from h2asgi import cli, options

FOLDER = Path(__file__).parent
HEAD = "| Option | Variable | Meaning |\n|---|---|---|\n"

_table = re.compile(r"\| Option .*\n(?:\|.*\n)+")
_region = re.compile(
    r"(<!-- from (\S+?)(?:, without ([\w, ]+))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def row(option: options.Option) -> str:
    """How the reference shows an option: name, variable and meaning with its default."""
    with click.Context(cli.command) as context:
        (parameter,) = (p for p in cli.command.params if p.name == option.name)
        record = parameter.get_help_record(context)
    assert record is not None
    name, meaning = (re.sub(r"\s+", " ", part).replace("|", "/") for part in record)
    return f"| `{name}` | `{option.variable}` | {meaning} |\n"


def command_line(text: str) -> str:
    """Give the page with the tables of all topics as they are declared."""
    for topic in options.TOPICS:
        table = HEAD + "".join(row(each) for each in options.OPTIONS if each.topic == topic)
        before, heading, section = text.partition(f"\n## {topic}\n")
        if heading:
            old = _table.search(section)
            assert old, f"there is no table below {topic}"
            text = f"{before}{heading}{section[: old.start()]}{table}{section[old.end() :]}"
        else:  # a new topic goes ahead of the options that are the command's own
            before, heading, section = text.partition("\n## Other\n")
            text = f"{before}\n## {topic}\n\n{table}{heading}{section}"
    return text


def python_api(text: str) -> str:
    """Give the page with what the docstrings say now."""

    def written(found: re.Match[str]) -> str:
        without = {name.strip() for name in (found[3] or "").split(",")}
        return f"{found[1]}\n{_described(found[2], without)}\n{found[4]}"

    return _region.sub(written, text)


def _described(name: str, without: set[str]) -> str:
    value = getattr(h2asgi, name.removeprefix("h2asgi."))
    parts = [_markdown(inspect.getdoc(value) or "")]
    if inspect.isclass(value):
        found = {**_attributes(value), **_methods(value)} | _slices(value)
        parts.append(
            "\n".join(f"- `{each}`: {found[each]}" for each in found if each not in without)
        )
    return "\n\n".join(parts) + "\n"


def _attributes(cls: type[Any]) -> dict[str, str]:
    """What stands below the attributes that ``__init__`` sets."""
    if is_dataclass(cls):
        return {}
    body = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__))).body[0]
    assert isinstance(body, ast.FunctionDef)
    found = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Attribute(attr=name))
                | ast.Assign([ast.Attribute(attr=name)]),
                ast.Expr(ast.Constant(str(docstring))),
            ):
                found[name] = _sentence(docstring)
    return found


def _methods(cls: type[Any]) -> dict[str, str]:
    return {
        f"{name}()": _sentence(method.__doc__)
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_") and method.__doc__
    }


def _slices(cls: type[Any]) -> dict[str, str]:
    """The fields of a dataclass that are dataclasses."""
    if not is_dataclass(cls):
        return {}
    hints = get_type_hints(cls)
    slices = (each.name for each in fields(cls) if is_dataclass(hints[each.name]))
    return {name: _sentence(inspect.getdoc(hints[name]) or "") for name in slices}


def _sentence(docstring: str) -> str:
    """A docstring as one item of a list."""
    return _markdown(" ".join(docstring.split()))


def _markdown(docstring: str) -> str:
    lines = re.sub(r"::\n\n((?:    .*\n?|\n)+)", _code, docstring)
    return re.sub(r"(?<!`)``(?!`)", "`", lines)


def _code(found: re.Match[str]) -> str:
    return f":\n\n```python\n{textwrap.dedent(found[1]).strip()}\n```\n\n"


def pages() -> Iterator[tuple[Path, str]]:
    """Give each page with what should stand in it."""
    for name, write in (("command-line.md", command_line), ("python-api.md", python_api)):
        path = FOLDER / name
        yield path, write(path.read_text("utf-8"))


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, "utf-8")
