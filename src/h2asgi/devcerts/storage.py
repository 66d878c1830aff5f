"""Where development certificates lie: a folder that only its user can read, and files in it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigurationError

DATA_DIR_VARIABLE = "H2ASGI_DATA_DIR"


def folder() -> Path:
    """A folder of our own below the user's data folder, so that its mode is ours to set."""
    if own := os.environ.get(DATA_DIR_VARIABLE):
        return Path(own).absolute() / "devcerts"
    home = home_folder()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = data_home(home)
    return base / "h2asgi" / "devcerts"


def home_folder() -> Path:
    """Raises ConfigurationError if the user has none."""
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError(
            f"there is no home folder for development certificates: set {DATA_DIR_VARIABLE}"
        ) from None


def data_home(home: Path) -> Path:
    """Where data of a user lies (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_DATA_HOME") or "")
    return base if base.is_absolute() else home / ".local" / "share"  # what is relative is ignored


def make_private(folder: Path) -> None:
    """Make it if need be, for its user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix":
        if folder.stat().st_uid != os.geteuid():
            # Its owner could put an authority there whose key is his.
            raise ConfigurationError(
                f"the folder {folder} belongs to another user: name one with {DATA_DIR_VARIABLE}"
            )
        folder.chmod(0o700)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; the system lets go of it when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes, *, mode: int) -> None:
    """Replace ``path`` whole: a reader sees the old contents or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")  # 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
