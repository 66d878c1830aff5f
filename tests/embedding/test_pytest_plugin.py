"""The fixtures, in runs of pytest of their own: those of the document, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pages import section, write_files

Run = Callable[..., str]

PLUGINS = ("h2asgi.pytest_plugin", "anyio.pytest_plugin")
"""Those that are needed, by name: others that are installed would take most of the time. What is
installed with the package is tested by ``test_sample_project.py``."""

APP = """
async def app(scope, receive, send):
    if scope["path"] == "/broken":
        raise LookupError("no such thing")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest in ``tmp_path``; give what it prints."""

    def start(*arguments: str, plugins: Sequence[str] = PLUGINS) -> str:
        (tmp_path / "pytest.ini").touch()  # or pytest would look for one further up
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("H2ASGI_", "PYTEST_", "DJANGO_"))
        } | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        named = [f"-p{name}" for name in plugins]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-pno:cacheprovider", "-Werror", *named, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    return start


def _outcome(output: str) -> str:
    """Such as ``2 passed``."""
    (found,) = re.findall(r"^=+ ([^=]*) in [0-9.]+s.*=+$", output, re.MULTILINE)
    return found


def test_the_examples_of_fastapi_run(run: Run, tmp_path: Path) -> None:
    write_files(section("how-to/testing.md", "FastAPI, or any ASGI application"), tmp_path)
    output = run()
    assert _outcome(output) == "3 passed", output


def test_the_examples_of_django_run(run: Run, tmp_path: Path) -> None:
    write_files(section("how-to/testing.md", "Django"), tmp_path)
    output = run()
    assert _outcome(output) == "1 passed", output


def test_every_fixture_is_in_the_document(run: Run) -> None:
    listed = set(re.findall(r"^(h2asgi_\w+)", run("--fixtures"), re.MULTILINE))
    table = re.findall(r"^\| `(h2asgi_\w+)` \|", section("how-to/testing.md"), re.MULTILINE)
    assert listed == set(table)


def test_options_reach_the_server_and_tls_can_be_left_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        APP
        + """
import pytest

@pytest.fixture(scope="session")
def h2asgi_options():
    return {"tls": False, "server_header": False}

@pytest.fixture
def h2asgi_app():
    return app

def test_it(h2asgi_server, h2asgi_client):
    assert h2asgi_server.url.startswith("http:") and h2asgi_server.ca_file is None
    assert h2asgi_server.websocket_url.startswith("ws:")
    response = h2asgi_client.get("/")
    assert response.text == "2" and "server" not in response.headers
    with h2asgi_server.client(http2=False) as client:
        assert client.get("/").text == "1.1"

def test_others(h2asgi_serve):
    servers = [h2asgi_serve(app), h2asgi_serve(app, tls=False)]
    for server in servers:
        with server.client() as client:
            assert client.get("/").text == "2"
"""
    )
    assert _outcome(run()) == "2 passed"


def test_the_application_may_be_named_in_the_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "named.py").write_text(APP)
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "def test_it(h2asgi_session_server):\n"
        "    with h2asgi_session_server.client() as client:\n"
        "        assert client.get('/').text == '2'\n"
    )
    output = run("-o", "h2asgi_app=named:app")
    assert _outcome(output) == "1 passed", output


def test_what_the_application_raises_is_shown(run: Run, tmp_path: Path) -> None:
    """Even when its settings have silenced all loggers that are older."""
    (tmp_path / "named.py").write_text(
        APP + "import logging.config\n"
        "logging.config.dictConfig({'version': 1, 'disable_existing_loggers': True})\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(h2asgi_session_server, h2asgi_client):\n"
        "    assert h2asgi_client.get('/broken').status_code == 200\n"
    )
    output = run("-o", "h2asgi_app=named:app")
    assert _outcome(output) == "1 failed"
    assert output.count("LookupError: no such thing") == 1
    assert 'raise LookupError("no such thing")' in output


@pytest.mark.parametrize(
    ("app", "outcome", "text"),
    [
        ("", "1 error", "write a fixture h2asgi_app that returns the application"),
        ("absent:app", "1 error", "ApplicationError: there is no module absent"),
        ("failing:app", "1 error", "ApplicationError: the module failing could not be imported"),
    ],
)
def test_what_cannot_be_served_is_said(
    run: Run, tmp_path: Path, app: str, outcome: str, text: str
) -> None:
    (tmp_path / "failing.py").write_text("raise LookupError('no such thing')\n")
    (tmp_path / "test_it.py").write_text("def test_it(h2asgi_client): ...\n")
    output = run("-o", f"h2asgi_app={app}")
    assert _outcome(output) == outcome
    assert text in output
    assert ("LookupError: no such thing" in output) is (app == "failing:app")


def test_who_does_not_use_it_does_not_pay_for_it(run: Run, tmp_path: Path) -> None:
    """Of h2asgi the plugin alone is imported, and no library that pytest does not need itself."""
    (tmp_path / "test_it.py").write_text(
        "import json, pathlib, sys\n"
        "def test_it():\n"
        "    pathlib.Path('modules.json').write_text(json.dumps(list(sys.modules)))\n"
    )
    modules = []
    for plugins in (PLUGINS, PLUGINS[1:]):
        assert _outcome(run(plugins=plugins)) == "1 passed"
        modules.append(set(json.loads((tmp_path / "modules.json").read_text())))
    assert modules[0] - modules[1] == {"h2asgi", "h2asgi._version", "h2asgi.pytest_plugin"}
