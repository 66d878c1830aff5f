"""A WebSocket over sinks that write down what they are told, in order."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_sink import Defaults, FakeSink, request

from h2asgi.asgi.http import HTTPCycle
from h2asgi.asgi.scope import connection_scope, websocket_scope
from h2asgi.asgi.websocket import WebSocketCycle
from h2asgi.errors import ClientDisconnected, IllegalMessage


class FakeWebSocketSink:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.taken = 0
        self.gone = False
        self.window_open: asyncio.Event | None = None
        """When given, ``send_message`` waits for it after queueing: the high-water mark."""

    def accept(self, subprotocol: str | None, headers: list[Any]) -> int:
        if not (subprotocol is None or subprotocol == "chat"):
            raise IllegalMessage("not offered")
        self.calls.append(("accept", subprotocol, headers))
        return 101

    def send_message(self, data: str | bytes) -> Any:
        if isinstance(data, str):
            data.encode()
        self.calls.append(("message", data))
        return self._sent()

    async def _sent(self) -> None:
        await asyncio.sleep(0)
        if self.window_open is not None:
            await self.window_open.wait()
        if self.gone:
            raise ClientDisconnected("reset")

    def close(self, code: int, reason: str) -> None:
        reason.encode()
        if not 1000 <= code <= 4999:
            raise IllegalMessage("not to be sent")
        self.calls.append(("close", code, reason))

    async def flush(self) -> None:
        await asyncio.sleep(0)

    def messages_taken(self) -> None:
        self.taken += 1


class WebSocket:
    """A cycle with both of its sinks: ``sink`` for the WebSocket, ``http`` for responses."""

    def __init__(self, *subprotocols: str, version: str = "1.1", state: Any = None) -> None:
        self.sink = FakeWebSocketSink()
        self.http = FakeSink()
        method = "CONNECT" if version == "2" else "GET"
        head = request(b"/chat/%C3%A9?room=1", http_version=version, method=method)
        connection = connection_scope("https", ("127.0.0.1", 50000), ("127.0.0.1", 8443), "")
        self.scope = websocket_scope(connection, head, list(subprotocols), state, {})
        defaults = Defaults()
        self.response = HTTPCycle(self.http, head, self.scope, defaults)
        self.cycle = WebSocketCycle(self.sink, self.response, defaults)
        self.disconnect = self.cycle.disconnect
        self.receive = self.cycle.receive
        self.send = self.cycle.send

    def feed(self, *messages: str | bytes) -> None:
        self.cycle.feed(messages)

    async def accept(self) -> None:
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept"})
