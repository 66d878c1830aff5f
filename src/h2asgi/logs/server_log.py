"""The server's log: what its lines look like, and where they go in a process of our own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from ..config import LogConfig
from .access_formats import TIME_FORMAT, utc_time
from .access_log import ACCESS_LOGGER
from .escaping import escape
from .output import StandardStream
from .writer import Writer, flush_all

SERVER_LOGGER = "h2asgi"
ERROR_LOGGER = "h2asgi.error"

MAX_WAITING = 4 * 1024 * 1024
"""Characters of the server's log that may wait to be written: some hundreds of tracebacks."""

MAX_WAITING_RECORDS = 10_000
"""The same for handlers of ``--log-config``, in records of half a KiB and more."""

ROOM_FOR_ERRORS = 1_000
"""Of these, that lines of the access log leave to others that wait for the same handler."""

LEAVE_TIME = 0.5
"""Seconds for what waits to be written when a second signal ends the process at once."""

IDS = {"connection": "connection", "stream": "stream", "request_id": "request"}
"""What a record may say of its request, and what a line calls that."""

_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_PLAIN = "\x1b[0m"

Handled = tuple[list[logging.Handler], logging.LogRecord]
"""A record, and who is to handle it."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, default=str).encode


class LineFormatter(logging.Formatter):
    """One line per record; a traceback below it is indented, so that it cannot pass for one."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__(datefmt=TIME_FORMAT)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as time, level and message, and which request it is about."""
        time_, level = self.formatTime(record, self.datefmt), record.levelname.lower()
        colour = _COLOURS.get(record.levelno, "") if self._colours else ""
        message = escape(record.getMessage() + _about(record))
        line = f"{time_} {colour}{level:<8}{_PLAIN if colour else ''} {message}"
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            line += "".join(f"\n    {escape(part)}" for part in traceback.split("\n"))
        return line


def _about(record: logging.LogRecord) -> str:
    ids = [f"{word} {record.__dict__[key]}" for key, word in IDS.items() if key in record.__dict__]
    return f" ({', '.join(ids)})" if ids else ""


class JSONFormatter(logging.Formatter):
    """One JSON object per record, in ASCII; a traceback is one text in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, logger, message and process, the request's ids and a traceback."""
        entry: dict[str, Any] = {
            "time": utc_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        entry.update((key, record.__dict__[key]) for key in IDS if key in record.__dict__)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry)


class StreamOutput(logging.Handler):
    """Writes to ``stream``, in a thread while its ``writer`` is started."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        output = StandardStream(stream)
        self.writer: Writer[str] = Writer(
            "the server's log", output.write, MAX_WAITING, write_soon=output.write_soon
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Format here, since that does not wait; records must not keep frames alive."""
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        self.writer.put(text, len(text), 1)


class Detached(logging.Handler):
    """Stands for the ``handlers`` of a logger, which are called by the thread of ``writer``.

    Loggers with a handler in common share it, so that the handler gets records in order; ``leave``
    is the room in it that belongs to the others.
    """

    def __init__(
        self, handlers: list[logging.Handler], writer: Writer[Handled], *, leave: int
    ) -> None:
        super().__init__()
        self._handlers = handlers
        self._writer = writer
        self._leave = leave

    def emit(self, record: logging.LogRecord) -> None:
        """Fix the message, whose arguments may change; the rest stays for the handlers."""
        try:
            record.msg, record.args = record.getMessage(), None
        except Exception:
            self.handleError(record)
            return
        self._writer.put((self._handlers, record), 1, 1, leave=self._leave)


def _handle_all(items: list[Handled]) -> None:
    for handlers, record in items:
        for target in handlers:
            if record.levelno >= target.level:
                try:
                    target.handle(record)
                except Exception:  # of one handler: neither others nor the thread end by it
                    target.handleError(record)


def configure(config: LogConfig) -> None:
    """Send the server's log to stderr. For a process of our own only, never when embedded.

    Raises ``ConfigurationError`` for a ``--log-config`` that does not work.
    """
    stream = sys.stderr
    output = StreamOutput(stream)
    if config.format == "json":
        output.setFormatter(JSONFormatter())
    else:
        colours = stream.isatty() and "NO_COLOR" not in os.environ
        output.setFormatter(LineFormatter(colours=colours))
    for name in (SERVER_LOGGER, ERROR_LOGGER, ACCESS_LOGGER):
        logger = logging.getLogger(name)
        for old in logger.handlers[:]:
            logger.removeHandler(old)
    logger = logging.getLogger(SERVER_LOGGER)
    logger.addHandler(output)
    logger.setLevel(config.level.upper())
    logger.propagate = False
    if config.config_file is not None:
        # An access line that has a handler of its own is no line of the server's log.
        logging.getLogger(ACCESS_LOGGER).propagate = False
        from .dict_config import apply_dict_config  # which needs libraries that most do not

        apply_dict_config(config.config_file)


@contextlib.contextmanager
def in_background(config: LogConfig) -> Iterator[None]:
    """While entered, whoever logs does not wait until it is written."""
    loggers = [logging.getLogger(name) for name in (SERVER_LOGGER, ERROR_LOGGER, ACCESS_LOGGER)]
    if config.config_file is not None:
        loggers.append(logging.getLogger())
    writers: set[Writer[Any]] = set()
    foreign = []
    for logger in loggers:
        handlers = logger.handlers
        if len(handlers) == 1 and isinstance(handlers[0], StreamOutput):
            writers.add(handlers[0].writer)
        elif handlers:
            foreign.append(logger)
    before = {}
    for group in _by_handlers(foreign):
        writer: Writer[Handled] = Writer(
            "the log of --log-config", _handle_all, MAX_WAITING_RECORDS, daemon=False
        )
        writers.add(writer)
        for logger in group:
            before[logger] = writer, logger.handlers[:]
            # A flood of requests must not keep errors from being written.
            leave = ROOM_FOR_ERRORS if logger.name == ACCESS_LOGGER else 0
            logger.handlers[:] = [Detached(logger.handlers[:], writer, leave=leave)]
    for each in writers:
        each.start()
    try:
        yield
    finally:
        stopped = {each for each in writers if each.stop()}
        for logger, (writer, handlers) in before.items():
            if writer in stopped:
                logger.handlers[:] = handlers


def _by_handlers(loggers: list[logging.Logger]) -> list[list[logging.Logger]]:
    """Put those together that have a handler in common, by way of others perhaps."""
    groups: list[list[logging.Logger]] = []
    for logger in loggers:
        apart, together = [], [logger]
        for group in groups:
            handlers = {handler for one in group for handler in one.handlers}
            if handlers.isdisjoint(logger.handlers):
                apart.append(group)
            else:
                together += group
        groups = [*apart, together]
    return groups


def flush() -> None:
    """Push out whatever is buffered, come what may: the process is about to end."""
    flush_all(LEAVE_TIME)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
