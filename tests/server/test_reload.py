"""--reload: an application that is started anew when its files change."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from command import Command
from workers import HANG, Asking, Start, ask, gone, needs_fork, starting, wait_until

from h2asgi.changes import Changes, Watched
from h2asgi.config import Config, ReloadConfig
from h2asgi.errors import ConfigurationError

pytestmark = needs_fork

APPLICATION = """
import asyncio, os, time


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/events":
        await send({"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True})
        await asyncio.Event().wait()
    if scope["path"] == "/block":
        print("blocking", flush=True)
        time.sleep(600)
    if scope["path"] == "/exit":
        os._exit(7)
    await send({"type": "http.response.body", "body": b"VERSION"})
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "versions.py"


@pytest.fixture
def start(tmp_path: Path, file: Path) -> Iterator[Start]:
    write(file, 1)
    with starting(tmp_path) as start:
        yield lambda *arguments: start("--reload", *arguments, app="versions:app")


def write(file: Path, version: int) -> None:
    """As editors save: another file takes its place."""
    beside = file.with_suffix(".new")
    beside.write_text(APPLICATION.replace("VERSION", str(version)))
    beside.rename(file)


def url(command: Command) -> str:
    return f"http://localhost:{command.port()}"


def serves(command: Command) -> int:
    return int(command.wait_for_error_line(r"worker 1 \(process (\d+)\) serves")[1])


def test_the_next_request_is_the_new_one_s_and_none_is_refused(start: Start, file: Path) -> None:
    command = start()
    where = url(command)
    serves(command)
    asking, persistent = Asking(where), Asking(where, persistent=True)
    for version in range(2, 5):  # within one second, and all of the same size
        write(file, version)
        command.wait_for_error_line(r" versions\.py changed: starting anew$")
        assert ask(where) == version
        serves(command)
    assert max(asking.end()) == max(persistent.end()) == 4
    command.send(signal.SIGINT)
    code, output, errors = command.end()
    assert code == 0
    assert output == "shutdown\n" * 4
    assert "Traceback" not in errors


def test_a_broken_edit_is_said_once_and_the_next_one_tries_again(start: Start, file: Path) -> None:
    command = start()
    where = url(command)
    serves(command)
    file.write_text("def app(:\n")
    serves(command)
    command.wait_for_error_line("answering every request with 500")
    said = "".join(command.errors)
    assert said.count("SyntaxError: invalid syntax\n") == 1
    assert said.count("h2asgi: the module versions could not be imported: SyntaxError") == 1
    assert (
        "Traceback" not in said
    )  # of a SyntaxError Python shows the line, and nothing else is ours
    answer = httpx.get(where, trust_env=False, timeout=HANG)
    assert answer.status_code == 500
    assert "SyntaxError: invalid syntax (versions.py, line 1)" in answer.text
    write(file, 2)
    serves(command)
    assert ask(where) == 2


def test_an_application_that_is_broken_from_the_start_is_waited_for(
    start: Start, file: Path
) -> None:
    file.write_text("def application(): ...\nimport missing\n")
    command = start()
    where = url(command)
    command.wait_for_error_line("answering every request with 500")
    assert "imports missing, which is not installed" in httpx.get(where, trust_env=False).text
    write(file, 1)
    serves(command)
    assert ask(where) == 1


def test_a_process_that_ends_is_waited_for_too(start: Start, file: Path) -> None:
    command = start()
    where = url(command)
    serves(command)
    with pytest.raises(httpx.HTTPError):
        httpx.get(where + "/exit", trust_env=False)
    command.wait_for_error_line("the process of the application ended with exit code 7")
    assert "ended with exit code 7" in httpx.get(where, trust_env=False, timeout=HANG).text
    write(file, 2)
    command.wait_for_error_line("changed")
    assert ask(where) == 2


def test_nobody_holds_a_reload_up(start: Start, file: Path) -> None:
    """Neither server-sent events nor a WebSocket."""
    command = start()
    where = url(command)
    serves(command)
    port = int(where.rpartition(":")[2])
    upgrade = (
        b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with (
        httpx.Client(trust_env=False, timeout=HANG) as client,
        client.stream("GET", where + "/events") as events,
        socket.create_connection(("127.0.0.1", port), HANG) as websocket,
    ):
        assert events.status_code == 200
        websocket.sendall(upgrade)
        assert websocket.recv(4096).startswith(b"HTTP/1.1 101")
        write(file, 2)
        command.wait_for_error_line("changed")
        began = time.monotonic()
        assert ask(where) == 2
        assert time.monotonic() - began < 20.0  # what --graceful-timeout allows is 25
    assert "killing" not in "".join(command.errors)


def test_an_application_that_blocks_its_loop_is_killed(start: Start, file: Path) -> None:
    command = start()
    where = url(command)
    blocked = serves(command)
    with socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), HANG) as client:
        client.sendall(b"GET /block HTTP/1.1\r\nhost: a\r\n\r\n")
        command.wait_for_output("blocking")
        write(file, 2)
        command.wait_for_error_line(f"killing process {blocked}, which does not stop")
        assert ask(where) == 2


def test_what_is_not_watched_changes_nothing(start: Start, tmp_path: Path) -> None:
    command = start("--reload-include", "*.html", "--reload-exclude", "scratch")
    where = url(command)
    serves(command)
    (tmp_path / "scratch").mkdir()
    for name in ("scratch/notes.py", ".hidden.py", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "page.html").write_text("")
    command.wait_for_error_line("changed: starting anew")
    assert command.errors[-1].rstrip().endswith(" page.html changed: starting anew")
    assert ask(where) == 1


def test_signals(start: Start, tmp_path: Path) -> None:
    command = start("--pid", "pid")
    where = url(command)
    first = serves(command)
    assert int((tmp_path / "pid").read_text()) == command.process.pid
    command.send(signal.SIGUSR2)
    command.wait_for_error_line("there is no upgrade")
    command.send(signal.SIGUSR1)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("SIGHUP: starting anew")
    second = serves(command)
    assert second != first
    assert ask(where) == 1
    command.send(signal.SIGQUIT)
    code, _, _ = command.end()
    assert code == 128 + signal.SIGQUIT
    assert gone(second)


def test_a_new_certificate_is_taken_into_use(
    start: Start, tmp_path: Path, dev_certificate: Path
) -> None:
    pem = tmp_path / "own.pem"
    pem.write_bytes(dev_certificate.read_bytes())
    command = start("--certfile", str(pem))
    serves(command)
    pem.write_text("broken")
    command.wait_for_error_line("the certificate in use stays")
    pem.write_bytes(dev_certificate.read_bytes())
    command.wait_for_error_line("there is a new certificate: starting anew")
    serves(command)


def test_without_who_watches_there_is_no_pretending(start: Start) -> None:
    command = start()
    worker = serves(command)
    pid = command.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (watching,) = {int(child) for child in children} - {worker}
    os.kill(watching, signal.SIGKILL)
    code, _, errors = command.end()
    assert code == 1
    assert "the process that watches files has ended: stopping" in errors


def test_nobody_watches_on_for_a_parent_that_is_gone(start: Start) -> None:
    command = start()
    worker = serves(command)
    pid = command.process.pid
    children = [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]
    command.send(signal.SIGKILL)
    command.end()
    assert worker in children
    wait_until(lambda: all(map(gone, children)))


def test_a_program_that_has_imported_the_application_gets_the_new_one(
    tmp_path: Path, file: Path
) -> None:
    write(file, 1)
    (tmp_path / "main.py").write_text(
        "import h2asgi, versions\n"
        "h2asgi.run('versions:app', reload=True, port=0, access_log=False)\n"
    )
    command = Command(tmp_path, "main.py")
    try:
        where = url(command)
        serves(command)
        assert ask(where) == 1
        write(file, 2)
        command.wait_for_error_line("changed")
        assert ask(where) == 2
    finally:
        command.stop()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "2"], r"--reload and --workers exclude each other: "),
        (["--workers", "auto"], r"--reload and --workers exclude each other: "),
        (["--max-requests", "9"], r"--reload and --max-requests exclude each other: "),
        (["--reload-dir", "nowhere"], r"the folder nowhere to watch does not exist: name another"),
        (["--reload-include", "."], r"'\.' is no pattern of files: write one such as "),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], sentence: str, start: Start, file: Path
) -> None:
    code, _, errors = start(*arguments).end()
    assert code == 2
    assert re.fullmatch(rf"h2asgi: {sentence}.*\n", errors)
    checked = start(*arguments, "--check-config").end()
    assert checked[0] == 2


def test_an_application_without_a_name_cannot_be_imported_anew(tmp_path: Path) -> None:
    program = "import h2asgi\nasync def app(a, b, c): ...\nh2asgi.run(app, reload=True)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 2
    assert "reload needs the application by its name" in done.stderr


def test_without_the_library_the_operator_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r'needs watchfiles: pip install "h2asgi\[dev\]"'):
        Changes(Watched(Config(app_dir=str(tmp_path))))


def test_why_nothing_can_be_watched_is_said(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    watched = Watched(Config(app_dir=str(tmp_path / "gone")))
    (tmp_path / "gone").rmdir()
    with (
        contextlib.closing(Changes(watched)) as changes,
        pytest.raises(
            ConfigurationError, match="cannot be watched for --reload: No path was found"
        ),
    ):
        changes.wait_until_watched()


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("app.py", {}, True),
        ("deep/er/app.py", {}, True),
        ("app.pyc", {}, False),
        ("notes.txt", {}, False),
        ("../app.py", {}, False),
        (".venv/lib/app.py", {}, False),
        (".#app.py", {}, False),
        ("venv/lib/python3.13/site-packages/app.py", {}, False),
        ("node_modules/app.py", {}, False),
        (".env", {}, False),
        (".env", {"includes": (".env",)}, True),
        (".venv/page.html", {"includes": ("*.html",)}, False),
        ("deep/page.html", {"includes": ("*.html",)}, True),
        ("templates/deep/page.txt", {"includes": ("templates",)}, True),
        ("app/templates/page.txt", {"includes": ("app/templates",)}, True),
        ("templates/page.txt", {"includes": ("app/templates",)}, False),
        ("migrations/app.py", {"excludes": ("migrations",)}, False),
        ("app/test_app.py", {"excludes": ("test_*.py",)}, False),
        ("app.py", {"excludes": ("*.py",)}, False),
        ("app.py", {"excludes": ("*.py",), "includes": ("app.py",)}, False),
    ],
)
def test_patterns(
    file: str, options: dict[str, tuple[str, ...]], expected: bool, tmp_path: Path
) -> None:
    folder = tmp_path / ".checkouts"  # what is above the folder does not matter
    folder.mkdir()
    watched = Watched(Config(reload=ReloadConfig(folders=(str(folder),), **options)))
    assert (os.path.normpath(folder / file) in watched) is expected
