"""A sink that writes down what it is told, in order."""

from __future__ import annotations

import asyncio
from typing import Any

from h2asgi.asgi.http import HTTPCycle
from h2asgi.asgi.scope import connection_scope, http_scope
from h2asgi.asgi.sink import Sink
from h2asgi.errors import ClientDisconnected, IllegalMessage
from h2asgi.protocol.events import RequestReceived


class Defaults:
    def __init__(self) -> None:
        self.fields = [(b"server", b"h2asgi"), (b"date", b"now")]


class FakeSink(Sink):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.finished: list[tuple[int, int]] = []
        self.ended = 0
        self.acknowledged = 0
        self.gone = False
        self.window_open: asyncio.Event | None = None
        """When given, ``send_data`` waits for it after queueing: the high-water mark."""

    def send_informational(self, stream_id: int, status: int, headers: list[Any]) -> None:
        self.calls.append(("informational", status, headers))

    def send_headers(
        self, stream_id: int, status: int, headers: list[Any], end_stream: bool
    ) -> None:
        self.calls.append(("headers", status, headers, end_stream))

    async def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        self.calls.append(("data", data, end_stream))
        await asyncio.sleep(0)
        if self.window_open is not None:
            await self.window_open.wait()
        if self.gone:
            raise ClientDisconnected("reset")

    def outlet(self, stream_id: int) -> None:
        return None

    async def send_trailers(self, stream_id: int, trailers: list[Any]) -> None:
        self.calls.append(("trailers", trailers))
        await asyncio.sleep(0)

    async def flush(self) -> None:
        self.calls.append(("flush",))
        await asyncio.sleep(0)

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        self.acknowledged += size

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.calls.append(("reset", error_code))

    def request_finished(self, cycle: HTTPCycle) -> None:
        self.finished.append((cycle.status, cycle.body_size))

    def application_ended(self, cycle: HTTPCycle, failed: bool) -> None:
        self.ended += 1

    def log_ids(self, request: RequestReceived) -> dict[str, object]:
        return {"connection": 7, "stream": request.stream_id}

    # Reading the record.

    @property
    def kinds(self) -> list[str]:
        return [call[0] for call in self.calls]

    @property
    def head(self) -> tuple[int, dict[bytes, bytes], bool]:
        """Status, fields and end_stream of the one response head."""
        [(_, status, fields, end_stream)] = [c for c in self.calls if c[0] == "headers"]
        return status, dict(fields), end_stream

    @property
    def body(self) -> bytes:
        return b"".join(call[1] for call in self.calls if call[0] == "data")


def request(target: bytes = b"/", **changes: Any) -> RequestReceived:
    fields: dict[str, Any] = {
        "stream_id": 1,
        "http_version": "2",
        "method": "GET",
        "target": target,
        "headers": [(b"host", b"localhost")],
        "end_stream": True,
        "expect_continue": False,
        "accepts_trailers": True,
    }
    return RequestReceived(**fields | changes)


def scope(
    target: bytes = b"/",
    *,
    client: Any = ("127.0.0.1", 50000),
    server: Any = ("127.0.0.1", 8443),
    root_path: str = "",
    state: Any = None,
    extensions: Any = None,
    **changes: Any,
) -> dict[str, Any]:
    connection = connection_scope("https", client, server, root_path)
    return http_scope(connection, request(target, **changes), state, extensions)


def cycle(sink: FakeSink, **changes: Any) -> HTTPCycle:
    one = request(**changes)
    return HTTPCycle(sink, one, scope(method=one.method), Defaults())


def send_all(*messages: Any, **changes: Any) -> tuple[FakeSink, str | None]:
    """Send the messages on a fresh cycle; give what the sink saw, and the last one's refusal."""

    async def main() -> tuple[FakeSink, str | None]:
        sink = FakeSink()
        one = cycle(sink, **changes)
        for message in messages[:-1]:
            await one.send(message)
        try:
            await one.send(messages[-1])
        except IllegalMessage as error:
            return sink, str(error)
        return sink, None

    return asyncio.run(main())
