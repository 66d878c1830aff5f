"""Every example of ``docs/how-to/embedding.md``, and what a Config must not say."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from pages import blocks, section

import h2asgi
from h2asgi.config import (
    BindConfig,
    Config,
    HTTP2Config,
    ProcessConfig,
    ReloadConfig,
    Timeouts,
    TLSConfig,
)
from h2asgi.errors import ApplicationError, ConfigurationError
from h2asgi.options import OPTIONS, check_config
from h2asgi.testing import Certificate, make_certificate, serve

PAGE = "how-to/embedding.md"

HANG = 30


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})


@pytest.fixture(autouse=True)
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """The folder of a project: certificates, and ``example.asgi:application``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "__init__.py").touch()
    (tmp_path / "example" / "asgi.py").write_text(
        "async def application(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        raise NotImplementedError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': scope['http_version'].encode()})\n"
    )
    return make_certificate(tmp_path)


def _on_free_ports(code: str) -> tuple[str, list[int]]:
    """Have an example listen on ports that are free, in the order of those that it names."""
    ports: list[int] = []

    def free(match: re.Match[str]) -> str:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            ports.append(sock.getsockname()[1])
        return f"{match[1]}{ports[-1]}"

    return re.sub(r"(port=|127\.0\.0\.1:)(?:8443|9000)", free, code), ports


async def _ask(port: int, certificate: Certificate | None) -> str:
    """Ask until it answers, over HTTP/2."""
    context = certificate and ssl.create_default_context(cafile=certificate.ca_file)
    client = httpx.AsyncClient(verify=context or False, http1=False, http2=True, trust_env=False)
    scheme = "https" if certificate else "http"
    async with client, asyncio.timeout(HANG):
        while True:
            try:
                return (await client.get(f"{scheme}://localhost:{port}/")).text
            except httpx.ConnectError:
                await asyncio.sleep(0.01)


def _example(heading: str, number: int = 0) -> str:
    return blocks(section(PAGE, heading))[number]


def _program(code: str, *, ports: list[int], certificate: Certificate) -> tuple[int, str]:
    """Run an example as a program, ask it, and end it by SIGTERM."""
    prefix = "from example.asgi import application as app\n"
    process = subprocess.Popen(
        [sys.executable, "-c", prefix + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert asyncio.run(_ask(ports[0], certificate)) == "2"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=HANG)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


def _run(code: str, **names: Any) -> None:
    """Run an example that awaits, in a loop of its own, with what it takes for granted."""
    body = textwrap.indent(code, "    ")
    scope: dict[str, Any] = {"asyncio": asyncio, "h2asgi": h2asgi, "app": app, **names}
    exec(f"async def example():\n{body}", scope)
    asyncio.run(scope["example"]())


def test_in_an_asyncio_program(
    certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    code, ports = _on_free_ports(_example("In an asyncio program"))
    asked = []

    async def something_else() -> None:
        asked.append(await _ask(ports[0], certificate))

    exec(code, {"app": app, "something_else": something_else})
    assert asked == ["2"]
    assert f"('127.0.0.1', {ports[0]})" in capsys.readouterr().out


def test_serve_until_an_event(certificate: Certificate) -> None:
    code = _example("Until something happens")
    config = h2asgi.make_config(app, port=0)
    _run(
        code.replace("await", "asyncio.get_running_loop().call_soon(stop.set)\nawait"),
        config=config,
    )


@pytest.mark.parametrize(
    ("heading", "number"),
    [("Until something happens", 1), ("As the whole program", 0), ("Settings as objects", 0)],
)
def test_programs_that_end_by_a_signal(heading: str, number: int, certificate: Certificate) -> None:
    code, ports = _on_free_ports(_example(heading, number))
    returned, output = _program(code, ports=ports, certificate=certificate)
    assert (returned, "Traceback" in output) == (0, False), output


@pytest.mark.parametrize("fails", [False, True])
def test_beside_other_tasks(fails: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    config = h2asgi.make_config(app, port=port)

    async def something_else() -> None:
        assert await _ask(port, None) == "2"
        if fails:
            raise LookupError("the sibling fails")

    def run() -> None:
        _run(_example("Beside other tasks"), config=config, something_else=something_else)

    if not fails:
        run()
        return
    with pytest.raises(ExceptionGroup) as caught:
        run()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


def test_two_servers_in_one_loop(certificate: Certificate) -> None:
    code, ports = _on_free_ports(_example("Beside other tasks", 1))
    answers = []

    async def something_else() -> None:
        answers.append(await _ask(ports[0], certificate))
        answers.append(await _ask(ports[1], None))

    _run(code, something_else=something_else)
    assert answers == ["2", "2"]


def test_without_an_event_loop(capsys: pytest.CaptureFixture[str]) -> None:
    exec(_example("Without an event loop"), {"app": app})
    assert re.fullmatch(r"https://localhost:\d+\n", capsys.readouterr().out)


def test_in_tests() -> None:
    scope: dict[str, Any] = {"app": app}
    exec(_example("In tests"), scope)
    asyncio.run(scope["test_hello"]())


def test_every_example_is_run_here() -> None:
    """Those above, by their number."""
    assert len(blocks(section(PAGE))) == 9


CONTRADICTIONS = [
    (Config(tls=TLSConfig(keyfile="key.pem")), "tls.keyfile is given without a certfile"),
    (Config(bind=BindConfig(port=70_000)), "bind.port must be at most 65535, not 70000"),
    (
        Config(bind=BindConfig(port=1, bind=("127.0.0.1:2",))),
        "bind.bind and bind.port exclude each other: both say where to listen",
    ),
    (Config(loop="trio"), "loop must be one of auto, asyncio, uvloop, not 'trio'"),  # type: ignore[arg-type]
    (
        Config(timeouts=Timeouts(graceful="10")),  # type: ignore[arg-type]
        "timeouts.graceful must be a number of seconds, not '10'",
    ),
    (Config(http2=HTTP2Config(max_concurrent_streams=0)), "http2.max_concurrent_streams must be"),
]


@pytest.mark.parametrize(("config", "sentence"), CONTRADICTIONS)
def test_a_config_that_contradicts_itself_is_refused_wherever_it_comes_from(
    config: Config, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(h2asgi.serve(app, config))
    assert str(caught.value).startswith(sentence)
    code = (
        "import h2asgi, dataclasses\n"
        "from h2asgi.config import *\n"
        f"h2asgi.run(dataclasses.replace({config!r}, app='example.asgi:application'))"
    )
    if config is CONTRADICTIONS[0][0]:  # a process of its own takes a while
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr


def test_the_default_config_is_good() -> None:
    check_config(Config())
    check_config(Config(workers=0))
    assert all(option.path for option in OPTIONS)


def test_run_takes_a_config_alone(caplog: pytest.LogCaptureFixture) -> None:
    for config, options in ((Config(app=app), {"port": 0}), (Config(), {})):
        with pytest.raises(SystemExit) as caught:
            h2asgi.run(config, **options)
        assert caught.value.code == 2
    assert [record.getMessage() for record in caplog.records] == [
        "port beside a Config: set what it holds",
        "there is no application to serve: set app of the Config",
    ]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"workers": 4, "processes": ProcessConfig(pid_file="server.pid")}, "workers, pid"),
        ({"reload": ReloadConfig(enabled=True)}, "reload"),
    ],
)
def test_what_is_for_processes_is_warned_of(
    settings: dict[str, Any], names: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(bind=BindConfig(port=0), **settings)

    async def main() -> None:
        async with h2asgi.Server(app, config):
            pass

    with caplog.at_level(logging.INFO, "h2asgi"):
        asyncio.run(main())
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith(f"without effect in a program of yours: {names};")
    assert "4 workers" not in caplog.text
    assert not os.path.exists("server.pid")


def test_a_stop_that_is_cancelled_is_no_mistake_of_applications(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began = asyncio.Event()
    ended: list[type[BaseException]] = []

    async def waiting(scope: dict[str, Any], receive: Any, send: Any) -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        config = Config(bind=BindConfig(port=0), lifespan="off")
        server = await h2asgi.Server(waiting, config).__aenter__()
        host, port = server.addresses[0]
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await began.wait()
        stop = asyncio.ensure_future(server.__aexit__(None, None, None))
        await asyncio.sleep(0)  # it waits for the request now
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        while not ended:
            await asyncio.sleep(0)
        writer.close()

    asyncio.run(asyncio.wait_for(main(), HANG))
    assert ended == [asyncio.CancelledError]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("again", ["within", "behind"])
def test_a_server_is_entered_once(again: str) -> None:
    async def main() -> None:
        server = h2asgi.Server(app, Config(bind=BindConfig(port=0)))
        async with server:
            if again == "within":
                with pytest.raises(RuntimeError, match="once"):
                    await server.__aenter__()
        with pytest.raises(RuntimeError, match="once"):
            await server.__aenter__()

    asyncio.run(main())


@pytest.mark.parametrize("nothing", [None, 5, b"hello:app"])
def test_what_is_no_application_is_said_in_a_sentence(nothing: Any) -> None:
    """As from a function that makes one and forgets to return it."""

    async def main() -> None:
        async with h2asgi.Server(nothing, Config(bind=BindConfig(port=0))):
            pass

    with pytest.raises((ApplicationError, ConfigurationError), match=r"application|app must be"):
        asyncio.run(main())
    with pytest.raises(SystemExit):
        h2asgi.run(nothing, port=0)


def test_a_server_on_a_thread_says_why_it_does_not_start() -> None:
    async def failing(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ApplicationError), serve(failing):
        pass
    with pytest.raises(ConfigurationError, match="unknown option prot"), serve(app, prot=1):
        pass


def test_a_server_on_a_thread_that_does_not_stop_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2asgi.testing.STOP_TIMEOUT", 0.05)
    gate = threading.Event()
    blocked = threading.Event()

    async def blocking(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            blocked.set()
            gate.wait(HANG)

    def leave() -> None:
        with (
            serve(blocking, tls=False) as server,
            socket.create_connection(("127.0.0.1", server.port)) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert blocked.wait(HANG)

    with pytest.raises(RuntimeError, match="the application blocks its event loop"):
        leave()
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "h2asgi":
            thread.join(HANG)
