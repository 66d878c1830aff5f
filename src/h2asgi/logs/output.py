"""Where lines go: a standard stream, or a file that is appended to."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
from typing import Protocol, TextIO

from ..errors import ConfigurationError

logger = logging.getLogger("h2asgi")

PIPE_PIECE = getattr(select, "PIPE_BUF", 512)
"""Octets that a pipe takes at once or not at all. So the lines of several workers do not get into
each other, and whoever has asked whether the pipe is ready for writing does not wait."""

PATIENCE = 1.0
"""Seconds, once, that somebody without a thread for it waits for a reader: the supervisor, say,
whose workers could not be replaced meanwhile."""


class Output(Protocol):
    """A place for text; raises ``OSError`` or ``ValueError`` when it cannot be written."""

    def write(self, texts: list[str]) -> None:
        """Write all of it, however long that takes."""


class StandardStream:
    """``stream`` is stdout or stderr, or what somebody has put in its place.

    Its descriptor is written to, past its buffer: a thread that is stuck with the lock of that
    buffer would make the interpreter abort at its end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._patience = PATIENCE
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            self._fd = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = -1
        self._is_pipe = self._fd >= 0 and stat.S_ISFIFO(os.fstat(self._fd).st_mode)

    def write(self, texts: list[str]) -> None:
        """See ``Output``."""
        if self._fd < 0:
            self._stream.write("".join(texts))
            self._stream.flush()
            return
        rest = self._encode(texts)
        while rest:
            try:
                rest = rest[os.write(self._fd, _piece(rest) if self._is_pipe else rest) :]
            except BlockingIOError:  # another process, which has it too, has set that
                select.select([], [self._fd], [])

    def write_soon(self, texts: list[str]) -> None:
        """Do the same, but do not wait for a reader for longer than ``PATIENCE``."""
        if self._fd < 0 or os.name == "nt":
            self.write(texts)
            return
        rest = self._encode(texts)
        while rest:
            if not select.select([], [self._fd], [], self._patience)[1]:
                self._patience = 0.0  # until somebody reads again
                raise TimeoutError("nobody reads it")
            rest = rest[os.write(self._fd, _piece(rest)) :]
        self._patience = PATIENCE

    def _encode(self, texts: list[str]) -> memoryview:
        return memoryview("".join(texts).encode(self._encoding, "backslashreplace"))

    def forget_unwritten(self) -> None:
        """Have a stream that nobody reads any more take what it still holds.

        The interpreter would try once more at its end, complain and exit with 120.
        """
        try:
            self._stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except ValueError:
            pass  # closed


def _piece(rest: memoryview) -> memoryview:
    """Give as many whole lines as a pipe takes at once, or a part of one that is longer."""
    if len(rest) <= PIPE_PIECE:
        return rest
    return rest[: bytes(rest[:PIPE_PIECE]).rfind(b"\n") + 1 or PIPE_PIECE]


class AppendedFile:
    """The file at ``path``; raises ``ConfigurationError`` when it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = _open_to_append(path)

    def write(self, texts: list[str]) -> None:
        """See ``Output``."""
        data = memoryview("".join(texts).encode("ascii", "backslashreplace"))
        while data:
            data = data[os.write(self._fd, data) :]

    def reopen(self) -> None:
        """Open it anew, since the old one was renamed."""
        try:
            new = _open_to_append(self._path)
        except ConfigurationError as error:
            logger.error("%s: the open one is written to", error)
            return
        self.close()
        self._fd = new

    def close(self) -> None:
        """Give the descriptor back."""
        with contextlib.suppress(OSError):  # which was said before
            os.close(self._fd)


def _open_to_append(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the access log {path!r}: {error.strerror}; "
            "choose another --access-log-file"
        ) from error
