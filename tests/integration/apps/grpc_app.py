"""A gRPC service as a plain ASGI application: messages are octets, as the clients send them.

/Echo/Reversed   one message, and it comes back reversed; ``x-note`` comes back as metadata
/Echo/Count      a number; as many messages of their numbers
/Echo/Sum        messages of octets; how many and their size
/Echo/Each       each message, as it comes
/Echo/Refuse     status 5, with the head alone
/Echo/Break      one message, then status 13
/Echo/Who        the name in the client's certificate, nothing if there is none
/Echo/Wait       posts "{x-key} began", waits for the client to leave, then posts "{x-key} left"
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from apps import letters

PREFIX = 5
"""Octets before each message: one that says whether it is compressed, and its length in four."""

OK, NOT_FOUND, INTERNAL, UNIMPLEMENTED = b"0", b"5", b"13", b"12"


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    assert scope["http_version"] == "2"
    assert "http.response.trailers" in scope["extensions"]
    call = Call(scope, receive, send)
    await _METHODS.get(scope["path"], _unknown)(call)


class Disconnected(Exception):
    pass


class Call:
    """One call: messages in, messages out, and a status."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.metadata = dict(scope["headers"])
        self.tls = scope["extensions"].get("tls", {})
        self._receive = receive
        self._send = send
        self._started = False

    async def messages(self) -> AsyncIterator[bytes]:
        received, more_body = bytearray(), True
        while more_body:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            received += message["body"]
            more_body = message["more_body"]
            start = 0
            while len(received) - start >= PREFIX:
                end = start + PREFIX + int.from_bytes(received[start + 1 : start + PREFIX], "big")
                if end > len(received):
                    break
                yield bytes(received[start + PREFIX : end])
                start = end
            del received[:start]

    async def start(self, *metadata: tuple[bytes, bytes], trailers: bool = True) -> None:
        headers = [(b"content-type", b"application/grpc"), *metadata]
        self._started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": headers,
                "trailers": trailers,
            }
        )

    async def send(self, message: bytes) -> None:
        if not self._started:
            await self.start()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, status: bytes = OK, *metadata: tuple[bytes, bytes]) -> None:
        if not self._started:
            await self.start()
        await self._send({"type": "http.response.body"})
        headers = [(b"grpc-status", status), *metadata]
        await self._send({"type": "http.response.trailers", "headers": headers})

    async def refuse(self, status: bytes, text: bytes) -> None:
        """Answer with the head alone ("Trailers-Only")."""
        await self.start((b"grpc-status", status), (b"grpc-message", text), trailers=False)
        await self._send({"type": "http.response.body"})


async def _reversed(call: Call) -> None:
    note = call.metadata.get(b"x-note", b"")
    await call.start((b"x-note", note))
    async for message in call.messages():
        await call.send(message[::-1])
    await call.end(OK, (b"x-note-at-the-end", note))


async def _count(call: Call) -> None:
    async for message in call.messages():
        for number in range(int(message)):
            await call.send(b"%d" % number)
    await call.end()


async def _sum(call: Call) -> None:
    count = size = 0
    async for message in call.messages():
        count += 1
        size += len(message)
    await call.send(b"%d %d" % (count, size))
    await call.end()


async def _each(call: Call) -> None:
    async for message in call.messages():
        await call.send(message)
    await call.end()


async def _refuse(call: Call) -> None:
    await call.refuse(NOT_FOUND, b"no such thing")


async def _break(call: Call) -> None:
    await call.send(b"so far")
    await call.end(INTERNAL, (b"grpc-message", b"it broke"))


async def _who(call: Call) -> None:
    async for _ in call.messages():
        await call.send((call.tls.get("client_cert_name") or "").encode())
    await call.end()


async def _wait(call: Call) -> None:
    key = call.metadata[b"x-key"].decode()
    letters.post(f"{key} deadline", call.metadata.get(b"grpc-timeout"))
    await call.send(b"began")
    try:
        async for _ in call.messages():
            pass
        message = await call._receive()
        assert message["type"] == "http.disconnect"
    except Disconnected:
        pass
    letters.post(f"{key} left")


async def _unknown(call: Call) -> None:
    await call.refuse(UNIMPLEMENTED, b"unknown method")


_METHODS: dict[str, Callable[[Call], Awaitable[None]]] = {
    "/Echo/Reversed": _reversed,
    "/Echo/Count": _count,
    "/Echo/Sum": _sum,
    "/Echo/Each": _each,
    "/Echo/Refuse": _refuse,
    "/Echo/Break": _break,
    "/Echo/Who": _who,
    "/Echo/Wait": _wait,
}
