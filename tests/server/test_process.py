"""The command as a process of its own: signals, exit codes, threads, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import Command
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from h2asgi import process
from h2asgi.errors import ConfigurationError

APPLICATIONS = '''
import asyncio, gc, threading, time


def note(text):
    print(text, flush=True)


async def lifespan(receive, send):
    await receive()
    note("startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    note("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def respond(send, body=b""):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    """Echo the body, once it has all come."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    note("request")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await respond(send, body)


async def endless(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    note("request")
    await asyncio.Event().wait()


async def blocking(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    note("request")
    while True:
        time.sleep(0.01)


async def never_starting(scope, receive, send):
    note("startup")
    await asyncio.Event().wait()


async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def telling_of_the_collector(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await respond(send, b"%d %d" % (gc.get_threshold()[0], gc.get_freeze_count() > 1000))


async def disabling_the_collector(scope, receive, send):
    gc.set_threshold(0)
    await telling_of_the_collector(scope, receive, send)


async def without_lifespan(scope, receive, send):
    raise ValueError(scope["type"])


async def threading_(scope, receive, send):
    threading.Thread(target=time.sleep, args=(1000,), name="stuck").start()
    await lifespan(receive, send)


async def failing_with_a_thread(scope, receive, send):
    threading.Thread(target=time.sleep, args=(1000,), name="stuck").start()
    await failing(scope, receive, send)


async def stuck_in_executor(scope, receive, send):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)
    await lifespan(receive, send)


async def leaving_a_task(scope, receive, send):
    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            note("task ended")
    app.task = asyncio.ensure_future(forever())
    await lifespan(receive, send)
'''


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "applications.py").write_text(APPLICATIONS)
    commands: list[Command] = []

    def start(app: str, *arguments: str, **options: Any) -> Command:
        defaults = () if "--bind" in arguments or "--port" in arguments else ("--port", "0")
        named = ("-m", "h2asgi", f"applications:{app}")
        command = Command(tmp_path, *named, *defaults, *arguments, **options)
        commands.append(command)
        return command

    yield start
    for command in commands:
        command.stop()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_gracefully(start: Start, number, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    command = start("app", "--loop", loop)
    command.port()
    assert f"loop {loop})" in "".join(command.errors)
    command.send(number)
    code, output, errors = command.end()
    assert code == 0
    assert output == "startup\nshutdown\n"
    assert "Traceback" not in errors


@pytest.mark.parametrize("app", ["endless", "blocking"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_second_signal_ends_at_once(start: Start, app, loop):
    """Also while the application blocks the event loop. The exit code is a shell's for SIGTERM."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    command = start(app, "--loop", loop, "--graceful-timeout", "1000")
    with socket.create_connection(("127.0.0.1", command.port())) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        command.wait_for_output("request")
        command.send(signal.SIGINT)
        if app == "endless":
            command.wait_for_error_line("stopping")
        command.send(signal.SIGTERM)
        code, output, _ = command.end()
    # A process that is busy may see both at once, in either order.
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT if app == "blocking" else None)
    assert "shutdown" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_startup_that_takes_for_ever(start: Start, number):
    command = start("never_starting")
    command.wait_for_output("startup")
    command.send(number)
    code, _, errors = command.end()
    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("app", "option", "answer"),
    [
        ("telling_of_the_collector", "--gc-tuning", f"{process.COLLECTION_THRESHOLD} 1"),
        ("telling_of_the_collector", "--no-gc-tuning", f"{gc.get_threshold()[0]} 0"),
        ("disabling_the_collector", "--gc-tuning", "0 1"),
    ],
)
def test_garbage_collection_is_tuned_unless_it_is_to_be_left_alone(
    start: Start, app, option, answer
):
    port = start(app, option).port()
    assert httpx.get(f"http://localhost:{port}", trust_env=False).text == answer


def test_garbage_collection_is_as_before_in_the_end():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with process.rare_collections():
        assert gc.get_threshold()[0] == process.COLLECTION_THRESHOLD
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


PAGE_FAULTS = """
import resource
from h2asgi import process

process.keep_freed_memory()
faults = []
for _ in range(20):
    bodies = [b"x" * size for size in range(1_000_000, 1_000_008)]
    del bodies
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
@pytest.mark.parametrize(("name", "kept"), [("UNRELATED", True), ("MALLOC_TRIM_THRESHOLD_", False)])
def test_freed_memory_is_kept_for_the_next_body_unless_the_operator_has_decided(name, kept):
    result = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS],
        env={**os.environ, name: "1000"},
        check=True,
        capture_output=True,
        text=True,
    )
    once = 8 * 1_000_000 // resource.getpagesize()
    assert (int(result.stdout) < once) is kept


def test_a_failed_startup_exits_with_3(start: Start):
    code, _, errors = start("failing").end()
    assert code == 3
    assert "no database" in errors
    assert "Traceback" not in errors


def test_an_application_without_the_lifespan_that_is_asked_for_exits_with_3(start: Start):
    code, _, errors = start("without_lifespan", "--lifespan", "on").end()
    assert code == 3
    assert "--lifespan on" in errors


def test_a_port_in_use_exits_with_2_before_the_application_starts_up(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output, errors = start("app", "--bind", f"127.0.0.1:{port}").end()
    assert code == 2
    assert errors == (
        f"h2asgi: cannot listen on 127.0.0.1:{port}: the address is in use;"
        " stop the other program or choose another address\n"
    )
    assert output == ""


def test_an_access_log_that_cannot_be_opened_exits_with_2(start: Start, tmp_path):
    code, _, errors = start("app", "--access-log-file", "none/access.log").end()
    assert code == 2
    assert "'none/access.log': No such file or directory" in errors


@pytest.mark.parametrize("app", ["threading_", "stuck_in_executor"])
def test_threads_that_do_not_end_are_left(start: Start, app):
    command = start(app)
    command.port()
    command.send(signal.SIGTERM)
    code, output, errors = command.end()
    assert code == 0
    assert output.endswith("shutdown\n")
    assert "leaving threads that do not end" in errors


def test_a_failed_startup_with_a_thread_that_does_not_end_exits_with_3(start: Start):
    code, _, errors = start("failing_with_a_thread").end()
    assert code == 3
    assert "the application's startup failed" in errors
    assert "leaving threads that do not end: stuck" in errors


def test_tasks_that_the_application_left_are_cancelled(start: Start):
    command = start("leaving_a_task")
    command.port()
    command.send(signal.SIGTERM)
    code, output, _ = command.end()
    assert code == 0
    assert output == "startup\nshutdown\ntask ended\n"


def test_requests_go_to_stdout_and_the_rest_to_stderr(start: Start):
    command = start("app")
    url = f"http://localhost:{command.port()}"
    assert httpx.get(url + "/%1b?q").status_code == 200
    command.send(signal.SIGTERM)
    code, output, errors = command.end()
    assert code == 0
    assert re.search(r'^\S+ \S+:\d+ "GET /%1b\?q HTTP/1.1" 200 0 [\d.]+ms$', output, re.M)
    assert "HTTP/1.1 " not in errors.replace("HTTP/1.1 in the clear", "")


def test_a_listening_socket_is_inherited(start: Start):
    """As a supervisor or systemd hands it down."""
    with socket.create_server(("127.0.0.1", 0)) as parent:
        address = parent.getsockname()
        fd = parent.fileno()
        command = start("app", "--bind", f"fd://{fd}", pass_fds=(fd,))
        # The parent listens: connecting works before the server is up.
        assert httpx.post(f"http://127.0.0.1:{address[1]}/", content=b"hi").content == b"hi"
        command.send(signal.SIGTERM)
        assert command.end()[0] == 0


def test_a_unix_socket_is_served_and_removed(start: Start, tmp_path):
    command = start("app", "--bind", "unix:a.sock")
    command.wait_for_error_line("unix:a.sock")
    transport = httpx.HTTPTransport(uds=str(tmp_path / "a.sock"))
    with httpx.Client(transport=transport) as client:
        assert client.post("http://localhost/", content=b"hi").content == b"hi"
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0
    assert not (tmp_path / "a.sock").exists()


def test_out_of_descriptors_it_goes_on_once_there_are_some_again(start: Start):
    limit = 40

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    # Or the limit on connections, which is made for it, would see to it before.
    command = start("app", "--limit-connections", "1000", preexec_fn=few_descriptors)
    port = command.port()
    with contextlib.ExitStack() as clients:
        for _ in range(limit):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        command.wait_for_error_line("cannot accept connections .*: trying again every 1 s")
    assert httpx.post(f"http://127.0.0.1:{port}/", content=b"hi").content == b"hi"
    command.send(signal.SIGTERM)
    code, _, errors = command.end()
    assert code == 0
    assert errors.count("cannot accept") == 1


def test_a_hundred_idle_connections_do_not_hold_up_the_end(start: Start, dev_certificate, trusting):
    """None of their peers closes; the graceful time-out would take far longer than the test."""
    command = start("app", "--certfile", str(dev_certificate), "--graceful-timeout", "1000")
    port = command.port()
    with contextlib.ExitStack() as clients:
        for number in range(100):
            sock = socket.create_connection(("127.0.0.1", port))
            context = trusting if number % 2 else alpn(trusting, "h2")
            client = clients.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
            if number % 2:
                client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
            else:
                client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                assert client.recv(9)[3] == 4  # their SETTINGS
        command.send(signal.SIGTERM)
        code, _, errors = command.end()
    assert code == 0
    assert "did not finish" not in errors
    assert "Traceback" not in errors


def alpn(context: ssl.SSLContext, protocol: str) -> ssl.SSLContext:
    copy = ssl.create_default_context()
    copy.load_verify_locations(cadata=b"".join(context.get_ca_certs(binary_form=True)))  # type: ignore[arg-type]
    copy.set_alpn_protocols([protocol])
    return copy


class HTTP2Client:
    """As little of RFC 9113 as it takes to upload; unlike the h2 library's it survives a GOAWAY."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())

    def post(self, stream_id: int) -> None:
        fields = Encoder().encode(
            [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
        )
        frame = HeadersFrame(stream_id, fields, flags=["END_HEADERS"])  # type: ignore[list-item]
        self._writer.write(frame.serialize())

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        frame = DataFrame(stream_id, data, flags=["END_STREAM"] if end else [])  # type: ignore[list-item]
        self._writer.write(frame.serialize())

    async def bodies(self) -> dict[int, bytes]:
        """Read to the end of the connection; acknowledge SETTINGS and PING."""
        found: dict[int, bytes] = {}
        # What matters is what came before the end, not how the end looks from here.
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame, length = Frame.parse_frame_header(
                    memoryview(await self._reader.readexactly(9))
                )
                frame.parse_body(memoryview(await self._reader.readexactly(length)))
                if isinstance(frame, DataFrame):
                    found[frame.stream_id] = found.get(frame.stream_id, b"") + frame.data
                elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                    self._writer.write(SettingsFrame(0, flags=["ACK"]).serialize())  # type: ignore[list-item]
                elif isinstance(frame, PingFrame):
                    answer = PingFrame(0, frame.opaque_data, flags=["ACK"])  # type: ignore[list-item]
                    self._writer.write(answer.serialize())
        self._writer.close()
        return found


STREAMS = range(1, 18, 2)


def test_sigterm_lets_fifty_requests_in_flight_finish(start: Start, dev_certificate, trusting):
    """Nine streams on each of five HTTP/2 connections, and five HTTP/1.1 connections."""
    command = start("app", "--certfile", str(dev_certificate), "--no-access-log")
    port = command.port()
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16\r\n\r\nbefore"

    async def main() -> tuple[list[dict[int, bytes]], list[bytes]]:
        loop = asyncio.get_running_loop()
        h2_context = alpn(trusting, "h2")
        clients = [
            HTTP2Client(*await asyncio.open_connection("localhost", port, ssl=h2_context))
            for _ in range(5)
        ]
        streams = [await asyncio.open_connection("localhost", port, ssl=trusting) for _ in range(5)]
        for client in clients:
            for stream_id in STREAMS:
                client.post(stream_id)
                client.send(stream_id, b"before")
        for _, writer in streams:
            writer.write(head)
        for _ in range(50):
            await loop.run_in_executor(None, command.wait_for_output, "request")
        command.send(signal.SIGTERM)
        await loop.run_in_executor(None, command.wait_for_error_line, "stopping")
        for client in clients:
            for stream_id in STREAMS:
                client.send(stream_id, b" and after", end=True)
        for _, writer in streams:
            writer.write(b" and after")
        bodies = await asyncio.gather(*(client.bodies() for client in clients))
        answers = [await reader.read() for reader, _ in streams]
        for _, writer in streams:
            writer.close()
        return bodies, answers

    bodies, answers = asyncio.run(main())
    assert bodies == [dict.fromkeys(STREAMS, b"before and after")] * 5
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert answer.endswith(b"before and after")
    code, output, _ = command.end()
    assert code == 0
    assert output == "shutdown\n"


@pytest.fixture
def script(start: Start, tmp_path: Path) -> Iterator[Callable[[str], Command]]:
    """Start a program that calls the package."""
    commands: list[Command] = []

    def script(source: str) -> Command:
        commands.append(Command(tmp_path, "-c", f"import applications, h2asgi\n{source}"))
        return commands[-1]

    yield script
    for command in commands:
        command.stop()


def test_run_serves_until_a_signal_and_returns(script):
    # Without the access log, which a thread may write into the middle of a line.
    command = script("h2asgi.run(applications.app, port=0, access_log=False)\nprint('after')")
    assert httpx.post(f"http://localhost:{command.port()}/", content=b"hi").content == b"hi"
    command.send(signal.SIGTERM)
    code, output, _ = command.end()
    assert code == 0
    assert output.splitlines() == ["startup", "request", "shutdown", "after"]


@pytest.mark.parametrize(
    ("call", "code", "sentence"),
    [
        ("h2asgi.run(applications.app, no_such=1)", 2, "unknown option no_such"),
        ("h2asgi.run(applications.app, host='')", 2, "host must not be empty"),
        ("h2asgi.run(applications.failing, port=0)", 3, "the application's startup failed"),
        ("h2asgi.run('applications:nothing', port=0)", 3, "no attribute nothing"),
    ],
)
def test_run_ends_a_program_as_the_command_would(script, call, code, sentence):
    found, _, errors = script(call).end()
    assert found == code
    assert sentence in errors
    assert "Traceback" not in errors


def test_run_shows_where_the_applications_own_code_failed(script, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    code, _, errors = script("h2asgi.run('broken:app', port=0)").end()
    assert code == 3
    assert re.search(r"^    ZeroDivisionError: division by zero$", errors, re.M)


def test_the_development_certificate_says_how_to_trust_it(start: Start, tmp_path):
    data = str(tmp_path / "data")
    command = start("app", "--dev-cert", env={**os.environ, "H2ASGI_DATA_DIR": data})
    port = command.port()
    ca_file = Path(command.wait_for_error_line(r"--cacert (\S+)")[1])
    context = ssl.create_default_context(cafile=ca_file)
    assert httpx.get(f"https://localhost:{port}/", verify=context).status_code == 200
    command.send(signal.SIGTERM)
    assert command.end()[0] == 0


# What can be tested without a process.


def test_importing_the_package_loads_neither_engines_nor_extras():
    heavy = ["asyncio", "ssl", "h2", "h11", "httptools", "cryptography", "uvloop", "trustme"]
    source = f"import h2asgi, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_uvloop_asked_for_but_missing_is_an_operators_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'h2asgi\[fast\]'"):
        process.new_event_loop("uvloop")
    loop = process.new_event_loop("auto")
    assert process.loop_name(loop) == "asyncio"
    loop.close()


def test_errors_of_a_peers_network_are_no_errors_of_the_loop(caplog):
    """Field note 5."""
    loop = asyncio.new_event_loop()
    with caplog.at_level("DEBUG", "h2asgi"):
        process.log_loop_error(
            loop, {"message": "Fatal error", "transport": 1, "exception": ssl.SSLError("late")}
        )
        assert caplog.records[-1].levelname == "DEBUG"
        process.log_loop_error(loop, {"message": "in a callback", "exception": OSError("ours")})
        process.log_loop_error(loop, {"transport": 1, "exception": ValueError("ours")})
    loop.close()
    assert [record.levelname for record in caplog.records[1:]] == ["ERROR", "ERROR"]


def test_outside_the_main_thread_no_signal_handler_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    async def main() -> None:
        with process.StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert seen == [before]


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        with process.StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(signals.received.wait(), 10)

    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) is before
