"""Files over HTTP/1.1 in the clear, which go past engine and transport."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps.letters import HANG

from h2asgi.asgi import files
from h2asgi.config import BindConfig, Config, HTTP1Config, Timeouts
from h2asgi.errors import ClientDisconnected
from h2asgi.protocol import pace
from h2asgi.protocol.engines import ENGINES
from h2asgi.server import Server

MIB = 1024 * 1024
SIZE = 8 * MIB + 5
"""More than the kernel keeps for one connection."""

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
HEAD_END = b"\r\n\r\n"

pytestmark = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this system has no sendfile")

Main = Callable[[], Any]
Run = Callable[[Main], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run to the end on one kind of loop; no file or socket may be open then."""
    factory: Any = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run_main(main: Main) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(main(), 3 * HANG))

    run_main(lambda: asyncio.sleep(0))  # a loop opens files of its own, and keeps them
    before = len(os.listdir("/proc/self/fd"))
    yield run_main
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(params=ENGINES["http1"])
def engine(request: pytest.FixtureRequest) -> str:
    try:
        ENGINES["http1"][request.param]()
    except ImportError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="module")
def content() -> bytes:
    """Octets of which no two places look alike."""
    return b"".join(b"%08d" % number for number in range(SIZE // 8 + 1))[:SIZE]


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


@pytest.fixture
def poured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many octets each ``sendfile`` has sent."""
    sizes: list[int] = []
    sendfile = os.sendfile

    def counted(*args: Any) -> int:
        sizes.append(sendfile(*args))
        return sizes[-1]

    monkeypatch.setattr(files.os, "sendfile", counted)
    return sizes


def pathsend(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


class App:
    """Sends the messages behind a start; ``ended`` has what came of each request, in order."""

    def __init__(self, *messages: dict[str, Any], status: int = 200, **headers: int) -> None:
        self.messages = messages
        fields = [(name.replace("_", "-").encode(), b"%d" % n) for name, n in headers.items()]
        self.start = {"type": "http.response.start", "status": status, "headers": fields}
        self.ended: list[BaseException | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(self.start)
            for message in self.messages:
                await send(message)
        except BaseException as error:
            self.ended.append(error)
            if not isinstance(error, ClientDisconnected):
                raise
        else:
            self.ended.append(None)


class Client:
    """A client that reads when it is told to, and takes little unread."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.unread = bytearray()

    async def ask(self, request: bytes = GET) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, request)

    async def read(self, size: int = 2**18) -> bytes:
        loop = asyncio.get_running_loop()
        data = await asyncio.wait_for(loop.sock_recv(self.sock, size), HANG)
        self.unread += data
        return data

    async def head(self) -> bytes:
        while HEAD_END not in self.unread:
            assert await self.read(), bytes(self.unread)
        head, _, rest = self.unread.partition(HEAD_END)
        self.unread = bytearray(rest)
        return bytes(head)

    async def take(self, size: int) -> bytes:
        while len(self.unread) < size:
            assert await self.read(), len(self.unread)
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    async def answer(self) -> bytes:
        """A response with content-length."""
        length = re.search(rb"content-length: (\d+)", await self.head())
        assert length is not None
        return await self.take(int(length[1]))

    async def rest(self) -> bytes:
        """What comes until the connection ends; raises ConnectionError unless it is well."""
        while await self.read():
            pass
        return bytes(self.unread)


@contextlib.asynccontextmanager
async def serving(
    app: App, engine: str, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[Server, Client]]:
    """A server and a client of it; in the end, no connection or application is left."""
    config = Config(
        bind=BindConfig(bind=("127.0.0.1:0",)),
        http1=HTTP1Config(engine=engine),
        timeouts=timeouts or Timeouts(),
        lifespan="off",
    )
    async with Server(app, config) as server:
        client = Client(server.addresses[0])
        try:
            yield server, client
        finally:
            client.sock.close()
        await until(lambda: not (server._state.connections or server._state.tasks))
        assert not server._state.unsent.used


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG):
        while not condition():
            await asyncio.sleep(0.001)


# What is sent.


def test_a_file_arrives_whole_and_the_connection_lives_on(
    run: Run, engine: str, path: Path, content: bytes, poured: list[int]
) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        async with serving(app, engine) as (_, client):
            for _ in range(2):
                await client.ask()
                assert await client.answer() == content

    run(main)
    assert app.ended == [None, None]
    assert sum(poured) > SIZE  # of two; first pieces and those that wait are read


def test_files_that_are_asked_for_together_come_in_order(
    run: Run, engine: str, path: Path, content: bytes, poured: list[int]
) -> None:
    async def main() -> None:
        async with serving(App(pathsend(path)), engine) as (_, client):
            await client.ask(3 * GET)
            for _ in range(3):
                assert await client.answer() == content

    run(main)
    assert sum(poured) > 2 * SIZE


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_a_response_without_content_sends_nothing(
    run: Run, engine: str, path: Path, poured: list[int], method: bytes, status: int
) -> None:
    async def main() -> None:
        async with serving(App(pathsend(path), status=status), engine) as (_, client):
            for _ in range(2):
                await client.ask(GET.replace(b"GET", method))
                await client.head()
            assert not client.unread

    run(main)
    assert not poured


def around(file: int) -> tuple[dict[str, Any], ...]:
    """A piece of a file between octets of other kinds."""
    part = {"type": "http.response.zerocopysend", "file": file, "offset": 3, "count": 4 * MIB}
    body = {"type": "http.response.body"}
    return (
        {**body, "body": b"<", "more_body": True},
        {**part, "more_body": True},
        {**body, "body": b">"},
    )


def test_a_part_stands_between_other_pieces(
    run: Run, engine: str, path: Path, content: bytes, poured: list[int]
) -> None:
    async def main() -> None:
        with path.open("rb") as file:
            app = App(*around(file.fileno()), content_length=4 * MIB + 2)
            async with serving(app, engine) as (_, client):
                for _ in range(2):
                    await client.ask()
                    assert await client.answer() == b"<" + content[3 : 4 * MIB + 3] + b">"

    run(main)
    assert sum(poured) > 4 * MIB


def test_what_is_sent_in_chunks_is_read(
    run: Run, engine: str, path: Path, content: bytes, poured: list[int]
) -> None:
    async def main() -> None:
        with path.open("rb") as file:
            async with serving(App(*around(file.fileno())), engine) as (_, client):
                await client.ask()
                assert b"chunked" in await client.head()
                body = b""
                while (size := await _chunk_size(client)) > 0:
                    body += (await client.take(size + 2))[:-2]
                assert body == b"<" + content[3 : 4 * MIB + 3] + b">"

    run(main)
    assert not poured


async def _chunk_size(client: Client) -> int:
    line = b""
    while not line.endswith(b"\r\n"):
        line += await client.take(1)
    return int(line, 16)


def test_a_body_that_ends_with_the_connection(
    run: Run, engine: str, path: Path, content: bytes, poured: list[int]
) -> None:
    async def main() -> None:
        with path.open("rb") as file:
            async with serving(App(*around(file.fileno())), engine) as (_, client):
                await client.ask(GET.replace(b"1.1", b"1.0"))
                assert b"content-length" not in await client.head()
                assert await client.rest() == b"<" + content[3 : 4 * MIB + 3] + b">"

    run(main)
    assert poured


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
def test_what_the_kernel_cannot_send_is_read(
    run: Run, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """A file system may have no such thing."""

    def refuse(*args: Any) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files.os, "sendfile", refuse)

    async def main() -> None:
        async with serving(App(pathsend(path)), "auto") as (_, client):
            await client.ask()
            assert await client.answer() == content

    run(main)


# What goes wrong.


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(
    run: Run, engine: str, path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        async with serving(app, engine) as (_, client):
            await client.ask()
            await client.head()
            os.truncate(path, SIZE - 3)
            with pytest.raises(ConnectionResetError):
                await client.rest()
            assert content.startswith(client.unread)
            assert len(client.unread) < SIZE

    run(main)
    assert "has become shorter" in str(app.ended[0])
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_a_client_that_leaves_is_no_error(
    run: Run, engine: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        async with serving(app, engine) as (_, client):
            await client.ask()
            await client.take(MIB)
            client.sock.close()
            await until(lambda: bool(app.ended))

    run(main)
    assert isinstance(app.ended[0], ClientDisconnected)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_client_that_stops_reading_is_dropped(run: Run, engine: str, path: Path) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        timeouts = Timeouts(write=0.3)
        async with serving(app, engine, timeouts) as (server, client):
            await client.ask()
            await client.take(MIB)
            await until(lambda: bool(app.ended))
            assert not server._state.unsent.used
            with pytest.raises(ConnectionResetError):
                await client.rest()

    run(main)
    assert isinstance(app.ended[0], ClientDisconnected)


@pytest.mark.parametrize("rate", [0, 1000 * MIB], ids=["no rate", "a rate"])
def test_a_slow_reader_is_judged_by_the_rate(
    run: Run, engine: str, path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    monkeypatch.setattr(pace, "SHORTEST_STRETCH", 0.2)
    app = App(pathsend(path))

    async def main() -> None:
        timeouts = Timeouts(write=0.2, min_transfer_rate=rate)
        async with serving(app, engine, timeouts) as (_, client):
            await client.ask()
            with contextlib.suppress(ConnectionError):
                while not app.ended and await client.read(MIB):
                    await asyncio.sleep(0.005)
            await until(lambda: bool(app.ended))

    run(main)
    assert (app.ended == [None]) is (rate == 0)


def test_a_stop_lets_a_file_finish(run: Run, engine: str, path: Path, content: bytes) -> None:
    async def main() -> None:
        async with serving(App(pathsend(path)), engine) as (server, client):
            await client.ask()
            await client.head()
            stopping = asyncio.create_task(server.__aexit__(None, None, None))
            await asyncio.sleep(0)
            assert await client.rest() == content
            await stopping

    run(main)


def test_a_stop_that_may_not_wait_cuts_it_off(run: Run, engine: str, path: Path) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        timeouts = Timeouts(graceful=0.1)
        async with serving(app, engine, timeouts) as (server, client):
            await client.ask()
            await client.head()
            await server.__aexit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                await client.rest()

    run(main)
    assert isinstance(app.ended[0], ClientDisconnected)


class SlowDisk:
    """``sendfile`` waits in its thread for ``go_on``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        sendfile = os.sendfile

        def wait(*args: Any) -> int:
            self.begun.set()
            assert self.go_on.wait(HANG)
            return sendfile(*args)

        monkeypatch.setattr(files.os, "sendfile", wait)


def test_a_slow_disk_holds_up_nobody(
    run: Run, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    app = App(pathsend(path))

    async def main() -> None:
        async with serving(app, "auto") as (server, client):
            await client.ask()
            await until(disk.begun.is_set)
            other = Client(server.addresses[0])
            await other.ask(GET.replace(b"GET", b"HEAD"))
            await other.head()
            other.sock.close()
            disk.go_on.set()
            assert await client.answer() == content

    run(main)


@pytest.mark.parametrize("goes_on", [False, True], ids=["ends", "goes on"])
def test_an_application_that_is_cancelled_meanwhile_cuts_the_connection(
    run: Run, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """Nobody knows how much was sent, so nothing may follow."""
    disk = SlowDisk(monkeypatch)
    seen: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(App().start)
        sending = asyncio.create_task(send(pathsend(path)))
        await until(disk.begun.is_set)
        sending.cancel()
        await asyncio.wait((sending,))
        disk.go_on.set()
        if goes_on:
            try:
                await send({"type": "http.response.body", "body": b"x"})
            except Exception as error:
                seen.append(error)

    async def main() -> None:
        async with serving(app, "auto") as (_, client):  # type: ignore[arg-type]
            await client.ask()
            with pytest.raises(ConnectionResetError):
                await client.rest()
            assert content.startswith(client.unread.partition(HEAD_END)[2])

    run(main)
    assert len(seen) == goes_on


def test_a_client_that_takes_nothing_has_little_read_for_it(run: Run, path: Path) -> None:
    app = App(pathsend(path))

    async def main() -> None:
        async with serving(app, "auto") as (server, client):
            await client.ask()
            await until(lambda: bool(server._state.tasks))
            (connection,) = server._state.connections
            await until(lambda: connection.taken > files.FIRST_PIECE)
            taken = -1
            while taken != connection.taken:  # until the kernel has enough
                taken = connection.taken
                await asyncio.sleep(0.1)
            assert connection.unsent <= files.WAITING_PIECE
            assert server._state.unsent.used <= files.WAITING_PIECE

    run(main)
    assert isinstance(app.ended[0], ClientDisconnected)
