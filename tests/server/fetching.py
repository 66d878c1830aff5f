"""One request on a connection of its own, without a library of HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

HANG = 30
"""Seconds after which nothing comes any more."""


async def fetch(address: Any, request: bytes) -> tuple[int, bytes, bytes]:
    """Give status, head and content of the answer on a new connection."""
    open_ = (
        asyncio.open_unix_connection(address)
        if isinstance(address, str)
        else asyncio.open_connection(*address)
    )
    async with asyncio.timeout(HANG):
        reader, writer = await open_
        writer.write(request)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    return int(head.split(b" ")[1]), head, content
