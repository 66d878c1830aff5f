"""SIGHUP, SIGUSR1 and SIGQUIT; the file of the process, and as whom it runs."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from command import Command
from workers import APPLICATION, HANG, Start, ask, gone, needs_fork, serving, starting, wait_until

pytestmark = needs_fork
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become others"
)

WHO = """
import json, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = json.dumps([os.getuid(), os.getgid(), os.getgroups(), os.umask(0o77)]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


def up(start: Start, workers: str, *arguments: str, app: str = "application:app"):
    command = start("--workers", workers, *arguments, app=app)
    return command, serving(command, 0 if workers == "1" else int(workers))[0]


@WORKERS
def test_usr1_opens_the_access_log_anew(start: Start, tmp_path: Path, workers: str) -> None:
    log, renamed = tmp_path / "access.log", tmp_path / "access.log.1"
    command, url = up(start, workers, "--access-log", "--access-log-file", str(log))
    ask(url + "/before")
    wait_until(lambda: "/before" in log.read_text())
    log.rename(renamed)
    command.send(signal.SIGUSR1)
    wait_until(log.exists)
    wait_until(lambda: ask(url + "/after") and "/after" in log.read_text())
    assert "/before" not in log.read_text()
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


def test_usr1_when_the_log_cannot_be_opened_is_one_error(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "access.log"
    command, url = up(start, "1", "--access-log", "--access-log-file", str(log))
    ask(url)
    folder.rename(tmp_path / "moved")
    command.send(signal.SIGUSR1)
    line = command.wait_for_error_line(" error ").string
    assert "cannot write the access log" in line
    ask(url + "/on")
    wait_until(lambda: "/on" in (tmp_path / "moved" / "access.log").read_text())


@WORKERS
def test_quit_ends_it_at_once(start: Start, workers: str) -> None:
    command, url = up(start, workers)
    worker = ask(url)
    with httpx.Client(trust_env=False) as client:
        client.get(url)
        command.send(signal.SIGQUIT)
        assert command.end()[0] == 128 + signal.SIGQUIT
    assert gone(worker)


def test_hup_without_a_certificate_changes_nothing_in_one_process(start: Start) -> None:
    command, url = up(start, "1")
    pid = ask(url)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("SIGHUP has nothing to read anew")
    assert ask(url) == pid


def test_hup_brings_options_into_use(start: Start, tmp_path: Path) -> None:
    options = tmp_path / "h2asgi.toml"
    options.write_text("workers = 2\nserver_header = true\n")
    command = start("--config", str(options))
    url, _ = serving(command, 2)
    assert httpx.get(url, trust_env=False).headers["server"] == "h2asgi"
    options.write_text("workers = 3\nserver_header = false\n")
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the number of workers, .* change with SIGUSR2 or a restart only")
    command.wait_for_error_line("the workers have been replaced")
    # Who was told to stop may still have taken a connection.
    wait_until(lambda: "server" not in httpx.get(url, trust_env=False).headers)
    options.write_text("server_header = 7")
    command.send(signal.SIGHUP)
    line = command.wait_for_error_line(" error ").string
    assert "server_header" in line
    assert line.endswith(": the workers go on as they are\n")
    options.write_text("server_header = true\n")
    (tmp_path / "application.py").write_text("raise RuntimeError('broken')")
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the old ones go on")
    assert "server" not in httpx.get(url, trust_env=False).headers


def test_hup_with_mistakes_about_logs(start: Start, tmp_path: Path) -> None:
    """What can be seen beforehand is refused; otherwise the log goes where it can be read."""
    options, log_config = tmp_path / "h2asgi.toml", tmp_path / "log.toml"
    options.write_text("workers = 2\n")
    command = start("--config", str(options))
    serving(command, 2)
    options.write_text('workers = 2\naccess_log_format = "{nothing}"\n')
    command.send(signal.SIGHUP)
    line = command.wait_for_error_line(" error ").string
    assert "--access-log-format has no field {nothing}" in line
    assert line.endswith(": the workers go on as they are\n")
    log_config.write_text('[handlers.a]\nclass = "no.Such"\n')
    options.write_text(f"workers = 2\nlog_config = '{log_config}'\n")
    command.send(signal.SIGHUP)
    line = command.wait_for_error_line(" error ").string
    assert "Unable to configure handler 'a'" in line
    assert line.endswith(": the server's log goes to stderr\n")
    command.wait_for_error_line("the workers have been replaced")


def test_a_hup_during_a_reload_is_not_lost(start: Start, tmp_path: Path) -> None:
    command = start("--workers", "2")
    url, _ = serving(command, 2)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("replacing the workers")
    (tmp_path / "application.py").write_text(APPLICATION.replace('b"%d" %', 'b"-%d" %'))
    command.send(signal.SIGHUP)
    for _ in range(2):
        command.wait_for_error_line("the workers have been replaced")
    wait_until(lambda: ask(url) < 0)


@WORKERS
def test_the_file_of_the_process(start: Start, tmp_path: Path, workers: str) -> None:
    path = tmp_path / "h2asgi.pid"
    command, _ = up(start, workers, "--pid", str(path))
    assert path.read_text() == f"{command.process.pid}\n"
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
    assert not path.exists()


@WORKERS
def test_a_pid_file_of_somebody_else_stays(start: Start, tmp_path: Path, workers: str) -> None:
    path = tmp_path / "h2asgi.pid"
    command, _ = up(start, workers, "--pid", str(path))
    path.write_text("1\n")
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
    assert path.read_text() == "1\n"


@as_root
@WORKERS
@pytest.mark.parametrize("user", ["nobody", "65534"])
def test_it_becomes_another_user(start: Start, tmp_path: Path, workers: str, user: str) -> None:
    import pwd

    found = pwd.getpwnam("nobody")
    (tmp_path / "who.py").write_text(WHO)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    command, url = up(start, workers, "--user", user, "--umask", "027", app="who:app")
    uid, gid, groups, umask = httpx.get(url, trust_env=False, timeout=HANG).json()
    assert (uid, gid) == (found.pw_uid, found.pw_gid)
    assert 0 not in groups
    assert umask == 0o27
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


@as_root
def test_a_certificate_that_workers_may_not_read_is_renewed(
    start: Start, tmp_path: Path, authority
) -> None:
    """The supervisor may, and hands it to them."""
    import ssl

    (tmp_path / "who.py").write_text(WHO)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    pair = secret / "pair.pem"

    def write() -> bytes:
        leaf = authority.issue_cert("localhost")
        new = secret / "new.pem"
        new.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        new.chmod(0o600)
        new.replace(pair)
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    def seen() -> bytes:
        text = ssl.get_server_certificate(("localhost", port), timeout=HANG)
        return ssl.PEM_cert_to_DER_cert(text)

    first = write()
    tls = ("--certfile", str(pair))
    command, url = up(start, "2", *tls, "--user", "nobody", app="who:app")
    port = int(url.rpartition(":")[2])
    assert seen() == first
    second = write()
    command.wait_for_error_line("there is a new certificate")
    wait_until(lambda: [seen() for _ in range(8)] == [second] * 8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--user", "nosuchuser"), "--user nosuchuser: there is no such user"),
        (("--group", "nosuchgroup"), "--group nosuchgroup: there is no such group"),
        (("--user", "123456789"), "--user 123456789 has no group: give one with --group"),
        (("--umask", "999"), "--umask 999 must be permissions in octal, such as 027"),
        (("--unix-mode", "rw"), "--unix-mode rw must be permissions in octal, such as 027"),
        (("--unix-owner", "nosuchuser"), "--unix-owner nosuchuser: there is no such user"),
        (("--pid", "none/pid"), "cannot write --pid {}/none/pid: No such file or directory"),
    ],
)
@WORKERS
def test_what_cannot_be_is_one_sentence(
    start: Start, tmp_path: Path, workers: str, arguments: tuple[str, ...], sentence: str
) -> None:
    code, _, errors = start("--workers", workers, *arguments).end()
    assert code == 2
    assert errors.splitlines()[-1] == "h2asgi: " + sentence.format(tmp_path)
    assert "Traceback" not in errors


def test_a_unix_socket_has_its_mode_and_owner(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    me = f"{os.getuid()}:{os.getgid()}"
    where = ("--bind", f"unix:{path}", "--unix-mode", "640", "--unix-owner", me)
    command = start(*where)
    command.wait_for_error_line("unix:")
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


@WORKERS
def test_tls_over_a_unix_socket(
    start: Start, tmp_path: Path, dev_certificate: Path, authority, workers: str
) -> None:
    import socket
    import ssl

    path = tmp_path / "socket"
    where = ("--bind", f"unix:{path}", "--certfile", str(dev_certificate))
    command = start("--workers", workers, *where)
    command.wait_for_error_line("unix:" if workers == "1" else "serves$")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            with tls.makefile("rb") as file:
                assert file.readline() == b"HTTP/1.1 200 OK\r\n"
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
    assert not path.exists()


SESSION = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@WORKERS
@pytest.mark.parametrize("ignored", [False, True])
def test_it_ends_with_its_terminal_unless_that_is_not_wanted(
    tmp_path: Path, workers: str, ignored: bool
) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    ours, theirs = os.openpty()
    server = ("-m", "h2asgi", "application:app", "--port", "0", "--workers", workers)
    disposition = "SIG_IGN" if ignored else "SIG_DFL"  # whatever nohup has left to the tests
    script = f"import signal; signal.signal(signal.SIGHUP, signal.{disposition})\n{SESSION}"
    command = Command(tmp_path, "-c", script, str(theirs), *server, pass_fds=[theirs])
    try:
        url, _ = serving(command, 0 if workers == "1" else 2)
        ask(url)
        os.close(theirs)
        os.close(ours)
        if ignored:
            command.wait_for_error_line("replacing the workers|nothing to read anew")
            assert ask(url)
        else:
            code, _, errors = command.end()
            assert code == 0
            assert "the terminal is gone" in errors
    finally:
        command.stop()


def test_a_signal_that_comes_too_early_has_its_effect_later(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, time\nopen('importing', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\nfrom application import app\n"
    )
    command = start(app="slow:app")
    wait_until((tmp_path / "importing").exists)
    command.send(signal.SIGHUP)
    (tmp_path / "go").touch()
    command.wait_for_error_line("SIGHUP has nothing to read anew")
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
