"""What a supervisor and a worker say to each other, over a pair of sockets.

A word is one octet. The end of the line is the end of the process at its other end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

UP = b"u"
"""From a worker: it serves."""

RETIRE = b"r"
"""From a worker: it has done its part, and is to be replaced."""

CERTIFICATES = b"c"
"""To a worker: load what is in the file whose descriptor comes with the word."""

REOPEN = b"l"
"""To a worker: open the log file anew."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Give the supervisor's end and the worker's."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def say(end: socket.socket, word: bytes) -> None:
    """Say ``word``; who does not listen any more, or for so long that it hangs, misses it."""
    with contextlib.suppress(OSError):
        end.send(word)


def say_to_all(ends: Iterable[socket.socket], word: bytes, data: bytes) -> None:
    """Hand ``data`` to several at once, without waiting for any of them."""
    with _anonymous_file() as file:
        file.write(data)
        for end in ends:
            with contextlib.suppress(OSError):
                socket.send_fds(end, [word], [file.fileno()])


def _anonymous_file() -> BinaryIO:
    """A file of no name; of memory where there is such a thing, so that no disk sees a key."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("h2asgi"), "wb", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def heard(end: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Give each word that has come, and the data that came with it; an empty word is the end."""
    while True:
        try:
            word, descriptors, _, _ = socket.recv_fds(end, 1, 1)
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET: an end that was closed with words unread
            word, descriptors = b"", []
        data = b""
        for descriptor in descriptors:
            # By position: the file's own is shared with the other workers.
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.close(descriptor)
        yield word, data
        if not word:
            return
