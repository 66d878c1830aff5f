"""Where code is: the calls that a thread or a task is in, in the words of a log line."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

DEPTH = 5
"""Calls that are named at the most, the innermost first."""

MAX_AWAITS = 100
"""Awaits that are followed: more than frameworks stack, and enough to come to their end."""

_NOT_THE_APPLICATION = (os.path.dirname(__file__) + os.sep, os.path.dirname(asyncio.__file__))


def awaits(task: asyncio.Task[Any]) -> list[FrameType]:
    """Give the calls that a task waits in, the innermost first; none if it has ended."""
    found: list[FrameType] = []
    waiting: Any = task.get_coro()
    for _ in range(MAX_AWAITS):
        if isinstance(waiting, CoroutineType):
            frame, waiting = waiting.cr_frame, waiting.cr_await
        elif isinstance(waiting, GeneratorType):
            frame, waiting = waiting.gi_frame, waiting.gi_yieldfrom
        elif isinstance(waiting, AsyncGeneratorType):
            frame, waiting = waiting.ag_frame, waiting.ag_await
        else:
            frame, waiting = None, _behind(waiting)
        if waiting is None and frame is None:
            break
        if frame is not None:
            found.append(frame)
    return found[::-1]


def _behind(awaited: Any) -> Any:
    """Give what runs behind an object of C that is awaited: an ``async for``, or another task."""
    for referent in gc.get_referents(awaited):
        if isinstance(referent, AsyncGeneratorType):
            return referent
        if isinstance(referent, asyncio.Task):
            return referent.get_coro()
    return None


def describe(frames: Sequence[FrameType]) -> str:
    """Name the calls of the application among ``frames``, or all if there are none."""
    places = [frame for frame in frames if not _is_ours(frame)] or frames
    return f"at {', called from '.join(map(_place, places[:DEPTH]))}"


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_NOT_THE_APPLICATION)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
