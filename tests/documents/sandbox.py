"""Where the blocks of one page run: a home and a folder of their own, with what pages take for
granted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import trustme
from blocks import ROOT
from client_certificates import ClientAuthority

STAND_INS = Path(__file__).with_name("stand_ins.py")
REPLACED = ("h2asgi", "python", "python3", "pip", "uvx", "pipx")
"""Commands that are something else here; ``stand_ins.py`` says what."""

ALLOWED = ("bash", "cat", "certutil", "cp", "curl", "env", "grep", "h2load", "head", "ls", "mkdir",
           "nghttp", "node", "openssl", "pytest", "sed", "sh", "sleep", "sort", "tail")  # fmt: skip
"""The other commands that a block may run: those that change nothing beyond its own folder. There
is no other on the path, so a block for administrators (systemctl, a2enmod) cannot reach the machine
that runs the tests: it fails until it is marked as not run."""

PATIENCE = 60
"""Seconds for a block. On a busy machine a start of the server takes a few."""

NAMES = ("localhost", "127.0.0.1", "::1", "example.org", "shop.example", "*.wild.example",
         "other.example")  # fmt: skip

APPLICATION = '''
"""What the commands of a page serve: it answers every request, and echoes on WebSockets."""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


application = app


def create_app():
    return app
'''

WSGI_APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""

_pem = re.compile(r"(?<![\w.~$/{-])[\w./-]+\.pem\b")
_path = re.compile(r"(?<![\w.$~{}*:/-])/(?=(?:etc|run|srv|var|path)/)|(?<=unix:)/")
_port = re.compile(
    r"(:|port[ =]+|PORT=|--redirect-(?:http|to) |redirect_http = )(80|443|8000|8080|8443|9000)\b"
)
_elsewhere = (
    ("10.0.0.0/8", "127.0.0.1,::1"),
    (" 0.0.0.0", " 127.0.0.1"),
    ('"0.0.0.0:', '"127.0.0.1:'),
    ("10.0.0.5", "127.0.0.1"),
    ("[::]:", "[::1]:"),
    ("example:www-data", f"{os.getuid()}:{os.getgid()}"),
)
"""What is of other machines, and what stands in its place."""


class Sandbox:
    """Use it as a context manager: a server that a block has started ends with it."""

    def __init__(self) -> None:
        self._on_exit = ExitStack()
        self.root = Path(tempfile.mkdtemp(prefix="h2asgi-"))
        self._on_exit.callback(shutil.rmtree, self.root, ignore_errors=True)
        self._ports: dict[str, int] = {}
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert(*NAMES)
        self.transcript = ""
        self.project: dict[str, Path] = {}
        """Files of Python that the page has shown, by their names."""
        self.folder = self.root / "home" / "project"
        self.folder.mkdir(parents=True)
        self._fill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError, ProcessLookupError):
            os.killpg(int((self.root / "server.pid").read_text()), signal.SIGKILL)
        self._on_exit.close()

    def _fill(self) -> None:
        """Write applications, an instance's configuration, and the commands that stand in."""
        (self.root / "lib").mkdir()
        for package in ("mysite", "example"):
            (self.root / "lib" / package).mkdir()
            for module in ("__init__", "asgi"):
                (self.root / "lib" / package / f"{module}.py").write_text(APPLICATION)
        (self.root / "lib" / "mysite" / "wsgi.py").write_text(WSGI_APPLICATION)
        (self.root / "lib" / "app.py").write_text(APPLICATION)
        shutil.copytree(ROOT / "examples", self.folder / "examples")
        shutil.copy(ROOT / "examples" / "hello.py", self.root / "lib")
        self.write("h2asgi.toml", (ROOT / "deploy" / "h2asgi.toml").read_text("utf-8"))
        make_commands(self.root / "bin")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a block: nothing of the person who runs the tests."""
        return {
            "HOME": str(self.root / "home"),
            "PATH": str(self.root / "bin"),
            "PYTHONPATH": os.pathsep.join((str(self.root / "lib"), *filter(None, sys.path))),
            "SANDBOX": str(self.root),
            "SANDBOX_PORTS": " ".join(f"{there}={self.port(there)}" for there in ("8443", "8000")),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            **{name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")},
        }

    def port(self, there: str) -> int:
        """Give the free port that stands for the one of the page."""
        if there not in self._ports:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                self._ports[there] = sock.getsockname()[1]
        return self._ports[there]

    def here(self, text: str) -> str:
        """Give ``text`` with what is of this machine, and make the certificates that it names."""
        for there, stand_in in _elsewhere:
            text = text.replace(there, stand_in)
        text = _port.sub(lambda found: f"{found[1]}{self.port(found[2])}", text)
        text = _path.sub(f"{self.root}/", text)
        for unix in re.findall(r"unix:([^\s\"',]+)", text):
            Path(unix).parent.mkdir(parents=True, exist_ok=True)
        for name in _pem.findall(text):
            self._certificate(self.folder / name)
        return text

    def _certificate(self, path: Path) -> None:
        if path.exists() or not path.is_relative_to(self.root):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if "crl" in path.name:
            path.write_bytes(Path(self._clients.crl_file).read_bytes())
        elif path.name == "client-ca.pem":
            path.write_bytes(Path(self._clients.ca_file).read_bytes())
        elif "client" in path.name:
            path.write_bytes(Path(self._clients["good"].file).read_bytes())
        elif "ca" in path.stem.split("-"):
            self._authority.cert_pem.write_to_path(str(path))
        else:
            self._server.private_key_and_cert_chain_pem.write_to_path(str(path))

    @property
    def _clients(self) -> ClientAuthority:
        folder = self.root / "clients"
        if not folder.exists():
            folder.mkdir()
            self._made = ClientAuthority(folder)
        return self._made

    def write(self, name: str, text: str) -> Path:
        """Save a file in the folder that blocks run in."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text), "utf-8")
        return path

    def shell(self, script: str) -> None:
        """Run a block where the one before has left off; its folder and its variables are kept."""
        kept = self.root / "variables"
        kept.touch()
        lines = (f'. "{kept}"', "set -a", self.here(script), f'export -p >"{kept}"')
        done = self.run(
            [str(self.root / "bin" / "bash"), "-euo", "pipefail", "-c", "\n".join(lines)]
        )
        self.transcript += done.stdout
        assert done.returncode == 0, f"{script}\nexit code {done.returncode}\n{done.stdout}"
        if found := re.search(r'^declare -x PWD="(.*)"$', kept.read_text("utf-8"), re.MULTILINE):
            self.folder = Path(found[1])

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command there; what it writes is joined, as on a terminal."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, timeout=PATIENCE,
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def said(self) -> str:
        """What commands and servers have printed so far."""
        log = self.root / "server.log"
        return self.transcript + (log.read_text("utf-8") if log.exists() else "")


def make_commands(folder: Path) -> None:
    """Fill a folder for the path: commands that stand in for others, and those that are allowed."""
    folder.mkdir(parents=True)
    for name in REPLACED:
        program = f'exec "{sys.executable}" "{STAND_INS}" {name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{program}\n")
        (folder / name).chmod(0o755)
    for name in ALLOWED:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if found := shutil.which(name, path=path):
            (folder / name).symlink_to(found)
