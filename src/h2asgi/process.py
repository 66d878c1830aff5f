"""What a process of our own needs besides a server: an event loop, signals, an end.

None of it is used when a program embeds ``Server`` in a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from types import FrameType
from typing import Any, Literal, NoReturn, Self

from . import logs
from .errors import ConfigurationError

logger = logging.getLogger("h2asgi")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

LEFTOVER_TIMEOUT = 1.0
"""Seconds for tasks and generators that the application left behind to end."""

THREAD_TIMEOUT = 2.0
"""Seconds for the application's threads to end. The interpreter would wait for ever."""

COLLECTION_THRESHOLD = 10_000
"""Objects more than before at which the garbage collector looks at the young ones (Python's own
figure is 700 or 2,000). Requests in flight have some dozens each, and hardly ever leave garbage:
with the lower figure every burst of them is searched many times over. What an application leaves in
cycles lies about for longer, so it is not higher still."""

KEPT_WHEN_FREED = 16 * 1024 * 1024
KEPT_PIECE = 4 * 1024 * 1024
"""Octets that the C library keeps of what was freed, and the largest piece among them. Bodies are
such pieces: giving each back to the kernel and having it again as new pages, emptied one by one,
took a third of the time of an upload."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def usable_cores() -> int:
    """How many processes can calculate at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loop_choice(choice: Literal["auto", "asyncio", "uvloop"]) -> Literal["asyncio", "uvloop"]:
    """Say which loop ``--loop`` means here; raises ``ConfigurationError`` if it is not there."""
    if choice == "asyncio":
        return "asyncio"
    try:
        import uvloop  # noqa: F401
    except ImportError:
        if choice == "uvloop":
            raise ConfigurationError(
                "--loop uvloop needs uvloop: pip install 'h2asgi[fast]'"
            ) from None
        return "asyncio"
    return "uvloop"


def new_event_loop(choice: Literal["auto", "asyncio", "uvloop"]) -> asyncio.AbstractEventLoop:
    """Make the loop; it is a selector loop on Windows too, since listeners use ``add_reader``."""
    if loop_choice(choice) == "asyncio":
        return asyncio.SelectorEventLoop()
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def loop_name(loop: asyncio.AbstractEventLoop) -> str:
    """Give the name by which ``--loop`` chooses it."""
    return type(loop).__module__.partition(".")[0]


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` and close the loop, without waiting for threads as ``asyncio.run`` does."""
    loop.set_exception_handler(log_loop_error)
    try:
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end_leftovers())
        finally:
            loop.close()


async def _end_leftovers() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LEFTOVER_TIMEOUT)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), LEFTOVER_TIMEOUT)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of the loop: what a peer's network did is no error of ours."""
    error = context.get("exception")
    message = context.get("message", "error in the event loop")
    network = isinstance(error, OSError) and ("transport" in context or "protocol" in context)
    # asyncio closes a transport twice when a reset comes while writing resumes; the second time
    # there is nothing left to close.
    twice = isinstance(error, AttributeError) and "._call_connection_lost(" in message
    if network or twice:
        logger.debug("%s: %s", message, error)
    else:
        logger.error("%s", message, exc_info=error)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """While entered, garbage is looked for rarely, and never among what lives now.

    A full collection would otherwise stop every request while it walks through
    all modules. An application that has raised the threshold itself, or has
    turned collection off, has its way.
    """
    young, *older = gc.get_threshold()
    gc.collect()
    gc.freeze()
    if 0 < young < COLLECTION_THRESHOLD:
        gc.set_threshold(COLLECTION_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)
        gc.unfreeze()


def keep_freed_memory() -> None:
    """Have glibc keep some memory for the next body, unless the environment says what it is to do.

    Other C libraries have no such setting, and are left alone.
    """
    if sys.platform != "linux" or any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ
    ):
        return
    import ctypes  # 4 ms, which only a server needs to spend

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_WHEN_FREED)
        mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE)


class StopSignals:
    """While entered, the first of ``numbers`` sets ``received``.

    The second of them ends the process, unless it is ``patient``, and so does SIGQUIT. Its exit
    code is then 128 and the signal's number, as shells have it. Outside the main thread, where
    Python allows no signal handlers, nothing is installed.
    """

    def __init__(
        self, numbers: Sequence[signal.Signals] = STOP_SIGNALS, *, patient: bool = False
    ) -> None:
        self.received = asyncio.Event()
        self._patient = patient
        self._numbers = numbers
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self._numbers:
            self._previous[number] = signal.getsignal(number)
            # The loop's own way wakes it up without a race, but calls nothing while
            # the application blocks it; a plain handler is called all the same.
            with contextlib.suppress(NotImplementedError):
                self._loop.add_signal_handler(number, nothing)
            signal.signal(number, self._receive)
        if hasattr(signal, "SIGQUIT"):
            self._previous[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, _leave_now)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_signal_handler(number)
            signal.signal(number, previous)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping and not self._patient:
            _leave_now(number, None)
        self._stopping = True
        self._loop.call_soon_threadsafe(self.received.set)


def _leave_now(number: int, _frame: FrameType | None) -> None:
    logs.flush()
    os._exit(128 + number)


def nothing(*_: object) -> None:
    """Stand in for a handler. Started programs do not inherit it, as they would SIG_IGN."""


class Terminal:
    """The terminal that the process belongs to: SIGHUP says that it is gone, or to reload.

    Who has had SIGHUP ignored (nohup) wants to outlive it. To be made before there is a handler.
    """

    def __init__(self) -> None:
        outlived = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._had_one = not outlived and _has_terminal()

    def is_gone(self) -> bool:
        """Whether there was one and is none any more."""
        return self._had_one and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def hanging_threads() -> list[str]:
    """Wait a while for the threads that would keep the process from ending; name those left."""
    deadline = time.monotonic() + THREAD_TIMEOUT
    hanging = []
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.daemon:
            continue
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            hanging.append(thread.name)
    return hanging


def leave(code: int, threads: list[str]) -> NoReturn:
    """End the process by force, since ``threads`` do not end."""
    logger.warning("leaving threads that do not end: %s", ", ".join(threads))
    logs.flush()
    os._exit(code)
