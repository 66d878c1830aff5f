"""Sending a file as the body of a response, or as a part of it, piece after piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from ..errors import IllegalMessage
from .coroutines import see_out
from .files import FIRST_PIECE, FileReader, Location

T = TypeVar("T")


class _Response(Protocol):
    """What ``response.Response`` offers here."""

    def begin_file(self) -> bool: ...

    def end_file(self) -> None: ...

    def check_wanted(self) -> None: ...

    def judge_length(self, size: int, more_body: bool) -> None: ...

    def outlet(self) -> Awaitable[int] | None: ...

    def note_passed(self, size: int) -> None: ...

    def send_body(self, message: dict[str, Any]) -> Awaitable[None] | None: ...

    def abandon(self) -> None: ...

    def refusal(self, reason: str) -> IllegalMessage: ...


async def send_file(
    response: _Response, name: str, locate: Callable[[], Location], more_body: bool
) -> None:
    """Send a file as a body; nothing is written before it is open and of the right length."""
    reader = FileReader()
    wanted = response.begin_file()
    try:
        await _reading(response, name, reader.open(locate, FIRST_PIECE if wanted else 0))
        response.judge_length(reader.size, more_body)
        while reader.left and wanted:
            opening = response.outlet() if reader.left < reader.size else None
            if opening is not None and (outlet := await opening) >= 0:
                response.note_passed(await _pouring(response, name, reader.pour(outlet)))
            data = await _reading(response, name, reader.read(ahead=opening is None))
            more = more_body or reader.left > 0
            await see_out(response.send_body({"body": data, "more_body": more}))
        if not (reader.size and wanted):
            await see_out(response.send_body({"more_body": more_body}))
    finally:
        reader.close()
        response.end_file()


async def _pouring(response: _Response, name: str, work: Awaitable[int]) -> int:
    """Await what writes past everybody else; if that is cancelled, nobody knows how much went."""
    try:
        return await _reading(response, name, work)
    except asyncio.CancelledError:
        response.abandon()
        raise


async def _reading(response: _Response, name: str, work: Awaitable[T]) -> T:
    """Await work on a file, and see that what comes of it is still wanted."""
    try:
        result = await work
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error  # without the path once more
        raise response.refusal(f"{name}: {reason}") from error
    response.check_wanted()
    return result
