"""The server's log and the access log.

Both escape every control character: what a peer sends cannot forge a line, or
reach the operator's terminal as a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TextIO

from .config import LogConfig
from .errors import ConfigurationError
from .trace import RequestRecord

SERVER_LOGGER = "h2asgi"
ACCESS_LOGGER = "h2asgi.access"

MAX_LOGGED_TARGET = 8000
"""Octets of a target that a line shows: as much as RFC 9112 section 3 asks every server to take.
Longer ones are cut, since a client that sends nothing else would fill the disk."""

MAX_LOGGED_METHOD = 32
"""Octets of a method: the longest that is registered has 17 (RFC 9110 section 16.1.1)."""

_server_logger = logging.getLogger(SERVER_LOGGER)

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"

# C0, DEL, C1, the line separators that some viewers obey, the marks that turn
# text around, and surrogates, which no stream can encode.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_TARGET = re.compile(rb"[^\x21\x23-\x5b\x5d-\x7e]")
_SAFE_IN_TARGET = _UNSAFE_IN_TARGET.sub(b"", bytes(range(256)))
_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"))

_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_PLAIN = "\x1b[0m"


def escape(text: str) -> str:
    """Write every character that could act on a terminal or a log as \\xNN or \\uNNNN."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class LineFormatter(logging.Formatter):
    """One line per record; a traceback below it is indented, so that it cannot pass for one."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__(datefmt=TIME_FORMAT)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as time, level and message."""
        time_, level = self.formatTime(record, self.datefmt), record.levelname.lower()
        colour = _COLOURS.get(record.levelno, "") if self._colours else ""
        line = f"{time_} {colour}{level:<8}{_PLAIN if colour else ''} {escape(record.getMessage())}"
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            line += "".join(f"\n    {escape(part)}" for part in traceback.split("\n"))
        return line


def configure(config: LogConfig) -> None:
    """Send the server's log to stderr. For a process of our own only, never when embedded."""
    stream = sys.stderr
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    output = logging.StreamHandler(stream)
    output.setFormatter(LineFormatter(colours=colours))
    logger = logging.getLogger(SERVER_LOGGER)
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(output)
    logger.setLevel(config.level.upper())
    logger.propagate = False


def flush() -> None:
    """Push out whatever is buffered, come what may: the process is about to end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()


@contextlib.contextmanager
def access_log(config: LogConfig) -> Iterator[AccessLog | None]:
    """Open the access log of a process of our own: its file, or stdout. None when it is off.

    Raises ``ConfigurationError`` when the file cannot be opened.
    """
    if not config.access_log or (config.access_log_file is None and sys.stdout is None):
        yield None  # Python has no stdout where it was closed
        return
    output = _Output(config.access_log_file)
    log = AccessLog(output.write, timestamps=True, reopen=output.reopen)
    try:
        yield log
    finally:
        log.flush()
        output.close()


class _Output:
    """The file at ``path``, or stdout."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._stream = sys.stdout if path is None else _open_to_append(path)

    def write(self, lines: list[str]) -> None:
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def reopen(self) -> None:
        if self._path is None:
            return
        try:
            new = _open_to_append(self._path)
        except ConfigurationError as error:
            _server_logger.error("%s: the open one is written to", error)
            return
        self.close()
        self._stream = new

    def close(self) -> None:
        if self._path is None:
            _forget_unwritten(self._stream)
            return
        with contextlib.suppress(OSError):  # which was said before
            self._stream.close()


def _forget_unwritten(stream: TextIO) -> None:
    """Have a stream that nobody reads any more take what it still holds.

    The interpreter would try once more at its end, complain and exit with 120.
    """
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    except ValueError:
        pass  # closed


def embedded_access_log(config: LogConfig) -> AccessLog | None:
    """Give an access log that goes to the embedding program's logging, if that wants it."""
    logger = logging.getLogger(ACCESS_LOGGER)
    if not config.access_log or not logger.isEnabledFor(logging.INFO):
        return None

    def write(lines: list[str]) -> None:
        for line in lines:
            logger.info("%s", line)

    return AccessLog(write, timestamps=False)


def _open_to_append(path: str) -> TextIO:
    try:
        return open(path, "a", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the access log {path!r}: {error.strerror}; "
            "choose another --access-log-file"
        ) from error


class AccessLog:
    """A ``Trace`` that writes a line per request.

    The lines of one turn of the loop are written together, at its end. A line
    is, for instance::

        2026-01-31T12:00:00+0000 192.0.2.7:50123 "GET /?q=1 HTTP/2" 200 5120 1.4ms

    Fields are client (``-`` on a Unix socket), method, target, protocol, status
    (``-`` when no response was begun), octets of body and milliseconds. Inside
    the quotes, quotes and backslashes are escaped too.
    """

    def __init__(
        self,
        write: Callable[[list[str]], None],
        *,
        timestamps: bool,
        reopen: Callable[[], None] | None = None,
    ) -> None:
        self._write = write
        self._reopen = reopen
        self._timestamps = timestamps
        self._records: list[RequestRecord] = []
        self._lost = 0  # lines since it could last be written
        self._second = 0
        self._time = ""

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
        """Write what was noted."""
        records, self._records = self._records, []
        if not records:
            return
        timestamp = self._timestamp()
        try:
            self._write([timestamp + format_request(record) for record in records])
        except (OSError, ValueError) as error:
            self._note_loss(len(records), error)
        else:
            if self._lost:
                self._note_recovery()

    def _note_loss(self, count: int, error: OSError | ValueError) -> None:
        """A full disk or a reader that is gone: said once, and no affair of the requests."""
        if not self._lost:
            text = getattr(error, "strerror", None) or error
            _server_logger.warning("the access log cannot be written: %s; going on without", text)
        self._lost += count

    def _note_recovery(self) -> None:
        # What the stream still held may have been written after all.
        text = "the access log can be written again: up to %d lines were lost"
        _server_logger.warning(text, self._lost)
        self._lost = 0

    def _timestamp(self) -> str:
        if not self._timestamps:
            return ""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._time = time.strftime(TIME_FORMAT, time.localtime(now)) + " "
        return self._time


def format_request(record: RequestRecord) -> str:
    """Write one request as in ``AccessLog``, without the time. The result is ASCII."""
    method, target = record.method, _quoted(record.target)
    if method not in _KNOWN_METHODS:
        method = _quoted(method.encode("utf-8", "surrogatepass"), MAX_LOGGED_METHOD)
    return (
        f'{_address(record.client)} "{method} {target} HTTP/{record.http_version}" '
        f"{record.status or '-'} {record.body_size} {record.duration * 1000:.1f}ms"
    )


@lru_cache(maxsize=1024)  # a client sends many requests; some hundred octets each
def _address(client: tuple[str, int] | None) -> str:
    if client is None:
        return "-"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quoted(text: bytes, limit: int = MAX_LOGGED_TARGET) -> str:
    if len(text) > limit:
        text = text[:limit] + b"..."
    if not text.translate(None, _SAFE_IN_TARGET):
        return text.decode("ascii")
    return _UNSAFE_IN_TARGET.sub(lambda match: b"\\x%02x" % ord(match[0]), text).decode("ascii")
