"""The access log: an observer of requests that writes a line for each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

from ..config import LogConfig
from ..trace import RequestRecord
from .access_formats import Format, make_format
from .output import AppendedFile, StandardStream
from .writer import Writer

ACCESS_LOGGER = "h2asgi.access"

MAX_WAITING = 8 * 1024 * 1024
"""Characters of lines that may wait to be written: some 80,000 requests, which is more than a
process answers in a second."""

Write = Callable[[list[str]], None]


class AccessLog:
    """A ``Trace`` that writes a line per request, in ``format_``.

    The lines of one turn of the loop are handed to ``write`` together, at its end.
    """

    def __init__(
        self, write: Write, format_: Format, *, reopen: Callable[[], None] | None = None
    ) -> None:
        self._write = write
        self._format = format_
        self._reopen = reopen
        self._records: list[RequestRecord] = []

    def request_finished(self, record: RequestRecord) -> None:
        """Note the request; the line is written at the end of the loop's turn."""
        if not self._records:
            asyncio.get_running_loop().call_soon(self.flush)
        self._records.append(record)

    def reopen(self) -> None:
        """Open the file anew, since the old one was renamed."""
        self.flush()
        if self._reopen is not None:
            self._reopen()

    def flush(self) -> None:
        """Hand on what was noted."""
        if self._records:
            records, self._records = self._records, []
            self._write(self._format.lines(records))


@contextlib.contextmanager
def access_log(config: LogConfig) -> Iterator[AccessLog | None]:
    """Open the access log of a process of our own. None when it is off.

    It goes to its file, or to the logger ``h2asgi.access`` if ``--log-config`` gave that a
    handler, or to stdout. Raises ``ConfigurationError`` when the file cannot be opened, and for
    a format that makes no sense.
    """
    if config.access_log_file is None and logging.getLogger(ACCESS_LOGGER).handlers:
        yield embedded_access_log(config)
    elif not config.access_log or (config.access_log_file is None and sys.stdout is None):
        yield None  # Python has no stdout where it was closed
    else:
        with _written(config) as log:
            yield log


@contextlib.contextmanager
def _written(config: LogConfig) -> Iterator[AccessLog]:
    format_, path = make_format(config.access_format), config.access_log_file
    file = None if path is None else AppendedFile(path)
    output = StandardStream(sys.stdout) if file is None else file
    writer = Writer("the access log", output.write, MAX_WAITING)

    def write(lines: list[str]) -> None:
        if file is None and not writer.behind:
            # What the application has printed comes before the line of its request.
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        lines.append("")
        text = "\n".join(lines)
        writer.put(text, len(text), len(lines) - 1)

    def reopen() -> None:
        if file is not None:
            writer.before_next(file.reopen)

    log = AccessLog(write, format_, reopen=reopen)
    writer.start()
    try:
        yield log
    finally:
        log.flush()
        if writer.stop():
            if isinstance(output, AppendedFile):
                output.close()
            else:
                output.forget_unwritten()


def embedded_access_log(config: LogConfig) -> AccessLog | None:
    """Give an access log that goes to the embedding program's logging, if that wants it.

    Raises ``ConfigurationError``.
    """
    logger = logging.getLogger(ACCESS_LOGGER)
    if not config.access_log or not logger.isEnabledFor(logging.INFO):
        return None

    def write(lines: list[str]) -> None:
        for line in lines:
            logger.info("%s", line)

    return AccessLog(write, make_format(config.access_format, timestamps=False))
