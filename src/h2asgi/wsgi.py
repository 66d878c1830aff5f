"""WSGI applications (PEP 3333): each request in a thread, between ASGI messages, by a2wsgi.

a2wsgi makes the environment, calls the application and sends what it yields. Around that
stands here what a client could otherwise do to it, and what frameworks need over HTTP/2:

- A client that goes away while its response is sent would leave a thread waiting for ever for
  room in a queue that nobody empties; some dozen of them, and no request would be served. One that
  goes away while it uploads would look like one whose body is complete. The application's next
  chunk or read raises ``ClientDisconnected`` instead.
- ``x_real_ip`` and ``x-real-ip`` have the same name in the environment: fields with an underscore
  are left out, so that nobody speaks for a proxy.
- The input ends by itself, and says so (``wsgi.input_terminated``): over HTTP/2 a body need not
  have a content-length.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .errors import ClientDisconnected, ConfigurationError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Message = MutableMapping[str, Any]
WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

QUEUED_CHUNKS = 4
"""Chunks of a response between its thread and the event loop. They are the application's, of any
size, and the stream has a queue of its own behind them."""

INPUT_BUFFER = 64 * 1024
"""Octets that a read of the input may find waiting in the thread."""


class ASGIFromWSGI:
    """The ASGI application that calls ``app`` in one of so many ``threads``.

    Raises ``ConfigurationError`` when a2wsgi is not installed.
    """

    def __init__(self, app: WSGIApplication, threads: int) -> None:
        try:
            from a2wsgi.wsgi import WSGIResponder
        except ImportError:
            raise ConfigurationError(
                "--interface wsgi needs a2wsgi: pip install 'h2asgi[wsgi]'"
            ) from None
        self._responder: Any = WSGIResponder
        self._app = app
        self._threads = ThreadPoolExecutor(threads, "wsgi")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one scope; a WebSocket is refused, which is a 403."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            exchange = _Exchange(self._app, receive, send)
            responder = self._responder(exchange.call, self._threads, QUEUED_CHUNKS)
            try:
                await responder(_without_twins(scope), exchange.receive, exchange.send)
                exchange.check()
            finally:
                exchange.leave(responder.send_queue)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})


def _without_twins(scope: Any) -> Any:
    return {**scope, "headers": [pair for pair in scope["headers"] if b"_" not in pair[0]]}


class _Exchange:
    """One request: what its thread and the event loop tell each other of its end.

    ``failure`` is why nothing more comes or goes. It is set in the loop and raised in the thread.
    """

    def __init__(self, app: WSGIApplication, receive: Any, send: Any) -> None:
        self.failure: Exception | None = None
        self._app = app
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._receiving: asyncio.Task[Any] | None = None

    # In the event loop

    async def receive(self) -> Message:
        """Give the next part of the body; raises ``ClientDisconnected`` if there will be none."""
        self.check()
        self._receiving = asyncio.current_task()
        try:
            message: Message = await self._receive()
        except asyncio.CancelledError:
            raise ClientDisconnected("the request is over") from None
        finally:
            self._receiving = None
        if message["type"] == "http.disconnect":
            self.failure = ClientDisconnected("the client left before its request was complete")
            self.check()
        return message

    async def send(self, message: Message) -> None:
        """Send it, or drop it after a failure: the thread must not wait behind it."""
        if self.failure is not None:
            return
        try:
            await self._send(message)
        except Exception as error:
            self.failure = error

    def leave(self, queue: asyncio.Queue[Any]) -> None:
        """Let go of the thread wherever it waits, if the request ended before it."""
        if self.failure is None:
            self.failure = ClientDisconnected("the request is over")
        if self._receiving is not None:
            self._receiving.cancel()
        while not queue.empty():
            queue.get_nowait()

    def check(self) -> None:
        """Raise what ended the request, in the event loop or in the thread."""
        if self.failure is not None:
            raise self.failure

    # In the thread

    def call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        """Call the application as PEP 3333 has it."""
        environ["wsgi.input"] = io.BufferedReader(_Input(self._next_part), INPUT_BUFFER)
        environ["wsgi.input_terminated"] = True
        environ["wsgi.errors"] = sys.stderr

        def start(*arguments: Any) -> Callable[[bytes], None]:
            self.check()
            write = start_response(*arguments)

            def write_checked(chunk: bytes) -> None:
                self.check()
                write(chunk)

            return write_checked

        return self._checked(self._app(environ, start))

    def _next_part(self) -> Message:
        return asyncio.run_coroutine_threadsafe(self.receive(), self._loop).result()

    def _checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        try:
            for chunk in chunks:
                self.check()
                yield chunk
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


class _Input(io.RawIOBase):
    """The body of a request as a file, which gives what is there and waits when nothing is."""

    def __init__(self, next_part: Callable[[], Message]) -> None:
        self._next_part = next_part
        self._part = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Give no octets at the end alone."""
        while not self._part and self._more:
            message = self._next_part()
            self._part = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        into = memoryview(buffer).cast("B")
        count = min(len(into), len(self._part))
        into[:count] = self._part[:count]
        self._part = self._part[count:]
        return count
