"""Octets as a file, for libraries that read nothing else: Python's ssl and pyOpenSSL are such."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Give a name by which OpenSSL can read ``data``.

    Where there is memory with a name, no disk sees a key.
    """
    if not (hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd")):
        with _as_temporary_file(data) as path:
            yield path
        return
    with open(os.memfd_create("h2asgi"), "wb", buffering=0) as file:
        file.write(data)
        yield f"/proc/self/fd/{file.fileno()}"


@contextlib.contextmanager
def _as_temporary_file(data: bytes) -> Iterator[str]:
    descriptor, path = tempfile.mkstemp(prefix="h2asgi-")  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)
