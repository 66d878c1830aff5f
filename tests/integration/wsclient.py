"""Blocking WebSocket clients on wsproto: over HTTP/1.1, and over HTTP/2 by extended CONNECT.

Over HTTP/2 (RFC 8441) a WebSocket is one stream of an ``H2Client``, which others may share.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Sequence

import h2.settings
from h2client import READ_SIZE, H2Client, Response
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

Message = str | bytes


class WebSocketClient:
    """What both have in common. ``_read`` gives nothing at the server's end, ``_end`` is ours."""

    _connection: WSConnection | Connection

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def _write(self, data: bytes) -> None:
        raise NotImplementedError

    def _read(self) -> bytes:
        raise NotImplementedError

    def _end(self) -> None:
        """Follow the closing handshake (RFC 6455 section 7.1.1: the server closes TCP first)."""

    def send(self, *messages: Message) -> None:
        """Send messages, several of them at once."""
        self._write(b"".join(self._connection.send(_event(message)) for message in messages))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Begin the closing handshake; ``receive`` then gives the server's Close."""
        self._write(self._connection.send(CloseConnection(code=code, reason=reason)))

    def receive(self) -> Message | CloseConnection:
        """Wait for a message, or for Close, which is answered if we did not begin."""
        pieces: list[Message] = []
        while True:
            event = self._next_event()
            if isinstance(event, TextMessage | BytesMessage):
                pieces.append(event.data)
                if event.message_finished:
                    return type(event.data)().join(pieces)  # type: ignore[arg-type]
            elif isinstance(event, Ping):
                self._write(self._connection.send(event.response()))
            elif isinstance(event, CloseConnection):
                if self._connection.state is ConnectionState.REMOTE_CLOSING:
                    self._write(self._connection.send(event.response()))
                self._end()
                return event

    def _next_event(self) -> Event:
        while not self._events:
            data = self._read()
            assert data, "the server ended the tunnel"
            self._connection.receive_data(data)
            self._events += self._connection.events()
        return self._events.popleft()


def _event(message: Message) -> TextMessage | BytesMessage:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


class H1WebSocket(WebSocketClient):
    """One that has a connection for itself."""

    def __init__(
        self,
        sock: socket.socket,
        path: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        compress: bool = False,
    ) -> None:
        super().__init__()
        self._sock = sock
        self._connection = WSConnection(ConnectionType.CLIENT)
        extensions: list[Extension] = [PerMessageDeflate()] if compress else []
        request = Request(
            host="localhost", target=path, subprotocols=list(subprotocols), extensions=extensions
        )
        self._write(self._connection.send(request))
        answer = self._next_event()
        assert isinstance(answer, AcceptConnection), answer
        self.subprotocol = answer.subprotocol
        self.compressed = any(extension.enabled() for extension in extensions)

    def _write(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _read(self) -> bytes:
        return self._sock.recv(READ_SIZE)

    def wait_until_closed(self) -> None:
        assert self._sock.recv(READ_SIZE) == b""


class H2WebSocket(WebSocketClient):
    """One that is a stream among others. ``response`` is what the server answered.

    The tunnel is there when ``accepted`` says so.
    """

    def __init__(
        self,
        client: H2Client,
        path: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        compress: bool = False,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self._client = client
        self._deflate = PerMessageDeflate() if compress else None
        fields = [(":protocol", "websocket"), ("sec-websocket-version", "13"), *headers]
        if subprotocols:
            fields.append(("sec-websocket-protocol", ", ".join(subprotocols)))
        if self._deflate is not None:
            fields.append(
                ("sec-websocket-extensions", f"permessage-deflate; {self._deflate.offer()}")
            )
        code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        # RFC 8441 section 3: not before the server has said so.
        client.read_until(lambda: client.h2.remote_settings.get(code) == 1)
        self.stream_id = client.start(path, "CONNECT", headers=fields, end_stream=False)
        self.response: Response = client.responses[self.stream_id]

    def accepted(self) -> bool:
        """Wait for the server's answer."""
        self._client.read_until(lambda: self.response.status or self.response.over)
        if self.response.status != 200:
            return False
        answer = dict(self.response.headers)
        extensions: list[Extension] = []
        if self._deflate is not None and b"sec-websocket-extensions" in answer:
            self._deflate.finalize(answer[b"sec-websocket-extensions"].decode())
            extensions.append(self._deflate)
        self.compressed = bool(extensions)
        self.subprotocol = answer.get(b"sec-websocket-protocol", b"").decode() or None
        self._connection = Connection(ConnectionType.CLIENT, extensions)
        return True

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            sent = self._client.send(self.stream_id, bytes(view[:READ_SIZE]))
            view = view[sent:]
            if view and not sent:
                self._client.read()

    def _read(self) -> bytes:
        body = self.response.body
        self._client.read_until(lambda: body or self.response.over)
        data = bytes(body)
        body.clear()
        return data

    def _end(self) -> None:
        if self.response.reset is None:
            self._client.h2.end_stream(self.stream_id)
            self._client.flush()
