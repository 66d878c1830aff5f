"""Pipes that nobody reads, behind a whole server: requests go on, and the end comes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HANG = 60

APPLICATION = """
import logging


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/log":
        logging.getLogger("h2asgi.error").error("x" * 1000)
    if scope["path"] == "/raise":
        raise ValueError("bad")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""

Run = Callable[..., "Server"]


class Server:
    """The command on a free port; its output goes where the test says."""

    def __init__(self, folder: Path, *arguments: str, stdout: int, stderr: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "h2asgi", "application:app", "--port", "0", *arguments],
            cwd=folder,
            stdout=stdout,
            stderr=stderr,
        )

    def get(self, address: str, *paths: str) -> None:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=HANG)
        for path in paths:
            connection.request("GET", path)
            assert connection.getresponse().read()
        connection.close()

    def stop(self) -> float:
        """Ask it to stop, and give the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(HANG) == 0
        return time.monotonic() - began


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "application.py").write_text(APPLICATION)
    servers: list[Server] = []

    def start(*arguments: str, **streams: int) -> Server:
        servers.append(Server(tmp_path, *arguments, **streams))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def address_in(stderr: object) -> str:
    for line in stderr:  # type: ignore[attr-defined]
        if b"http://localhost:" in line:
            return "localhost:" + line.strip().rpartition(b":")[2].decode()
    raise AssertionError("no address")


def test_nobody_reads_the_access_log(run: Run) -> None:
    server = run(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    address = address_in(server.process.stderr)
    server.get(address, *["/" + "x" * 7000] * 1500)  # more than the pipe and the queue hold
    assert server.stop() < 10
    assert server.process.stderr is not None
    errors = server.process.stderr.read().decode()
    assert "the access log cannot be written: what it is written to does not take it" in errors
    assert "the access log ends: up to 1" in errors


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_reads_the_server_log(run: Run, workers: str) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stderr:
        server = run(
            *("--workers", workers, "--no-access-log"), stdout=subprocess.DEVNULL, stderr=writing
        )
        os.close(writing)
        server.get(address_in(stderr), *["/log"] * 500)
        assert server.stop() < 15


def test_nobody_reads_what_a_handler_of_log_config_writes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.toml").write_text(
        '[handlers.out]\nclass = "logging.StreamHandler"\nstream = "ext://sys.stdout"\n'
        '[loggers."h2asgi.error"]\nhandlers = ["out"]\n'
    )
    server = run(
        *("--log-config", "log.toml", "--no-access-log"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    address = address_in(server.process.stderr)
    drain = threading.Thread(target=server.process.stderr.read)  # type: ignore[union-attr]
    drain.start()
    server.get(address, *["/log"] * 500)
    assert server.stop() < 15
    drain.join(HANG)


def test_json_in_both_logs(run: Run) -> None:
    server = run(
        *("--access-log-format", "json", "--log-format", "json"),
        *("--request-id-header", "x-request-id", "--slow-request", "30"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.process.stderr is not None
    assert server.process.stdout is not None
    port = 0
    while not port:
        message = json.loads(server.process.stderr.readline())["message"]
        if message.startswith("http://localhost:"):
            port = int(message.rpartition(":")[2])
    server.get(f"localhost:{port}", "/raise")
    access = json.loads(server.process.stdout.readline())
    error = json.loads(server.process.stderr.readline())
    assert server.stop() < 10
    assert (access["status"], access["target"]) == (500, "/raise")
    assert error["message"] == "GET '/raise': exception in the application"
    assert error["exception"].endswith("ValueError: bad")
    for key in ("connection", "stream", "request_id", "process"):
        assert error[key] == access[key]
    assert len(access["request_id"]) == 32


def test_an_access_line_is_there_at_once(run: Run) -> None:
    """And what the application has printed is not behind it."""
    server = run(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    server.get(address_in(server.process.stderr), "/one")
    assert server.process.stdout is not None
    assert b'"GET /one HTTP/1.1" 200 5 ' in server.process.stdout.readline()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--access-log-format", "{nothing}"), "--access-log-format has no field {nothing}: "),
        (("--request-id-header", "host"), "--request-id-header must be a header field of its own"),
        (("--log-config", "none.toml"), "cannot read --log-config 'none.toml': No such file"),
        (("--log-config", "bad.toml"), "--log-config 'bad.toml': Unable to configure handler 'a'"),
        (("--log-format", "xml"), "--log-format must be one of text, json, not 'xml'"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_mistake_is_one_sentence(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], reason: str, workers: str
) -> None:
    (tmp_path / "bad.toml").write_text('[handlers.a]\nclass = "no.Such"\n')
    server = run(
        *("--workers", workers, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, errors = server.process.communicate(timeout=HANG)
    assert server.process.returncode not in (0, 1)
    assert reason in errors.decode()
    assert "Traceback" not in errors.decode()


def test_log_config_takes_both_logs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(
        json.dumps(
            {
                "formatters": {"short": {"format": "%(name)s %(levelname)s %(message)s"}},
                "handlers": {
                    "file": {
                        "class": "logging.handlers.WatchedFileHandler",
                        "filename": "both.log",
                        "formatter": "short",
                    }
                },
                "loggers": {
                    "h2asgi": {"handlers": ["file"], "level": "INFO"},
                    "h2asgi.access": {"handlers": ["file"]},
                },
            }
        )
    )
    server = run("--log-config", "log.json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / "both.log"
    deadline = time.monotonic() + HANG
    while not log.exists() or "localhost:" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    address = log.read_text().partition("http://")[2].splitlines()[0]
    server.get(address, "/one", "/raise")
    assert server.stop() < 10
    lines = log.read_text().splitlines()
    assert any(line.startswith("h2asgi INFO h2asgi ") for line in lines)
    assert any("h2asgi.access INFO 127.0.0.1" in line and "GET /one" in line for line in lines)
    assert "h2asgi.error ERROR GET '/raise': exception in the application" in lines
    assert lines[-1] == "h2asgi INFO stopping"
