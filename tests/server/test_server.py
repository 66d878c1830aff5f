"""The server embedded in a program: order of start and stop, what it touches and what not."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import pytest

import h2asgi
from h2asgi import server as server_module
from h2asgi.banner import COMPILED
from h2asgi.config import (
    BindConfig,
    Config,
    HTTP1Config,
    HTTP2Config,
    LogConfig,
    Timeouts,
    TLSConfig,
)
from h2asgi.default_fields import DefaultFields
from h2asgi.errors import ApplicationError, ConfigurationError
from h2asgi.protocol.engines import http1_engine
from h2asgi.server import Server, serve


def config(**timeouts: float) -> Config:
    return Config(bind=BindConfig(port=0), timeouts=Timeouts(**timeouts))


class App:
    """Notes what its lifespan is told, and answers every request with 204."""

    def __init__(self, notes: list[str] | None = None) -> None:
        self.notes = [] if notes is None else notes

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            return
        await receive()
        self.notes.append("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.notes.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


async def connect(server: Server) -> socket.socket:
    """Connect, and wait until the server has made the connection."""
    before = len(server._state.connections)
    client = socket.create_connection(server.addresses[0])
    async with asyncio.timeout(10):
        while len(server._state.connections) == before:
            await asyncio.sleep(0.001)
    return client


async def get(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_it_serves_while_it_is_entered_at_the_addresses_it_tells():
    app = App()

    async def main() -> None:
        async with h2asgi.Server(app, config()) as server:
            assert app.notes == ["startup"]
            assert [host for host, _ in server.addresses] == ["127.0.0.1", "::1"]
            for address in server.addresses:
                assert (await get(address)).startswith(b"HTTP/1.1 204 ")
        assert app.notes == ["startup", "shutdown"]
        with pytest.raises(ConnectionRefusedError):
            await get(server.addresses[0])

    asyncio.run(main())


def test_a_unix_socket_is_an_address_and_is_gone_afterwards(tmp_path):
    path = str(tmp_path / "a.sock")

    async def main() -> None:
        async with Server(App(), Config(bind=BindConfig(bind=(f"unix:{path}",)))) as server:
            assert server.addresses == [path]
        assert not (tmp_path / "a.sock").exists()

    asyncio.run(main())


def test_it_leaves_signals_logging_and_the_loop_alone():
    logger = logging.getLogger("h2asgi")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate

    async def main() -> None:
        before = [signal.getsignal(number) for number in signal.valid_signals()]
        async with Server(App(), config()):
            assert [signal.getsignal(number) for number in signal.valid_signals()] == before
            assert asyncio.get_running_loop().get_exception_handler() is None
            assert (logger.handlers, logger.level, logger.propagate) == (
                handlers,
                level,
                propagate,
            )

    asyncio.run(main())


def test_serve_ends_when_shutdown_is_set():
    app = App()

    async def main() -> None:
        shutdown = asyncio.Event()
        serving = asyncio.ensure_future(serve(app, config(), shutdown=shutdown))
        async with asyncio.timeout(10):
            while not app.notes:
                await asyncio.sleep(0.001)
        assert not serving.done()
        shutdown.set()
        await serving

    asyncio.run(main())
    assert app.notes == ["startup", "shutdown"]


def test_an_application_that_is_up_is_shut_down_though_nobody_knows_yet():
    notes = []

    async def main() -> None:
        async def app(scope, receive, send) -> None:
            await receive()
            notes.append("startup")
            await send({"type": "lifespan.startup.complete"})
            serving.cancel()
            await receive()
            notes.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})

        serving = asyncio.ensure_future(serve(app, config()))
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())
    assert notes == ["startup", "shutdown"]


def test_serve_stops_gracefully_when_cancelled():
    app = App()

    async def main() -> None:
        serving = asyncio.ensure_future(serve(app, config()))
        async with asyncio.timeout(10):
            while not app.notes:
                await asyncio.sleep(0.001)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())
    assert app.notes == ["startup", "shutdown"]


def test_binding_fails_before_the_application_starts_up():
    app = App()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match="in use"):
                await Server(app, Config(bind=BindConfig(port=port))).__aenter__()

    asyncio.run(main())
    assert app.notes == []


def test_a_failed_startup_closes_the_sockets(tmp_path):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def main() -> None:
        with pytest.raises(ApplicationError):
            await serve(app, Config(bind=BindConfig(bind=(f"unix:{tmp_path}/a.sock",))))
        assert not (tmp_path / "a.sock").exists()

    asyncio.run(main())


def test_an_application_is_imported_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "named_application.py").write_text("async def app(s, r, x): raise ValueError\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        async with Server("named_application", config()):
            pass
        with pytest.raises(ApplicationError, match="no_such_module"):
            await serve("no_such_module:app", config())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bind", "warned"),
    [
        (("127.0.0.1:0",), None),
        (("127.0.0.2:0", "[::1]:0"), None),
        (("unix:{tmp}/a.sock",), None),
        (("0.0.0.0:0", "[::]:0"), "0.0.0.0 port"),
    ],
)
def test_serving_in_the_clear_where_others_can_read_it_is_warned_of_once(
    bind, warned, tmp_path, caplog
):
    bind = tuple(text.format(tmp=tmp_path) for text in bind)

    async def main() -> None:
        async with Server(App(), Config(bind=BindConfig(bind=bind))):
            pass

    with caplog.at_level(logging.WARNING, "h2asgi"):
        asyncio.run(main())
    assert [warned in text for text in caplog.messages] == ([True] if warned else [])


def test_the_access_log_of_an_embedded_server_goes_through_logging(caplog, capfd):
    async def main() -> None:
        async with Server(App(), config()) as server:
            await get(server.addresses[0])

    with caplog.at_level(logging.INFO, "h2asgi.access"):
        asyncio.run(main())
    (line,) = [r.getMessage() for r in caplog.records if r.name == "h2asgi.access"]
    assert '"GET / HTTP/1.1" 204 0 ' in line
    assert capfd.readouterr().out == ""


def test_a_trace_is_told_of_every_request():
    seen: list[Any] = []
    trace = SimpleNamespace(request_finished=seen.append)

    async def main() -> None:
        async with Server(App(), config(), trace=trace) as server:
            await get(server.addresses[0])

    asyncio.run(main())
    assert [(record.method, record.target, record.status) for record in seen] == [
        ("GET", b"/", 204)
    ]


def test_the_start_up_lines_say_what_and_where(caplog, dev_certificate, tls_engine):
    """Python's own TLS goes without saying."""
    tls = TLSConfig(certfile=str(dev_certificate), engine=tls_engine)
    named = {"ssl": "", "pyopenssl": ", pyopenssl"}[tls_engine]
    http2 = HTTP2Config(engine="h2")
    started = Config(bind=BindConfig(port=0), tls=tls, http2=http2)

    async def main() -> None:
        async with Server(App(), started) as server:
            port = server.addresses[0][1]
        first, second, *_ = (r.getMessage() for r in caplog.records if r.name == "h2asgi")
        assert first == (
            f"h2asgi {h2asgi.__version__} serves HTTP/2 and HTTP/1.1 over TLS"
            f" ({'compiled; ' * COMPILED}engines h2, {http1_engine(HTTP1Config()).name}"
            f"{named}; loop asyncio)"
        )
        assert second == f"https://localhost:{port}"

    with caplog.at_level(logging.INFO, "h2asgi"):
        asyncio.run(main())


def test_a_certificate_that_expired_is_warned_of(caplog, authority, tmp_path):
    path = tmp_path / "old.pem"
    leaf = authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))

    async def main() -> None:
        old = Config(bind=BindConfig(port=0), tls=TLSConfig(certfile=str(path)))
        async with Server(App(), old):
            pass

    with caplog.at_level(logging.WARNING, "h2asgi"):
        asyncio.run(main())
    assert [f"{path} expired at 2020-01-01" in text for text in caplog.messages] == [True]


# The way out, with connections that do only what they are told.


async def stopping(server: Server) -> None:
    await server.__aexit__(None, None, None)


def test_idle_connections_do_not_hold_up_the_end(connection_calls):
    """Their peers need not close: field note 4."""

    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=1000)).__aenter__()
        with await connect(server), await connect(server):
            await asyncio.wait_for(stopping(server), 10)

    asyncio.run(main())
    assert connection_calls == ["startup", *["leave"] * 2, *["abort"] * 2, "shutdown"]


def test_requests_in_flight_may_finish(connection_calls):
    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=1000)).__aenter__()
        release = asyncio.Event()
        with await connect(server):
            server._state.start(release.wait())
            stop = asyncio.ensure_future(stopping(server))
            while "leave" not in connection_calls:
                await asyncio.sleep(0)
            release.set()
            (connection,) = server._state.connections
            connection.finished = True
            await asyncio.wait_for(stop, 10)

    asyncio.run(main())
    assert connection_calls == ["startup", "leave", "task ended", "abort", "shutdown"]


def test_the_end_waits_for_tasks_whose_connection_is_gone(connection_calls):
    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=1000)).__aenter__()
        release = asyncio.Event()
        server._state.start(release.wait())
        stop = asyncio.ensure_future(stopping(server))
        done, _ = await asyncio.wait((stop,), timeout=0.05)
        assert not done
        release.set()
        await asyncio.wait_for(stop, 10)

    asyncio.run(main())
    assert connection_calls == ["startup", "task ended", "shutdown"]


def test_after_the_graceful_time_out_requests_are_reset(connection_calls, caplog):
    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=0.01)).__aenter__()
        with await connect(server):
            connection_calls.release = asyncio.Event()
            server._state.start(connection_calls.release.wait())
            await asyncio.wait_for(stopping(server), 10)

    asyncio.run(main())
    assert connection_calls == [
        *("startup", "leave", "abort_streams", "task ended", "abort", "shutdown")
    ]
    assert "1 requests and 1 connections did not finish within 0.01 s" in caplog.text


def test_what_goes_on_after_its_reset_is_cancelled(connection_calls, caplog, monkeypatch):
    monkeypatch.setattr(server_module, "RESET_TIMEOUT", 0.01)

    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=0)).__aenter__()
        with await connect(server):
            server._state.start(asyncio.Event().wait())
            await asyncio.wait_for(stopping(server), 10)

    asyncio.run(main())
    assert connection_calls == [
        *("startup", "leave", "abort_streams", "task cancelled", "abort", "shutdown")
    ]
    assert "cancelling 1 requests" in caplog.text


def test_what_ignores_its_cancellation_is_left(connection_calls, caplog, monkeypatch):
    monkeypatch.setattr(server_module, "RESET_TIMEOUT", 0.01)
    monkeypatch.setattr(server_module, "CANCEL_TIMEOUT", 0.01)

    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        server = await Server(App(connection_calls), config(graceful=0)).__aenter__()
        server._state.start(stubborn())
        await asyncio.wait_for(stopping(server), 10)
        assert connection_calls == ["startup", "shutdown"]
        release.set()

    asyncio.run(main())
    assert "leaving 1 requests" in caplog.text


def test_a_stop_that_is_itself_cancelled_leaves_nothing_open(connection_calls):
    async def main() -> None:
        server = await Server(App(connection_calls), config(graceful=1000)).__aenter__()
        with await connect(server):
            task = server._state.start(asyncio.Event().wait())
            stop = asyncio.ensure_future(stopping(server))
            while "leave" not in connection_calls:
                await asyncio.sleep(0)
            stop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stop
            await asyncio.sleep(0)
            assert task.cancelled()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not server._state.connections

    asyncio.run(main())
    assert "abort" in connection_calls
    assert "shutdown" not in connection_calls


# Fields that every response gets.


class ClockedLoop:
    """Keeps what is to be called, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Any]] = []

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        self.calls.append((delay, lambda: callback(*args)))
        return SimpleNamespace(cancel=self.calls.clear)


def test_the_date_changes_with_the_second(monkeypatch):
    """RFC 9110 section 6.6.1; the form is IMF-fixdate (section 5.6.7)."""
    now = [784111777.75]
    monkeypatch.setattr("h2asgi.default_fields.time.time", lambda: now[0])
    loop, fields = ClockedLoop(), DefaultFields(server=True, date=True)
    fields.start(loop)  # type: ignore[arg-type]
    first = fields.fields
    assert first == [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"server", b"h2asgi")]
    delay, refresh = loop.calls.pop()
    assert delay == pytest.approx(0.25)
    now[0] += delay
    refresh()
    assert fields.fields[0] == (b"date", b"Sun, 06 Nov 1994 08:49:38 GMT")
    assert parsedate_to_datetime(first[0][1].decode()).second == 37  # who holds it keeps it
    fields.stop()
    assert loop.calls == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"server": False, "date": True}, [b"date"]),
        ({"server": True, "date": False}, [b"server"]),
        ({"server": False, "date": False}, []),
    ],
)
def test_each_default_field_can_be_switched_off(options, names):
    loop, fields = ClockedLoop(), DefaultFields(**options)
    fields.start(loop)  # type: ignore[arg-type]
    assert [name for name, _ in fields.fields] == names
    assert bool(loop.calls) == options["date"]
    fields.stop()


def test_they_are_in_the_responses():
    async def main() -> None:
        async with Server(App(), config()) as server:
            answer = (await get(server.addresses[0])).lower()
            assert b"\r\nserver: h2asgi\r\n" in answer
            assert b"\r\ndate: " in answer
        bare = Config(bind=BindConfig(port=0), server_header=False, date_header=False)
        async with Server(App(), bare) as server:
            answer = (await get(server.addresses[0])).lower()
            assert b"server:" not in answer
            assert b"date:" not in answer

    asyncio.run(main())


def test_the_package_gives_its_public_names_and_no_others():
    assert h2asgi.serve is serve
    assert h2asgi.Server is Server
    assert h2asgi.make_config("a:b", port=1).bind.port == 1
    assert h2asgi.Config is Config
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = h2asgi.nothing


def test_no_access_log_means_no_trace():
    async def main() -> None:
        quiet = Config(bind=BindConfig(port=0), log=LogConfig(access_log=False))
        async with Server(App(), quiet) as server:
            assert server._state.trace is None

    asyncio.run(main())
