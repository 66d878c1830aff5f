"""The checks themselves: what is wrong in a block is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blocks import FILE, NOT_RUN, OUTPUT, Block
from checks import COMPARED, MARKED, READ, RUN, check, finish
from sandbox import Sandbox

from h2asgi.errors import ConfigurationError


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def block(language: str, text: str, mark: str = "", argument: str = "") -> Block:
    return Block("page.md", 1, language, text + "\n", mark, argument)


WRONG = {
    "an option that does not exist": (block("sh", "h2asgi --porto 1 app:app"), "No such option"),
    "a command that fails ahead of others": (block("sh", "cat nothing\ntrue"), "No such file"),
    "a command that could change the machine": (
        block("sh", "systemctl --version"), "command not found"
    ),
    "an extra that does not exist": (block("sh", "pip install 'CHECKOUT[fats]'"), "no extra"),
    "an application that fails": (
        block("python", "async def app(scope, receive, send):\n    raise ValueError"), "ValueError"
    ),
    "a message that ASGI does not know": (
        block("python", 'await send({"type": "http.start"})'), "IllegalMessage"
    ),
    "a name that does not exist": (block("python", "h2asgi.serving"), "AttributeError"),
    "an option of a file that does not exist": (block("toml", "colour = true"), "unknown option"),
    "what nobody prints": (block("text", "hello", OUTPUT, "h2asgi --version"), "nobody printed"),
    "a language that nobody knows": (block("cobol", "DISPLAY 'HELLO'."), "no check knows"),
    "a mark that nobody knows": (block("sh", "true", "unknown", "skip"), "is no mark"),
    "a broken quotation, though it is not run": (
        block("sh", "sudo 'rm", NOT_RUN, "of sudo"), "unexpected EOF"
    ),
    "a file of deploy that is not there": (block("ini", '--8<-- "nothing.ini"'), r"nothing\.ini"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_seen(wrong: Block, said: str, sandbox: Sandbox) -> None:
    with pytest.raises((AssertionError, ConfigurationError), match=said):
        check(wrong, sandbox)


@pytest.mark.parametrize("status", [200, 404])
def test_files_of_a_project_are_tested_together(status: int, sandbox: Sandbox) -> None:
    check(block("python", "# test_own.py\nfrom own import STATUS\n\n\n"
                f"def test_status():\n    assert STATUS == {status}"), sandbox)  # fmt: skip
    check(block("python", "# own.py\nSTATUS = 200"), sandbox)
    if status == 200:
        finish(sandbox)
        assert not list(sandbox.folder.glob("*own.py"))
    else:
        with pytest.raises(AssertionError, match="1 failed"):
            finish(sandbox)


def test_one_block_uses_what_the_one_before_has_left(sandbox: Sandbox) -> None:
    page = [
        (block("sh", "mkdir -p a && cd a\nNAME=app:app"), RUN),
        (block("toml", 'app = "app"\nport = 8000', FILE, "own.toml"), READ),
        (block("sh", "h2asgi --config own.toml --check-config"), RUN),
        (block("sh", "h2asgi $NAME\ncurl -s http://localhost:8000/"), RUN),
        (block("text", "2026-01-31T12:00:00+0000 info     http://localhost:8000\nhello"), COMPARED),
        (block("sh", "h2asgi … --no-access-log"), RUN),
        (block("sh", "sudo reboot", NOT_RUN, "of sudo"), MARKED),
    ]
    for each, done in page:
        if each.language == "text":
            sandbox.transcript += "\n"
        assert check(each, sandbox) == done
