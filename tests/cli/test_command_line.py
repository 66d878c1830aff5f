"""``h2asgi`` and ``python -m h2asgi``: what they print, and their exit codes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from cli_parts import EXAMPLES, Certificates, Run

from h2asgi import __version__, cli
from h2asgi.config import Config
from h2asgi.errors import ApplicationError, ConfigurationError
from h2asgi.options import OPTIONS, TOPICS

HELLO = ["--app-dir", str(EXAMPLES), "--port", "0", "hello"]

OPERATOR_ERRORS = {
    "a certificate that is not there": (
        ["--check-config", "--certfile", "gone.pem", *HELLO],
        2,
        "cannot read the certificate file gone.pem: No such file or directory",
    ),
    "a key of another certificate": (
        ["--check-config", "--certfile", "a-cert.pem", "--keyfile", "b-key.pem", *HELLO],
        2,
        "the key in b-key.pem does not belong to the certificate in a-cert.pem",
    ),
    "a cipher that HTTP/2 prohibits": (
        [
            *("--check-config", "--certfile", "a-cert.pem", "--keyfile", "a-key.pem"),
            *("--ciphers", "AES128-GCM-SHA256", *HELLO),
        ],
        2,
        "--ciphers 'AES128-GCM-SHA256' allows AES128-GCM-SHA256, which RFC 9113 (section 9.2.2)"
        " prohibits: only suites with ephemeral keys and authenticated encryption may be used",
    ),
    "an option that does not exist": (["--porto", "1"], 2, "No such option"),
    "an option without its value": (["--port"], 2, "Option '--port' requires an argument"),
    "two applications": (["hello", "again"], 2, "Got unexpected extra argument"),
    "a port out of range": (
        ["--port", "70000", "hello"],
        2,
        "--port must be at most 65535, not 70000",
    ),
    "an unknown option in the file": (
        ["--config", "unknown.toml", "hello"],
        2,
        "unknown option colour in unknown.toml",
    ),
    "a file that is not TOML": (
        ["--config", "broken.toml", "hello"],
        2,
        "the configuration file broken.toml is not TOML: ",
    ),
    "a file that is not there": (
        ["--config", "gone.toml", "hello"],
        2,
        "cannot read the configuration file gone.toml: No such file or directory",
    ),
    "both protocols off": (
        ["--no-http1", "--no-http2", "hello"],
        2,
        "HTTP/1.1 and HTTP/2 are both switched off: nothing to serve",
    ),
    "no application": ([], 2, "there is no application to serve: give APP as module:attribute"),
    "an address that does not parse": (
        ["--check-config", "--bind", "localhost", "hello"],
        2,
        "--bind 'localhost' has no port",
    ),
    "an address that this machine does not have": (
        ["--check-config", "--host", "192.0.2.1", *HELLO],
        2,
        "cannot listen on 192.0.2.1:0: this machine has no such address",
    ),
    "a module that is not there": (
        ["--check-config", "--port", "0", "absent:app"],
        3,
        "there is no module absent in ",
    ),
    "an attribute that is not there": (
        ["--check-config", *HELLO[:-1], "hello:application"],
        3,
        "the module hello has no attribute application: ",
    ),
}


@pytest.fixture
def files(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.pair("a")
    certificates.pair("b")
    (tmp_path / "unknown.toml").write_text("colour = 1\n")
    (tmp_path / "broken.toml").write_text("port = \n")
    (tmp_path / "failing.py").write_text(
        "def connect():\n    raise OSError('no database')\nconnect()\n"
    )


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", OPERATOR_ERRORS.values(), ids=OPERATOR_ERRORS)
def test_an_operators_mistake_is_one_sentence_and_an_exit_code(
    h2asgi: Run, case: tuple[list[str], int, str]
) -> None:
    arguments, exit_code, sentence = case
    done = h2asgi(*arguments)
    assert done.returncode == exit_code
    assert done.stderr.startswith(f"h2asgi: {sentence}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("check", [["--check-config"], []], ids=["check", "start"])
def test_an_engine_that_is_not_installed_is_an_operators_mistake(check: list[str]) -> None:
    script = (
        "import sys; sys.modules['httptools'] = None;"
        "from h2asgi.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *check, "--http1-engine", "httptools", *HELLO],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "h2asgi: --http1-engine httptools needs httptools: pip install 'h2asgi[fast]'\n"
    )


@pytest.mark.usefixtures("files")
def test_an_application_that_raises_on_import_shows_its_own_traceback_once(h2asgi: Run) -> None:
    done = h2asgi("--check-config", "--port", "0", "failing")
    assert done.returncode == 3
    assert done.stderr.count("Traceback") == 1
    assert "in connect" in done.stderr
    assert "h2asgi/" not in done.stderr
    assert "importlib" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "h2asgi: the module failing could not be imported: OSError: no database"


def test_a_wrong_variable_is_one_sentence(h2asgi: Run) -> None:
    done = h2asgi("hello", H2ASGI_PORT="http")
    assert done.returncode == 2
    assert done.stderr == "h2asgi: H2ASGI_PORT must be a whole number, not 'http'\n"


def test_help_is_grouped_by_topic(h2asgi: Run) -> None:
    done = h2asgi("--help", COLUMNS="100")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: h2asgi [OPTIONS] [APP]\n")
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [f"{topic}:" for topic in (*TOPICS, "Other")]
    sections = dict(zip(headings, done.stdout.split(":\n  -")[1:], strict=True))
    for option in OPTIONS:
        assert option.flag.removeprefix("-") + " " in "-" + sections[f"{option.topic}:"], option
    assert "--http2 / --no-http2" in sections["Protocols:"]
    assert "[default: 128]" in sections["Protocols:"]
    assert "[default: yes]" in sections["Logging:"]
    assert "version" in sections["Other:"]


def test_version(h2asgi: Run) -> None:
    assert h2asgi("--version").stdout == f"h2asgi, version {__version__}\n"


def test_a_printed_configuration_can_be_given_back(h2asgi: Run, tmp_path: Path) -> None:
    done = h2asgi(
        *("--print-config", "hello:app", "--no-http1", "--bind", "unix:/a", "--bind", "unix:/b"),
        H2ASGI_GRACEFUL_TIMEOUT="3.5",
    )
    assert (done.returncode, done.stderr) == (0, "")
    values = tomllib.loads(done.stdout)
    assert values["app"] == "hello:app"
    assert (values["http1"], values["graceful_timeout"]) == (False, 3.5)
    assert values["bind"] == ["unix:/a", "unix:/b"]
    (tmp_path / "printed.toml").write_text(done.stdout)
    assert h2asgi("--print-config", H2ASGI_CONFIG="printed.toml").stdout == done.stdout


def test_a_configuration_can_be_printed_without_an_application(h2asgi: Run) -> None:
    done = h2asgi("--print-config")
    assert done.returncode == 0
    assert "\n# app =\n" in done.stdout


def test_a_valid_configuration_is_one_line_on_stdout(h2asgi: Run) -> None:
    done = h2asgi("--check-config", "--dev-cert", "--bind", "unix:sock", *HELLO[:2], "hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "h2asgi: the configuration is valid\n"


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_path: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("run_here")
class TestInThisProcess:
    def test_an_expired_certificate_is_a_warning(
        self, certificates: Certificates, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from datetime import timedelta

        pair = certificates.pair(begin=timedelta(days=-3), end=timedelta(days=-2))
        files = ["--certfile", pair.certfile, "--keyfile", pair.keyfile]
        assert cli.main(["--check-config", *files, *HELLO]) == 0
        printed = capsys.readouterr()
        assert printed.err.startswith("h2asgi: warning: the certificate ")
        assert printed.out == "h2asgi: the configuration is valid\n"

    def test_a_port_that_the_running_server_has_is_a_warning(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            assert cli.main(["--check-config", *HELLO[:2], "--bind", address, "hello"]) == 0
        printed = capsys.readouterr()
        assert printed.err.startswith(f"h2asgi: warning: cannot listen on {address}: ")

    def test_checking_leaves_an_inherited_socket_open(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as inherited:
            bind = f"fd://{inherited.fileno()}"
            assert cli.main(["--check-config", *HELLO[:2], "--bind", bind, "hello"]) == 0
            assert inherited.getsockname()

    def test_the_servers_result_is_the_exit_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        served: list[Config] = []
        entry = types.ModuleType("h2asgi.entry")
        entry.run_config = lambda config, reread: served.append(config) or 7  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "h2asgi.entry", entry)
        assert cli.main(["hello:app", "--port", "1"]) == 7
        assert [(config.app, config.bind.port) for config in served] == [("hello:app", 1)]

    @pytest.mark.parametrize(
        ("error", "exit_code", "printed"),
        [
            (ConfigurationError("it is so"), 2, "h2asgi: it is so\n"),
            (ApplicationError("it is so"), 3, "h2asgi: it is so\n"),
            (KeyboardInterrupt(), 130, ""),
        ],
    )
    def test_what_the_server_raises_becomes_an_exit_code(
        self,
        error: BaseException,
        exit_code: int,
        printed: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(config: Config, reread: object) -> int:
            raise error

        entry = types.ModuleType("h2asgi.entry")
        entry.run_config = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "h2asgi.entry", entry)
        assert cli.main(["hello:app"]) == exit_code
        assert capsys.readouterr().err == printed


EXTRAS = ("trustme", "uvloop", "watchfiles", "ngh2", "httptools")


@pytest.mark.parametrize("module", ["h2asgi", "h2asgi.cli", "h2asgi.tls", "h2asgi.devcerts"])
def test_an_import_pulls_in_no_extra(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert module in loaded
    assert not set(EXTRAS) & set(loaded)


def test_the_import_of_the_package_is_quick() -> None:
    """None of the libraries is loaded before it is needed."""
    script = "import sys, h2asgi; print(*sorted(sys.modules))"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert not {"click", "cryptography", "h2", "h11", "ssl", "asyncio"} & loaded


def test_help_does_not_load_the_server(h2asgi: Run) -> None:
    script = (
        "import sys; from h2asgi.cli import main; main(['--help']);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not {"h2asgi.server", "cryptography", "h2", "h11"} & set(done.stderr.split())
