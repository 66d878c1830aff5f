"""What of an ``HTTPCycle`` waits: ``receive()``, ``send()`` and the application's task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol

from ..errors import ClientDisconnected
from .scope import Application, Message, Scope
from .wakeup import Wakeup

logger = logging.getLogger("h2asgi.error")

_ERROR_BODY: Final = b"Internal Server Error"
_ERROR_FIELDS: Final = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_ERROR_BODY)),
]


class _Cycle(Protocol):
    """What ``http.HTTPCycle`` offers here."""

    scope: Scope

    def receive(self) -> Awaitable[Message]: ...

    def send(self, message: Mapping[str, Any], /) -> Awaitable[None]: ...

    @property
    def body(self) -> Wakeup: ...

    @property
    def over(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    def next_message(self) -> Message | None: ...

    def take(self, message: Mapping[str, Any]) -> Awaitable[None] | None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...

    def ended(self, *, failed: bool) -> None: ...

    def completed(self) -> bool: ...

    def judge_return(self) -> None: ...

    def judge_cancellation(self, error: BaseException) -> None: ...

    def begin_error(self) -> bool: ...

    def log_exception(self, error: BaseException) -> None: ...

    def request_line(self) -> str: ...

    def log_ids(self) -> dict[str, object]: ...


async def receive(cycle: _Cycle) -> Message:
    """See ``HTTPCycle.receive``."""
    while (message := cycle.next_message()) is None:
        await cycle.body.wait()
    return message


async def send(cycle: _Cycle, message: Mapping[str, Any]) -> None:
    """See ``HTTPCycle.send``."""
    sent = cycle.take(message)
    if sent is None:
        return
    if not cycle.over:
        await sent
        return
    try:
        await sent
    finally:
        cycle.finish()


async def see_out(sent: Awaitable[None] | None) -> None:
    """Await what a ``Sink`` gives for octets that were queued, if there is anything."""
    if sent is not None:
        await sent


async def run(cycle: _Cycle, app: Application) -> None:
    """See ``HTTPCycle.run``."""
    try:
        try:
            await app(cycle.scope, cycle.receive, cycle.send)
        except Exception as error:
            cycle.log_exception(error)
        except GeneratorExit:
            raise  # the loop is no more, so that nobody can be answered
        except BaseException as error:
            if _stops(error):
                if isinstance(error, asyncio.CancelledError):
                    cycle.judge_cancellation(error)
                cycle.abandon()
                raise
            cycle.log_exception(error)
        else:
            if cycle.completed():
                return
            cycle.judge_return()
        if not cycle.finished:
            await _conclude(cycle)
    except BaseException:
        cycle.ended(failed=True)
        raise
    cycle.ended(failed=False)


def _stops(error: BaseException) -> bool:
    """Whether an exception is for the task or the process.

    All others are the application's mistakes: ``sys.exit()`` in a request, which would end it for
    everybody, and the cancellation of something that it awaits, while nobody cancels it.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


async def _conclude(cycle: _Cycle) -> None:
    """Give the client an answer if it has none, or an end if it has half of one."""
    if not cycle.begin_error():
        return
    try:
        await cycle.send({"type": "http.response.start", "status": 500, "headers": _ERROR_FIELDS})
        await cycle.send({"type": "http.response.body", "body": _ERROR_BODY})
    except ClientDisconnected:
        logger.debug("%s: gone before its answer", cycle.request_line(), extra=cycle.log_ids())
