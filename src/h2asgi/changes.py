"""Which files matter, and a process that watches them.

The watching is done by a library with threads of its own, and a process with
threads is none to fork workers from. So it has a process to itself, which says what has
changed, and ends when nobody listens any more.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import socket
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NoReturn

from .config import Config
from .errors import ConfigurationError

ALWAYS_INCLUDED = ("*.py",)

ALWAYS_EXCLUDED = (".*", "__pycache__", "node_modules", "site-packages")
"""Version control, environments, caches, and what editors put beside a file that they edit."""

TOLD_NAMES = 3
"""Files that are named, of all that changed at once: a log line is no list of a whole checkout."""


class Watched:
    """The files of ``config`` that matter. Raises ``ConfigurationError``."""

    def __init__(self, config: Config) -> None:
        reload = config.reload
        self.folders = [_folder(name) for name in reload.folders or (config.app_dir,)]
        self._includes = [_pattern(text) for text in reload.includes]
        self._excludes = [_pattern(text) for text in reload.excludes]

    def __contains__(self, file: str) -> bool:
        """Whether ``file``, or a folder that it is in, is included and neither is excluded.

        A file that is included by its own name may begin with a dot.
        """
        path = PurePath(file)
        for folder in self.folders:
            if path.is_relative_to(folder):
                above = list(path.parents)[: len(path.parts) - len(folder.parts) - 1]
                return self._matter(path, above)
        return False

    def _matter(self, path: PurePath, above: list[PurePath]) -> bool:
        named = _match([path], self._includes)
        if _match([path, *above], self._excludes) or _match(above, ALWAYS_EXCLUDED):
            return False
        if named:
            return True
        included = _match([path], ALWAYS_INCLUDED) or _match(above, self._includes)
        return included and not _match([path], ALWAYS_EXCLUDED)


def _folder(name: str) -> Path:
    folder = Path(name).resolve()
    if not folder.is_dir():
        raise ConfigurationError(
            f"the folder {name} to watch does not exist: name another with --reload-dir"
        )
    return folder


def _pattern(text: str) -> str:
    try:
        PurePath("file").match(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no pattern of files: write one such as *.html or templates"
        ) from None
    return text


def _match(paths: Iterable[PurePath], patterns: Iterable[str]) -> bool:
    return any(path.match(pattern) for path in paths for pattern in patterns)


class Changes:
    """What the watching process tells; ``fd`` is readable when there is something."""

    def __init__(self, watched: Watched) -> None:
        if importlib.util.find_spec("watchfiles") is None:
            raise ConfigurationError('--reload needs watchfiles: pip install "h2asgi[dev]"')
        self._line, theirs = socket.socketpair()
        self._unread = b""
        if not os.fork():
            self._line.close()
            _watch(watched, theirs)
        theirs.close()

    @property
    def fd(self) -> int:
        """To be awaited."""
        return self._line.fileno()

    def wait_until_watched(self) -> None:
        """Return when no change is missed any more; raises ``ConfigurationError``."""
        while not self._unread.endswith(b"\n"):
            data = self._line.recv(4096)
            if not data:
                break
            self._unread += data
        reason = json.loads(self._unread or '"the process that watches them has ended"')
        self._unread = b""
        if reason is not None:
            raise ConfigurationError(f"files cannot be watched for --reload: {reason}")

    def take(self) -> list[str] | None:
        """Give the names of files that have changed; None when nobody watches any more."""
        data = self._line.recv(65_536)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        names = [str(name) for line in lines for name in json.loads(line)]
        return list(dict.fromkeys(names))

    def close(self) -> None:
        """End the watching, or in another process have nothing more to do with it."""
        self._line.close()


def _watch(watched: Watched, line: socket.socket) -> NoReturn:
    """Write a line of JSON when the watching begins (null, or why not), and for each change."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    import watchfiles

    interest = _Interest(line)
    try:
        for changes in watchfiles.watch(
            *watched.folders,
            watch_filter=lambda _change, path: path in watched,
            stop_event=interest,
        ):
            files = sorted({path for _, path in changes})
            for file in files:
                _forget_bytecode(file)
            names = [os.path.relpath(file) for file in files[:TOLD_NAMES]]
            if len(files) > TOLD_NAMES:
                names.append(f"{len(files) - TOLD_NAMES} more")
            _tell(line, names)
    except Exception as error:
        if not interest.told:
            _tell(line, str(error))
    os._exit(0)


def _forget_bytecode(file: str) -> None:
    """It counts as that of the file if the second and the size are the same."""
    if file.endswith(".py"):
        Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)


def _tell(line: socket.socket, value: object) -> None:
    line.sendall(json.dumps(value).encode() + b"\n")


class _Interest:
    """What the library takes for an event that ends it: it looks every 50 ms while it watches."""

    def __init__(self, line: socket.socket) -> None:
        self.told = False
        self._line = line

    def is_set(self) -> bool:
        """Whether nobody listens any more; the first call comes when everything is watched."""
        if not self.told:
            self.told = True
            _tell(self._line, None)
        ended, _, _ = select.select([self._line], [], [], 0)
        return bool(ended)
