"""What is done with a block, by its language. Each check gives a word for the count."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable

import yaml
from blocks import FILE, NOT_RUN, OUTPUT, ROOT, Block
from sandbox import PATIENCE, Sandbox

from h2asgi import options

RUN, COMPARED, READ = "run", "compared with what is printed", "read by what it is for"
INCLUDED, MARKED, SKIPPED = "files of deploy/", "not run, for a reason", "skipped"

TOOLS = {"curl": "curl", "openssl": "openssl", "nghttp": "nghttp", "node": "node",
         "--dev-cert-install": "certutil", "certutil": "certutil"}  # fmt: skip
"""Programs that a machine may lack, by what needs them in a block."""

LOG_PATIENCE = 5.0
"""Seconds until a server has written what it says of a request that has its answer."""

_snippet = re.compile(r'(?:--8<-- "([^"]+)"\n)+')


def check(block: Block, sandbox: Sandbox) -> str:
    """Do what the block says; gives what was done. AssertionError when it does not hold."""
    if block.mark == "unknown":
        raise AssertionError(f"<!-- {block.argument} --> is no mark")
    if block.mark == NOT_RUN:
        read(block)
        return MARKED
    if block.mark == OUTPUT:
        if missing(block.argument):
            return SKIPPED
        sandbox.shell(block.argument)
        return output(block, sandbox)
    if block.mark == FILE:
        sandbox.write(block.argument, block.text)
    if _snippet.fullmatch(block.text):
        return included(block)
    known = CHECKS.get(block.language)
    assert known, (
        f"no check knows the language {block.language!r}: add one to tests/documents/checks.py,"
        " or say in front <!-- not run: why -->"
    )
    return known(block, sandbox)


def read(block: Block) -> None:
    """Look at the syntax of what is not run."""
    if block.language in ("", "sh"):
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    elif block.language == "python":
        ast.parse(block.text)
    elif block.language in PARSERS:
        PARSERS[block.language](block.text)


def missing(script: str) -> str:
    """Give a program that the script needs and that is not there, unless it must be."""
    if "H2ASGI_REQUIRE_TOOLS" in os.environ:
        return ""
    needed = (TOOLS[word] for word in TOOLS if re.search(rf"(?<![\w-]){word}\b", script))
    return next((tool for tool in needed if not shutil.which(tool)), "")


def shell(block: Block, sandbox: Sandbox) -> str:
    """Run commands; a server goes on behind them."""
    if missing(block.text):
        return SKIPPED
    sandbox.shell(block.text)
    return RUN


def python(block: Block, sandbox: Sandbox) -> str:
    """Run a block in a process of its own; a server in it is stopped once it is ready.

    One that begins with ``# name.py`` is a file of a project, whose tests ``finish`` runs.
    """
    if named := re.match(r"# ([\w/]+\.py)\n", block.text):
        if named[1] in sandbox.project:
            finish(sandbox)  # another project begins
        sandbox.project[named[1]] = sandbox.write(named[1], block.text)
        return RUN
    file = sandbox.folder / f"test_block_{block.line}.py"
    file.write_text(sandbox.here(block.text), "utf-8")
    address = sandbox.root / f"notify{block.line}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(address))
        notified.settimeout(0.05)
        program = str(ROOT / "tests" / "documents" / "python_block.py")
        with subprocess.Popen(
            [sys.executable, "-W", "error", program, str(file)], cwd=sandbox.folder, text=True,
            env={**sandbox.environment, "NOTIFY_SOCKET": str(address)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            until = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < until:
                try:
                    if b"READY=1" in notified.recv(4096):
                        process.send_signal(signal.SIGTERM)
                except TimeoutError:
                    continue
            process.kill()
            said, _ = process.communicate()
    sandbox.transcript += said
    assert process.returncode == 0, f"{block.text}\nexit code {process.returncode}\n{said}"
    return RUN


def finish(sandbox: Sandbox) -> None:
    """Run the tests of the project that the page has shown file by file; clear it away."""
    tests = [str(path) for path in sandbox.project.values() if path.name.startswith("test_")]
    if tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = sandbox.run([*command, *tests])
        assert done.returncode == 0, done.stdout
    for path in sandbox.project.values():
        path.unlink()
    sandbox.project.clear()


def output(block: Block, sandbox: Sandbox) -> str:
    """Compare what is shown with what was printed: numbers, times and paths may differ."""
    until = time.monotonic() + LOG_PATIENCE
    while line := _not_printed(block, sandbox):
        assert time.monotonic() < until, f"nobody printed\n{line}\nbut\n{sandbox.said}"
        time.sleep(0.05)
    return COMPARED


def _not_printed(block: Block, sandbox: Sandbox) -> str:
    """Give the first line that nobody has printed, if any; ``...`` stands for the rest of one."""
    printed = {_loose(line, sandbox) for line in sandbox.said.splitlines()}
    for line in filter(str.strip, block.text.splitlines()):
        wanted = _loose(line, sandbox)
        if wanted.endswith("..."):
            begin = wanted[:-3].rstrip(", ")
            found = any(each.startswith(begin) for each in printed)
        else:
            found = wanted in printed
        if not found:
            return line
    return ""


def _loose(line: str, sandbox: Sandbox) -> str:
    line = re.sub(r"^\S+T\S+ (?=debug|info|warning|error|critical)", "", line)  # time
    line = line.replace(str(sandbox.root), "").replace("/home/you/", "/home/")
    line = re.sub(r"\((?:compiled; )?engines [^)]*\)|, compiled", "", line)  # as installed
    line = re.sub(r"\S*ca\.pem", "ca.pem", line)
    line = re.sub(r"\b[0-9a-f]{32}\b|\d+/[A-Z][a-z]{2}/\d+", "0", line)  # ids, dates in a log
    line = re.sub(r"\[::1\]|(?:\d+\.){3}\d+", "ADDRESS", line)
    return " ".join(re.sub(r"\d+(?:\.\d+)*", "0", line).split())


def toml(block: Block, sandbox: Sandbox) -> str:
    """Read it as the server does, if it has no tables; else it is for somebody else."""
    values = tomllib.loads(block.text)
    if not any(isinstance(value, dict) for value in values.values()):
        options.config_from([options.toml_file(str(sandbox.write("block.toml", block.text)))])
    return READ


def parsed(block: Block, sandbox: Sandbox) -> str:
    """See that it is what its language says."""
    PARSERS[block.language](block.text)
    return READ


def included(block: Block) -> str:
    """Find the file, and a test that runs or checks it."""
    tests = "".join(
        path.read_text("utf-8")
        for path in (*ROOT.glob("tests/test_deploy.py"), *ROOT.glob("tests/integration/**/*.py"))
    )
    for name in re.findall(r'"([^"]+)"', block.text):
        file = ROOT / "deploy" / name
        assert file.exists(), name
        assert file.name in tests or file.suffix == ".yaml", f"no test is about {name}"
    return INCLUDED


def _ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "ini": _ini,
    "toml": tomllib.loads,
}

CHECKS: dict[str, Callable[[Block, Sandbox], str]] = {
    "": shell,
    "sh": shell,
    "python": python,
    "text": output,
    "toml": toml,
    **dict.fromkeys(("json", "yaml", "ini"), parsed),
}
