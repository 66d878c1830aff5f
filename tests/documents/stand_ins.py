"""The commands of the pages, as they run in a sandbox: ``stand_ins.py NAME ARGUMENTS...``.

- ``h2asgi`` that would serve does so behind the shell, which goes on once it is ready, until the
  next one is started. What it was given before stands for an ellipsis.
- ``python -m venv`` makes a folder of these commands; else it is Python.
- ``pip``, ``uvx`` and ``pipx`` install nothing. They look whether what is asked for exists.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SANDBOX = Path(os.environ["SANDBOX"])
PID, LOG, GIVEN = SANDBOX / "server.pid", SANDBOX / "server.log", SANDBOX / "given.json"
ENDS_BY_ITSELF = {"--help", "--version", "--check-config", "--print-config"}
COMMAND = (sys.executable, "-m", "h2asgi")
ATTENTION = 0.05
"""Seconds between looks at a process that starts or ends."""

STOP = 0.7
"""Seconds for a stop; what takes longer (``--drain-delay``) gets the second signal."""

PATIENCE = 30.0
"""Seconds for a start, and for the end after the second signal."""


def h2asgi(arguments: list[str]) -> int:
    arguments = _without_ellipsis(arguments)
    if ENDS_BY_ITSELF & set(arguments) or "_H2ASGI_COMPLETE" in os.environ:
        os.execv(COMMAND[0], [*COMMAND, *arguments])
    shown = subprocess.run(
        [*COMMAND, *arguments, "--print-config"], check=False, text=True, stdout=subprocess.PIPE
    )
    if shown.returncode or not shown.stdout.startswith("# Configuration"):
        print(shown.stdout, end="")  # it has done something else than to serve
        return shown.returncode
    GIVEN.write_text(json.dumps(arguments))
    return _stop() or _serve(arguments, tomllib.loads(shown.stdout))


def _without_ellipsis(arguments: list[str]) -> list[str]:
    before = json.loads(GIVEN.read_text()) if GIVEN.exists() else ["app:app"]
    place = next((n for n, each in enumerate(arguments) if each in ("…", "...")), None)
    if place is None:
        return arguments
    return [*before, *arguments[:place], *arguments[place + 1 :]]


def _stop() -> int:
    """End the server that runs; 0 or what went wrong."""
    if not PID.exists():
        return 0
    number = int(PID.read_text())
    os.kill(number, signal.SIGTERM)
    if not _gone(STOP):
        os.kill(number, signal.SIGTERM)
        if not _gone(PATIENCE):
            return _say("the server before does not stop")
    PID.unlink()
    return 0


def _gone(seconds: float) -> bool:
    """Whether no process of the server is left: each holds the lock of the log."""
    until = time.monotonic() + seconds
    with LOG.open("ab") as log:
        while time.monotonic() < until:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(ATTENTION)
            else:
                return True
    return False


def _serve(arguments: list[str], config: dict[str, object]) -> int:
    variables = dict(os.environ)
    if not {"bind", "port"} & {name for name, value in config.items() if value}:
        default = "8443" if {"certfile", "dev_cert"} & {k for k in config if config[k]} else "8000"
        ports = dict(pair.split("=") for pair in os.environ["SANDBOX_PORTS"].split())
        variables["H2ASGI_PORT"] = ports[default]
    address = SANDBOX / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, LOG.open("ab") as log:
        notified.bind(str(address))
        notified.settimeout(ATTENTION)
        fcntl.flock(log, fcntl.LOCK_EX)
        begin = log.tell()
        process = subprocess.Popen(
            [*COMMAND, *arguments], env={**variables, "NOTIFY_SOCKET": str(address)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        PID.write_text(str(process.pid))
        if _is_ready(process, notified, begin):
            return 0
    PID.unlink()
    process.kill()
    print(_said(begin))
    return process.wait()  # 0 for what does something else than to serve


def _is_ready(process: subprocess.Popen[bytes], notified: socket.socket, begin: int) -> bool:
    """Whether it serves: it tells the service manager, or under ``--reload`` the log alone."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            if b"READY=1" in notified.recv(4096):
                return True
        except TimeoutError:
            if re.search(r" worker 1 \(.*\) serves$", _said(begin), re.MULTILINE):
                return True
    return False


def _said(begin: int) -> str:
    """What the log has from an octet on."""
    return LOG.read_bytes()[begin:].decode()


def python(arguments: list[str]) -> int:
    if arguments[:2] != ["-m", "venv"]:
        os.execv(sys.executable, [sys.executable, *arguments])
    folder = Path(arguments[-1], "bin")
    folder.mkdir(parents=True, exist_ok=True)
    for command in (SANDBOX / "bin").iterdir():
        (folder / command.name).unlink(missing_ok=True)
        (folder / command.name).symlink_to(command)
    return 0


def pip(arguments: list[str]) -> int:
    if arguments[0] != "install":
        return _say(f"pip {arguments[0]} is not known here")
    return _look_at([each for each in arguments[1:] if not each.startswith("-")])


def run_tool(arguments: list[str]) -> int:
    """Do what ``uvx`` and ``pipx run`` do: look at what is to be installed, run the rest."""
    if arguments[0] == "run":
        del arguments[0]
    wanted = []
    while arguments[0].startswith("--"):
        wanted.append(arguments[1])
        del arguments[:2]
    if failed := _look_at(wanted):
        return failed
    return NAMES[arguments[0]](arguments[1:])


def _look_at(requirements: list[str]) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for requirement in requirements:
        name, _, extras = requirement.rstrip("]").partition("[")
        ours = name in (".", "CHECKOUT") or Path(name).name == "h2asgi"
        unknown = set(filter(None, extras.split(","))) - set(project["optional-dependencies"])
        if ours and unknown:
            return _say(f"there is no extra {unknown}")
        if not ours and not name.replace("-", "").replace("_", "").isalnum():
            return _say(f"what is {name}?")
    return 0


def _say(sentence: str) -> int:
    print(f"stand-in: {sentence}", file=sys.stderr)
    return 1


NAMES = {
    "h2asgi": h2asgi, "python": python, "python3": python, "pip": pip, "uvx": run_tool,
    "pipx": run_tool,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(NAMES[sys.argv[1]](sys.argv[2:]))
