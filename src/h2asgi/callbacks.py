"""What a transport calls: ``asyncio.BufferedProtocol``, by its shape."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Callbacks(Protocol):
    """The methods of ``asyncio.BufferedProtocol``, in whatever class."""

    def connection_made(self, transport: asyncio.Transport, /) -> None:
        """Begin."""

    def connection_lost(self, exc: Exception | None, /) -> None:
        """End."""

    def get_buffer(self, sizehint: int, /) -> memoryview:
        """Give what input is to be written into."""

    def buffer_updated(self, nbytes: int, /) -> None:
        """Take the input that is there."""

    def eof_received(self, /) -> bool | None:
        """Take note that there is no more; says whether to keep the connection open."""

    def pause_writing(self, /) -> None:
        """Write no more for now."""

    def resume_writing(self, /) -> None:
        """Go on."""
