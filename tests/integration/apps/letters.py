"""Letters between an application on a server's thread and the test that waits for it.

Each has a name that no other test uses. Both sides post, both sides wait.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

HANG = 60.0
"""Seconds after which a test is considered hung; nothing is expected to take as long."""

_lock = threading.Lock()
_letters: dict[str, Future[Any]] = {}


def _letter(name: str) -> Future[Any]:
    with _lock:
        return _letters.setdefault(name, Future())


def post(name: str, value: Any = None) -> None:
    letter = _letter(name)
    if not letter.done():
        letter.set_result(value)


def posted(name: str) -> bool:
    return _letter(name).done()


def wait(name: str, timeout: float = HANG) -> Any:
    """Wait in a thread."""
    return _letter(name).result(timeout)


async def arrival(name: str) -> Any:
    """Wait in a coroutine, which may be cancelled without harm to the letter."""
    return await asyncio.shield(asyncio.wrap_future(_letter(name)))
