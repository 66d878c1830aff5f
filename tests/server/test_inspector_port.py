"""The inspector beside its server: what it answers, when it records, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import h2asgi
from h2asgi import cli
from h2asgi.config import HTTP1Config
from h2asgi.errors import ConfigurationError
from h2asgi.inspector import log, news, page, recorder
from h2asgi.options import make_config
from h2asgi.protocol.engines import http1_engine

HANG = 30


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
    else:
        raise NotImplementedError(scope["type"])


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[h2asgi.Server]:
    config = make_config(app, port=0, host="127.0.0.1", inspect="127.0.0.1:0", **options)
    async with asyncio.timeout(HANG), h2asgi.Server(app, config) as server:
        yield server


async def ask(
    address: Any, target: str, *, method: str = "GET", **fields: str
) -> tuple[int, bytes, bytes]:
    """Give status, head and content of the answer on a new connection."""
    reader, writer = await asyncio.open_connection(*address)
    named = {"host": "localhost", **fields}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    writer.write(f"{method} {target} HTTP/1.1\r\nconnection: close\r\n{lines}\r\n".encode())
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), head, content


class Viewer:
    """A page that is open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.news: dict[str, dict[int, Any]] = {"streams": {}, "connections": {}, "frames": {}}

    @classmethod
    async def open(cls, server: h2asgi.Server) -> Viewer:
        reader, writer = await asyncio.open_connection(*server.inspect_addresses[0])
        writer.write(b"GET /api/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        viewer = cls(reader, writer)
        await viewer.listen()
        return viewer

    async def listen(self) -> None:
        """Take what comes next."""
        while not (line := await self.reader.readuntil(b"\n")).startswith(b"data: "):
            pass
        for kind, records in json.loads(line[6:]).items():
            if kind in self.news:
                self.news[kind] |= {record["number"]: record for record in records}

    async def until_seen(self, target: str) -> Any:
        while True:
            for stream in self.news["streams"].values():
                if stream["target"] == target and stream["ended"] is not None:
                    return stream
            await self.listen()


def test_a_viewer_is_told_of_connections_that_were_there_before(run):
    async def main() -> None:
        async with started() as server:
            state = server._state
            reader, writer = await asyncio.open_connection(*server.addresses[0])
            request = "GET {} HTTP/1.1\r\nhost: a\r\nauthorization: hunter2\r\n\r\n"
            writer.write(request.format("/before").encode())
            await reader.readuntil(b"\r\n\r\n")
            assert state.observing is None, "nobody looks"
            viewer = await Viewer.open(server)
            writer.write(request.format("/after").encode())
            stream = await viewer.until_seen("/after")
            assert stream["status"] == 204
            assert ["authorization", "[masked]"] in stream["fields"]
            assert all(one["target"] != "/before" for one in viewer.news["streams"].values())
            writer.close()
            viewer.writer.close()

    run(main())


def test_it_looks_as_long_as_somebody_does(run, monkeypatch):
    monkeypatch.setattr(recorder, "LINGER", 0.01)

    async def main() -> None:
        async with started() as server:
            viewer = await Viewer.open(server)
            assert server._state.observing is not None
            reader, writer = await asyncio.open_connection(*server.addresses[0])
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await viewer.until_seen("/")
            (connection,) = server._state.connections
            assert type(connection._engine).__name__ == "ObservedHTTP1"
            viewer.writer.close()
            while server._state.observing is not None:
                await asyncio.sleep(0)
            assert type(connection._engine).__name__ != "ObservedHTTP1"
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).count(b" 204 ") == 2
            writer.close()

    run(main())


def test_a_server_under_load_is_looked_at_in_parts(run, monkeypatch):
    monkeypatch.setattr(log, "MAX_STREAM_ROOM", 1)
    monkeypatch.setattr(log, "STREAMS_PER_TICK", 1)

    async def main() -> None:
        async with started() as server:
            viewer = await Viewer.open(server)
            peers = [await asyncio.open_connection(*server.addresses[0]) for _ in range(2)]
            for number, (reader, writer) in enumerate(peers):
                writer.write(f"GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                await reader.readuntil(b"\r\n\r\n")
            connections = tuple(server._state.connections)
            kinds = {type(one._engine).__name__ for one in connections}
            assert kinds == {http1_engine(HTTP1Config()).__name__}, "no room, nobody looks"
            peers[0][1].write(b"GET /close HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            await peers[0][0].read()
            await viewer.listen()
            while all(one["closed"] is None for one in viewer.news["connections"].values()):
                await viewer.listen()
            peers[1][1].write(b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n")
            await viewer.until_seen("/later")
            assert [one["target"] for one in viewer.news["streams"].values()] == ["/0", "/later"]
            for _, writer in (*peers, (None, viewer.writer)):
                writer.close()

    run(main())


def test_the_page_is_complete_and_strict(run):
    async def main() -> None:
        async with started() as server:
            (address,) = server.inspect_addresses
            status, head, content = await ask(address, "/")
            assert status == 200
            policy = head.partition(b"content-security-policy: ")[2].partition(b"\r\n")[0]
            assert b"default-src 'none'" in policy
            assert b"unsafe" not in policy
            assert b"://" not in content, "nothing from elsewhere"
            for name in page._FILES:
                status, _, content = await ask(address, name)
                assert status == 200
                assert b"https://" not in content
            assert (await ask(address, "/secret"))[0] == 404
            assert (await ask(address, "/", method="DELETE"))[0] == 405

    run(main())


def test_whom_it_answers(run):
    async def main() -> None:
        async with started() as server:
            (address,) = server.inspect_addresses
            for target in ("/", "/api/events", "/api/requests.har", "/api/frames.json"):
                assert (await ask(address, target, host="evil.example"))[0] == 403
                assert (await ask(address, target, origin="http://evil.example"))[0] == 403
            clear = ("/api/clear",)
            assert (await ask(address, *clear, method="POST"))[0] == 403
            answer = await ask(address, *clear, method="POST", origin="http://localhost")
            assert answer[0] == 204
            assert server._state.observing is None, "none of them has looked"

    run(main())


def test_viewers_are_few_and_do_not_hold_up_a_stop(run):
    async def main() -> None:
        async with started() as server:
            viewers = [await Viewer.open(server) for _ in range(page.MAX_VIEWERS)]
            assert (await ask(server.inspect_addresses[0], "/api/events"))[0] == 503
        for viewer in viewers:
            assert (await viewer.reader.read()).endswith(b"0\r\n\r\n"), "the stream has an end"
            viewer.writer.close()

    run(main())


def test_a_viewer_that_does_not_read_is_told_less_and_costs_no_memory(run, monkeypatch):
    """What it is told is put together when it takes it: nothing is queued for it."""
    monkeypatch.setattr(page, "TICK", 0.001)
    looks = []
    take = news.News.take

    def counted(self: news.News) -> str:
        looks.append(None)
        return take(self)

    monkeypatch.setattr(news.News, "take", counted)

    async def main() -> None:
        async with started() as server:
            viewer = await Viewer.open(server)
            viewer.writer.transport.pause_reading()
            seen = -1
            target = "/" + "a" * 2000
            while seen != len(looks):
                seen = len(looks)
                for _ in range(200):
                    await ask(server.addresses[0], target)
            viewer.writer.transport.abort()

    run(main())


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--inspect"], "127.0.0.1:8943"),
        (["--inspect", "app:app"], "127.0.0.1:8943"),
        (["--inspect", "--port", "1", "app:app"], "127.0.0.1:8943"),
        (["--inspect", "[::1]:9000", "app:app"], "[::1]:9000"),
        (["--inspect=localhost:1", "app:app"], "localhost:1"),
        (["--inspect", "unix:/run/a.sock", "app:app"], "unix:/run/a.sock"),
        (["--inspect", "on", "app:app"], "127.0.0.1:8943"),
        (["app:app"], None),
    ],
)
def test_the_option_may_stand_alone(arguments, address):
    parsed = cli.command.main(arguments, "h2asgi", standalone_mode=False)
    config = cli._resolve_config(parsed, {})
    assert config.inspect.address == address
    assert "app:app" in arguments or config.app == ""
    assert config.app == ("app:app" if "app:app" in arguments else "")


def test_mistakes_are_one_sentence(run):
    with pytest.raises(ConfigurationError, match=r"^inspect shows one process, and workers asks"):
        make_config(app, inspect="on", workers=2)
    with pytest.raises(ConfigurationError, match=r"^inspect shows one process, and workers asks"):
        make_config(app, inspect="on", workers="auto")

    async def main(**options: Any) -> None:
        async with h2asgi.Server(app, make_config(app, port=0, **options)):
            pass

    with pytest.raises(ConfigurationError, match=r"^--inspect 'here' has no port"):
        run(main(inspect="here"))


def test_an_address_that_others_can_reach_is_warned_of(run, caplog):
    async def main() -> None:
        config = make_config(app, port=0, inspect="0.0.0.0:0")
        async with h2asgi.Server(app, config):
            pass

    run(main())
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "the inspector shows all traffic, in the clear, to whoever can reach 0.0.0.0:0:"
        " take a loopback address unless that is meant"
    ]
