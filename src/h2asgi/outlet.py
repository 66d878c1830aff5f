"""The way of a file from the page cache to the socket, past engine and transport: ``sendfile``.

Over HTTP/1.1 in the clear a body of known length is its octets and nothing else, and one
response is sent at a time. So when everything before it is with the kernel, a file may follow
there by itself. A thread has the kernel copy what the socket takes without waiting
(``asgi.files``). The piece behind that is read, and goes the ordinary way: with it the transport
waits for the socket, under the deadlines and with the ends that all output has, and when it is
rid of it there is room for more.

Event loops have a ``sendfile`` too. uvloop's only says that it has none, and asyncio's is called
in the thread of the loop, where a disk would hold up everybody.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Final

from .output import Output
from .protocol.http1.engine import HTTP1Engine

SENDFILE: Final = hasattr(os, "sendfile")


class Outlet:
    """The outlet of one connection, see ``asgi.sink.Sink``."""

    __slots__ = ("_engine", "_output")

    def __init__(self, output: Output, engine: HTTP1Engine) -> None:
        self._output = output
        self._engine = engine

    def open(self, stream_id: int) -> Awaitable[int] | None:
        """See ``asgi.sink.Sink.outlet``."""
        return self._open(stream_id) if self._engine.may_pass(stream_id) else None

    async def _open(self, stream_id: int) -> int:
        """Wait until there is nothing that could be overtaken."""
        while (emptied := self._output.emptied()) is not None:
            await emptied
        if self._engine.unsent or not self._engine.may_pass(stream_id):
            return -1
        return self._output.outlet()

    def note_passed(self, stream_id: int, size: int) -> None:
        """Count octets that were written to it."""
        self._output.note_passed(size)
        self._engine.note_passed(stream_id, size)
