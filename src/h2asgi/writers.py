"""Those who wait in ``send()`` until a stream has room for more."""

from __future__ import annotations

import asyncio

from .errors import ClientDisconnected


class Writers:
    """The writers of one connection: of a stream there may be several."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def wait(self, stream_id: int) -> asyncio.Future[None]:
        """Wait for room; ends with ``ClientDisconnected`` if there will be none."""
        writer = self._loop.create_future()
        self._waiting.setdefault(stream_id, []).append(writer)
        return writer

    def wake(self, stream_id: int) -> None:
        """There is room."""
        for writer in self._waiting.pop(stream_id, ()):
            if not writer.done():
                writer.set_result(None)

    def fail(self, stream_id: int) -> None:
        """The stream is gone."""
        for writer in self._waiting.pop(stream_id, ()):
            if not writer.done():
                writer.set_exception(ClientDisconnected("the client is gone"))

    def wake_all(self) -> None:
        """Everything queued was written."""
        for stream_id in list(self._waiting):
            self.wake(stream_id)

    def fail_all(self) -> None:
        """The connection is gone."""
        for stream_id in list(self._waiting):
            self.fail(stream_id)
