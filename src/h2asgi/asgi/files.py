"""A file as a body, read in pieces (``asgi.response``).

A disk, or a network behind a file system, may take its time. So the thread of the event loop
takes of a file only what the kernel has in memory, and says that it does not want to wait for
more. From the first time that there is not enough, the file is read in other threads, a piece
ahead of the client.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

FIRST_PIECE = 96 * 1024
"""Octets read together with the opening of a file, so that most files cost one visit to a thread;
and what a client that takes nothing makes us hold of each: it is more than may be queued without
waiting, or a second piece would be read, and a third ahead of it."""

LARGEST_PIECE = 256 * 1024
"""Octets read at a time further on. Pieces grow up to here as the client takes them; larger ones
save no more time than they cost in memory."""

MOST_POURED: Final = 4 * 1024 * 1024
"""Octets that the kernel copies in one visit to a thread: a client that takes them as fast as they
come would keep the thread from others, and its leaving would not be heard of."""

WAITING_PIECE: Final = 16 * 1024
"""Octets read behind those, to wait for the client with: few, as they are copied."""


_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)  # Linux


class _Scratch(threading.local):
    """What the kernel copies into, since it makes no ``bytes``: one for each thread with a loop."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(LARGEST_PIECE))


_scratch: Final = _Scratch()


class _FilePosition(Protocol):
    def fileno(self) -> int: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, /) -> int: ...


Location = tuple[int, int, int]
"""A descriptor of our own, the offset of the first octet to send, and how many there are."""


def whole_file(path: str) -> Location:
    """Open a file; raises ``OSError``, and ``ValueError`` for what cannot be a path."""
    # Without O_NONBLOCK a FIFO would be waited for until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    return _locate(descriptor, lambda size: (0, size))


def part_of_file(file: Any, offset: int | None, count: int | None) -> Location:
    """Find the octets of an open file that ``http.response.zerocopysend`` names.

    ``file`` has a ``fileno()``, or is one. Without ``offset`` they begin at its position, which
    then moves behind them; without ``count`` they go to its end. Raises as ``whole_file``, and
    ``EOFError`` if there are fewer octets.
    """

    def find(size: int) -> tuple[int, int]:
        start = _tell(file) if offset is None else offset
        length = max(0, size - start) if count is None else count
        if start + length > size:
            raise EOFError(f"has {size} octets and not {start + length}")
        if offset is None:
            _seek(file, start + length)
        return start, length

    return _locate(os.dup(file if isinstance(file, int) else file.fileno()), find)


def _locate(descriptor: int, find: Callable[[int], tuple[int, int]]) -> Location:
    """Give what ``find`` makes of the size; the descriptor is closed if that fails."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("is not a regular file")
        return descriptor, *find(status.st_size)
    except BaseException:
        os.close(descriptor)
        raise


def _tell(file: int | _FilePosition) -> int:
    return os.lseek(file, 0, os.SEEK_CUR) if isinstance(file, int) else file.tell()


def _seek(file: int | _FilePosition, offset: int) -> None:
    if isinstance(file, int):
        os.lseek(file, offset, os.SEEK_SET)
    else:
        file.seek(offset)


class FileReader:
    """So many octets of a file, in pieces. ``open()`` first, and ``close()`` in any case.

    ``size`` and ``left`` count the octets, in all and those that ``read()`` has yet to give.
    """

    __slots__ = ("_descriptor", "_offset", "_piece", "_poured", "_work", "left", "size")

    def __init__(self) -> None:
        self.size = self.left = 0
        self._descriptor = -1  # ours while it is not negative
        self._offset = 0  # of what is to be read next
        self._piece = FIRST_PIECE
        self._poured = 0  # in the last visit to a thread
        self._work: asyncio.Future[bytes] | None = None  # what goes on in a thread, or its result

    async def open(self, locate: Callable[[], Location], first_piece: int) -> None:
        """Find the file, and read up to ``first_piece`` octets at once; raises as ``locate``."""
        self._begin(partial(self._open, locate, first_piece))
        await self._end_of_work()

    async def read(self, *, ahead: bool) -> bytes:
        """Give the next piece. If it had to be waited for, and ``ahead`` says so, the one behind it
        is read meanwhile.

        Raises ``EOFError`` when the file has become shorter, and ``OSError``.
        """
        first = self.left == self.size
        if self._work is None:
            self._piece = min(2 * self._piece, LARGEST_PIECE)
            if data := self._read_from_memory(min(self._piece, self.left)):
                self.left -= len(data)
                return data
            self._read_ahead()
        data = await self._end_of_work()
        self._work = None
        self.left -= len(data)
        if ahead and self.left and not first:
            self._piece = min(2 * self._piece, LARGEST_PIECE)
            self._read_ahead()
        return data

    async def pour(self, outlet: int) -> int:
        """Write to a socket what it takes without waiting, read the next piece, and give how many
        octets were written; ``read`` gives the piece.

        ``outlet`` is a descriptor of the socket, and is closed. Raises as ``read``.
        """
        assert self._work is None
        self._poured = 0
        self._begin(partial(self._pour, outlet))
        await self._end_of_work()
        self.left -= self._poured
        return self._poured

    def close(self) -> None:
        """Let go of the file, as soon as no thread reads from it."""
        if self._work is None or self._work.done():
            self._let_go(self._work)
        else:
            self._work.add_done_callback(self._let_go)

    # The event loop's side.

    def _begin(self, work: Callable[[], bytes]) -> None:
        self._work = asyncio.get_running_loop().run_in_executor(None, work)

    def _read_from_memory(self, size: int) -> bytes:
        """Give what is there, up to ``size`` octets, and nothing if the file system cannot tell."""
        if _NOWAIT is None:
            return b""
        buffer = _scratch.buffer[:size]
        try:
            size = os.preadv(self._descriptor, [buffer], self._offset, _NOWAIT)
        except OSError:  # which a thread will meet again, unless it can wait
            return b""
        self._offset += size
        return bytes(buffer[:size])

    def _read_ahead(self) -> None:
        self._begin(partial(self._read, min(self._piece, self.left)))

    async def _end_of_work(self) -> bytes:
        """Wait for the thread; if that is cancelled, the work goes on, and ``close`` awaits it."""
        assert self._work is not None
        await asyncio.wait((self._work,))
        return self._work.result()

    def _let_go(self, work: asyncio.Future[bytes] | None) -> None:
        if work is not None and not work.cancelled():
            work.exception()  # whom it would concern is gone
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # What threads do, one at a time.

    def _open(self, locate: Callable[[], Location], first_piece: int) -> bytes:
        self._descriptor, self._offset, size = locate()
        self.size = self.left = size
        first = min(size, first_piece)
        return self._read(first) if first else b""

    def _pour(self, outlet: int) -> bytes:
        try:
            poured = os.sendfile(
                outlet, self._descriptor, self._offset, min(self.left, MOST_POURED)
            )
        except OSError:
            # It takes nothing now, or is gone, or the file system has no such thing: whoever goes
            # on the ordinary way will see.
            poured = 0
        finally:
            os.close(outlet)
        self._poured = poured
        self._offset += poured
        rest = self.left - poured
        return self._read(min(rest, WAITING_PIECE)) if rest else b""

    def _read(self, size: int) -> bytes:
        data = os.pread(self._descriptor, size, self._offset)
        if not data:
            raise EOFError("has become shorter")
        self._offset += len(data)
        return data
