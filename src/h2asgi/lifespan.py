"""The application's startup and shutdown (ASGI lifespan specification 2.0)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal

from .errors import ApplicationError, IllegalMessage

logger = logging.getLogger("h2asgi")

CANCEL_TIMEOUT = 1.0
"""Seconds for a cancelled lifespan to end. One that swallows the cancellation is left behind."""


class Lifespan:
    """One lifespan for the whole server, whatever protocols it speaks.

    ``state`` is what the application put there for its requests, or None
    when it runs without a lifespan.
    """

    def __init__(self, app: Callable[..., Any], mode: Literal["auto", "on", "off"]) -> None:
        self.state: dict[str, Any] | None = None
        self._app = app
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._startup_received = False
        self._shutdown = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Each is resolved with the ``message`` of a failure, None for success.
        self._started: asyncio.Future[str | None] = loop.create_future()
        self._stopped: asyncio.Future[str | None] = loop.create_future()

    async def startup(self) -> None:
        """Run the application's startup, for as long as it takes.

        Raises ``ApplicationError`` when the application says that it failed,
        and in mode "on" when the application has no lifespan, or raised instead of answering.
        """
        if self._mode == "off":
            return
        state: dict[str, Any] = {}
        self._task = asyncio.get_running_loop().create_task(self._run(state))
        try:
            await asyncio.wait((self._task, self._started), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if self._started.done() and self._started.result() is None:
                await self.shutdown(CANCEL_TIMEOUT)  # it is up, and that is to be undone
            else:
                await self.cancel()
            raise
        if not self._started.done():
            self._go_without(self._task)
            return
        failure = self._started.result()
        if failure is not None:
            error = _exception(self._task)
            await self.cancel()
            _log_failure("startup", failure)
            raise ApplicationError("the application's startup failed") from error
        self.state = state
        self._task.add_done_callback(self._ended)

    async def shutdown(self, timeout: float) -> None:
        """Run the application's shutdown for ``timeout`` seconds at the most."""
        task = self._task
        if task is None or task.done():
            return
        self._shutdown.set()
        await asyncio.wait((task,), timeout=timeout)
        if self._stopped.done() and self._stopped.result() is not None:
            _log_failure("shutdown", self._stopped.result() or "")
        elif not task.done() and not self._stopped.done():
            logger.error("the application's shutdown took more than %g s: going on", timeout)
        await self.cancel()

    async def cancel(self) -> None:
        """End the lifespan where it stands."""
        task = self._task
        if task is None:
            return
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_TIMEOUT)
        _exception(task)  # reported already, and now asyncio knows that

    async def _run(self, state: dict[str, Any]) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._startup_received:
            self._startup_received = True
            return {"type": "lifespan.startup"}
        await self._shutdown.wait()
        self._shutdown.clear()  # the message is given once
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind, _, outcome = str(message["type"]).removeprefix("lifespan.").partition(".")
        result = {"startup": self._started, "shutdown": self._stopped}.get(kind)
        if result is None or outcome not in ("complete", "failed"):
            raise IllegalMessage(f"{message['type']!r} is no lifespan message")
        if result.done() or (kind == "shutdown" and not self._started.done()):
            raise IllegalMessage(f"{message['type']!r} is not allowed here")
        result.set_result(str(message.get("message", "")) if outcome == "failed" else None)

    def _go_without(self, task: asyncio.Task[None]) -> None:
        """The application ended without an answer: it has no lifespan, by the specification."""
        error = _exception(task)
        if self._mode == "on":
            if error is not None:
                logger.error("the application's lifespan raised", exc_info=error)
            if error is not None and self._startup_received:
                raise ApplicationError("the application's startup failed") from error
            raise ApplicationError(
                "the application has no lifespan, which --lifespan on asks for"
            ) from error
        # One that read lifespan.startup first more likely broke than lacks the protocol.
        level = logging.WARNING if self._startup_received and error is not None else logging.DEBUG
        logger.log(level, "going on without the application's lifespan", exc_info=error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = _exception(task)
        if error is not None and not self._stopped.done():
            logger.error("the application's lifespan raised", exc_info=error)


def _exception(task: asyncio.Task[None]) -> BaseException | None:
    """What ``task`` has raised, if it has ended so."""
    return task.exception() if task.done() and not task.cancelled() else None


def _log_failure(phase: str, message: str) -> None:
    """Log the application's own words, a line each: frameworks put a whole traceback there."""
    logger.error("the application's %s failed%s", phase, ":" if message else "")
    for line in message.splitlines():
        logger.error("  %s", line)
