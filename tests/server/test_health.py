"""Health checks and the delay before a stop: what load balancers see of a server's life."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from command import Command
from fetching import HANG, fetch

import h2asgi
from h2asgi import monitoring
from h2asgi.errors import ApplicationError, ConfigurationError
from h2asgi.options import make_config
from h2asgi.scoreboard import Scoreboard
from h2asgi.worker import Ties

CHECK = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


async def ask(address: Any, request: bytes = CHECK) -> tuple[int, bytes]:
    """Give status and content of the answer to a request on a new connection."""
    status, _, content = await fetch(address, request)
    return status, content


class App:
    """Its lifespan waits until the test says so, both ways."""

    def __init__(self) -> None:
        self.may_start, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        self.starting = asyncio.Event()
        self.ending = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.asked.append(scope["path"])
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            return
        await receive()
        self.starting.set()
        await self.may_start.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.ending.set()
        await self.may_end.wait()
        await send({"type": "lifespan.shutdown.complete"})


def config(app: Any, **options: Any) -> h2asgi.Config:
    return make_config(app, port=0, host="127.0.0.1", health_path="/healthz", **options)


@asynccontextmanager
async def started(app: App, **options: Any) -> AsyncIterator[h2asgi.Server]:
    app.may_start.set()
    async with h2asgi.Server(app, config(app, **options)) as server:
        yield server


def test_the_path_is_answered_on_the_server_s_own_port(run):
    async def main() -> None:
        app = App()
        async with started(app) as server:
            assert await ask(server.addresses[0]) == (200, b"ok\n")
            assert app.asked == []
            other = CHECK.replace(b"/healthz", b"/")
            assert (await ask(server.addresses[0], other))[0] == 204

    run(main())


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "unix:{}/health.sock"])
def test_a_further_address_answers_from_before_the_start_to_after_the_end(run, tmp_path, bind):
    async def main() -> None:
        app = App()
        app.may_end.clear()
        options = config(app, health_bind=bind.format(tmp_path))
        server = h2asgi.Server(app, options)
        entering = asyncio.ensure_future(server.__aenter__())
        await app.starting.wait()
        (address,) = server.health_addresses
        assert await ask(address) == (503, b"starting\n")
        app.may_start.set()
        await entering
        assert await ask(address) == (200, b"ok\n")
        assert await ask(address, CHECK.replace(b"/healthz", b"/")) == (404, b"")
        leaving = asyncio.ensure_future(server.__aexit__(None, None, None))
        await app.ending.wait()
        assert await ask(address) == (503, b"draining\n")
        app.may_end.set()
        await leaving
        with pytest.raises(OSError, match=r"(?i)connect|no such"):
            await ask(address)
        assert app.asked == []

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_the_further_address_is_in_the_clear_and_needs_no_certificate(
    run, dev_certificate, authority, tmp_path
):
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    tls = {"certfile": str(dev_certificate), "cert_reqs": "required", "ca_certs": str(ca_file)}

    async def main() -> None:
        async with started(App(), health_bind="127.0.0.1:0", **tls) as server:
            assert await ask(server.health_addresses[0]) == (200, b"ok\n")

    run(main())


def test_the_further_address_needs_no_proxy_header(run):
    """Whoever asks there asks for itself."""
    proxies = {"proxy_protocol": True, "forwarded_allow_ips": "10.0.0.0/8"}

    async def main() -> None:
        async with started(App(), health_bind="127.0.0.1:0", **proxies) as server:
            assert await ask(server.health_addresses[0]) == (200, b"ok\n")

    run(main())


def test_idle_connections_there_do_not_hold_up_a_stop(run):
    async def main() -> None:
        async with started(App(), health_bind="127.0.0.1:0") as server:
            reader, writer = await asyncio.open_connection(*server.health_addresses[0])
            writer.write(CHECK.replace(b"connection: close\r\n", b""))
            assert await reader.readuntil(b"ok\n")
        assert await reader.read() == b""
        writer.close()

    run(main())


def test_connections_there_have_a_bound_of_their_own(run, monkeypatch, caplog):
    monkeypatch.setattr(monitoring, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        async with started(App(), health_bind="127.0.0.1:0") as server:
            address = server.health_addresses[0]
            silent = [await asyncio.open_connection(*address) for _ in range(2)]
            asked = asyncio.ensure_future(ask(address))
            async with asyncio.timeout(HANG):
                while "(the limit of --health-bind)" not in caplog.text:
                    await asyncio.sleep(0.001)
            assert await ask(server.addresses[0]) == (200, b"ok\n")
            for _, writer in silent:
                writer.close()
            assert await asked == (200, b"ok\n")

    run(main())


def test_a_start_that_fails_or_is_cancelled_leaves_nothing(run):
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def main() -> None:
        server = h2asgi.Server(failing, config(failing, health_bind="127.0.0.1:0"))
        with pytest.raises(ApplicationError):
            await server.__aenter__()
        with pytest.raises(ConnectionRefusedError):
            await ask(server.health_addresses[0])
        app = App()
        server = h2asgi.Server(app, config(app, health_bind="127.0.0.1:0"))
        entering = asyncio.ensure_future(server.__aenter__())
        await app.starting.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        with pytest.raises(ConnectionRefusedError):
            await ask(server.health_addresses[0])

    run(main())


def test_before_a_stop_the_server_goes_on_for_the_delay(run, monkeypatch):
    """Only health checks tell; even new connections are served as before."""

    async def main() -> None:
        app = App()
        entered, over = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            if seconds != 12.5:
                await real_sleep(seconds)
                return
            entered.set()
            await over.wait()

        real_sleep = asyncio.sleep
        monkeypatch.setattr("h2asgi.server.asyncio.sleep", sleep)
        server = h2asgi.Server(app, config(app, health_bind="127.0.0.1:0", drain_delay=12.5))
        app.may_start.set()
        await server.__aenter__()
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        writer.write(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        leaving = asyncio.ensure_future(server.__aexit__(None, None, None))
        await entered.wait()
        for address in (server.addresses[0], server.health_addresses[0]):
            assert await ask(address) == (503, b"draining\n")
        writer.write(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"connection: close" not in head + await reader.readuntil(b"\r\n\r\n")
        request = b"GET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        assert (await ask(server.addresses[0], request))[0] == 204
        over.set()
        await leaving
        assert await reader.read() == b""
        writer.close()
        assert app.asked == ["/a", "/b", "/c"]

    run(main())


def test_mistakes_are_one_sentence(run):
    cases = [
        ({"health_path": "healthz"}, "health_path must be a path such as /healthz"),
        ({"health_path": "/a b"}, "health_path must be a path"),
        ({"health_path": "/a?b"}, "health_path must be a path"),
        ({"health_bind": "127.0.0.1:0"}, "health_bind is given without health_path"),
        ({"proxy_protocol": True}, "proxy_protocol is given without forwarded_allow_ips"),
        ({"forwarded": "forwarded"}, "forwarded is given without forwarded_allow_ips"),
        ({"drain_delay": -1}, "drain_delay must be at least 0"),
    ]
    for options, sentence in cases:
        with pytest.raises(ConfigurationError, match=sentence):
            make_config(App, **options)

    async def main(**options: Any) -> None:
        async with h2asgi.Server(App(), make_config(App, port=0, **options)):
            pass

    with pytest.raises(ConfigurationError, match=r"^--health-bind '9000' has no port"):
        run(main(health_path="/", health_bind="9000"))
    with pytest.raises(ConfigurationError, match=r"^--forwarded-allow-ips 'lb' is no address"):
        run(main(forwarded_allow_ips="lb"))


# Processes.

APPLICATION = """
import asyncio, os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.path.exists("wait"):
            print("waiting", flush=True)
            while os.path.exists("wait"):
                await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"application"})
"""


@pytest.fixture
def start(tmp_path: Path):
    (tmp_path / "application.py").write_text(APPLICATION)
    commands: list[Command] = []

    def start(*arguments: str) -> Command:
        named = ("-m", "h2asgi", "application:app", "--no-access-log", "--port", "0")
        health = ("--health-path", "/healthz", "--health-bind", f"unix:{tmp_path}/health.sock")
        commands.append(Command(tmp_path, *named, *health, *arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.stop()


def answered(path: Path, status: int, text: bytes) -> None:
    """Ask until the answer is this one."""

    async def main() -> None:
        async with asyncio.timeout(HANG):
            while True:
                try:
                    if await ask(str(path)) == (status, text):
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.01)

    asyncio.run(main())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_life_of_a_process(start, tmp_path, workers):
    health, wait = tmp_path / "health.sock", tmp_path / "wait"
    wait.touch()
    command = start("--workers", workers, "--drain-delay", "2")
    answered(health, 503, b"starting\n")
    wait.unlink()
    answered(health, 200, b"ok\n")
    port = command.port()
    command.send(signal.SIGTERM)
    answered(health, 503, b"draining\n")
    request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    answer = asyncio.run(ask(("127.0.0.1", port), request))
    assert answer[0] == 200
    assert answer[1].count(b"application") == 1
    code, _, errors = command.end()
    assert code == 0
    assert "serving on for 2 s, while health checks are told to go elsewhere" in errors
    assert not health.exists()


def test_a_second_signal_ends_the_delay(start, tmp_path):
    for workers in ("1", "2"):
        command = start("--workers", workers, "--drain-delay", "600")
        answered(tmp_path / "health.sock", 200, b"ok\n")
        command.send(signal.SIGTERM)
        answered(tmp_path / "health.sock", 503, b"draining\n")
        command.send(signal.SIGTERM)
        assert command.end()[0] == 128 + signal.SIGTERM
        (tmp_path / "health.sock").unlink(missing_ok=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_has_not_served_yet_stops_without_delay(start, tmp_path, workers):
    (tmp_path / "wait").touch()
    command = start("--workers", workers, "--drain-delay", "600")
    command.wait_for_output("waiting")
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


def test_replacing_workers_is_no_end_of_the_service(start, tmp_path):
    """Neither the new one that starts nor the old one that stops says so to load balancers."""
    health, wait = tmp_path / "health.sock", tmp_path / "wait"
    command = start("--workers", "2")
    answered(health, 200, b"ok\n")
    for _ in range(2):
        command.wait_for_error_line(r"worker \d+ \(process \d+\) serves")
    wait.touch()
    command.send(signal.SIGHUP)
    command.wait_for_output("waiting")
    for _ in range(20):
        assert asyncio.run(ask(str(health))) == (200, b"ok\n")
    wait.unlink()
    command.wait_for_error_line("the workers have been replaced")
    for _ in range(20):
        assert asyncio.run(ask(str(health))) == (200, b"ok\n")
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


def test_what_workers_say_of_themselves():
    board = Scoreboard(2)
    ties = Ties(board, 0, line=None)  # type: ignore[arg-type]
    assert [ties.state(own) for own in ("starting", "draining")] == ["starting", "draining"]
    board.set_connections(1, 0)
    assert [ties.state(own) for own in ("starting", "draining")] == ["serving", "serving"]
    assert not ties.ends()
    board.drain()
    assert ties.state("serving") == "draining"
    assert ties.ends()
