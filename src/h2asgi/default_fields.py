"""The fields that every response gets: ``date`` and ``server``."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate


class DefaultFields:
    """Fields that every response gets; ``fields`` is replaced once a second for ``date``."""

    def __init__(self, *, server: bool, date: bool) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self._server = [(b"server", b"h2asgi")] if server else []
        self._date = date
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the fields, now and whenever the second changes (RFC 9110 section 6.6.1)."""
        self.fields = self._server
        if self._date:
            now = time.time()
            date = formatdate(int(now), usegmt=True).encode("ascii")
            self.fields = [(b"date", date), *self._server]
            self._timer = loop.call_later(1 - now % 1, self.start, loop)

    def stop(self) -> None:
        """Leave the fields as they are."""
        if self._timer is not None:
            self._timer.cancel()
