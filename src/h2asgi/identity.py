"""As whom a process runs: user, groups, and the file that names it."""

from __future__ import annotations

import contextlib
import logging
import os

from .config import ProcessConfig
from .errors import ConfigurationError

logger = logging.getLogger("h2asgi")


def user(text: str, option: str) -> tuple[int, int | None, str | None]:
    """Find a user by name or number: its number, its group and its name, as far as known.

    Raises ConfigurationError, which names ``option``.
    """
    pwd = _database("pwd", option)
    try:
        found = pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        if text.isdigit() and len(text) <= 9:
            return int(text), None, None  # as in a container without a list of users
        raise ConfigurationError(f"{option} {text}: there is no such user") from None
    return found.pw_uid, found.pw_gid, found.pw_name


def group(text: str, option: str) -> int:
    """Find a group by name or number, as ``user`` does."""
    grp = _database("grp", option)
    if text.isdigit() and len(text) <= 9:
        return int(text)
    try:
        number: int = grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigurationError(f"{option} {text}: there is no such group") from None
    return number


def permissions(text: str, option: str) -> int:
    """Read permissions in octal; raises ConfigurationError."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigurationError(f"{option} {text} must be permissions in octal, such as 027")
    return mode


def set_umask(config: ProcessConfig) -> None:
    """Set the umask that was asked for; raises ConfigurationError."""
    if config.umask is not None:
        os.umask(permissions(config.umask, "--umask"))


class Identity:
    """User and groups to become; made beforehand, since it may raise ConfigurationError."""

    def __init__(self, config: ProcessConfig) -> None:
        self._uid: int | None = None
        self._gid: int | None = None
        self._name: str | None = None
        if config.user is not None:
            self._uid, self._gid, self._name = user(config.user, "--user")
        if config.group is not None:
            self._gid = group(config.group, "--group")
        if self._uid is not None and self._gid is None:
            raise ConfigurationError(f"--user {config.user} has no group: give one with --group")
        if self._changes() and os.geteuid() != 0:
            raise ConfigurationError("--user and --group need the rights of root: start as root")

    def _changes(self) -> bool:
        same_user = self._uid in (None, os.geteuid())
        return not (same_user and self._gid in (None, os.getegid()))

    def become(self) -> None:
        """Give up what this user may not; there is no way back."""
        if not self._changes():
            return
        assert self._gid is not None
        # Groups first: afterwards it would no longer be allowed.
        if self._name is not None:
            os.initgroups(self._name, self._gid)
        else:
            os.setgroups([self._gid])
        os.setgid(self._gid)
        if self._uid is not None:
            os.setuid(self._uid)


class PIDFile:
    """Names this process; another one that was started in its place may write it over."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else os.path.abspath(path)

    def write(self) -> None:
        """Raises ConfigurationError."""
        if self._path is None:
            return
        try:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigurationError(f"cannot write --pid {self._path}: {error.strerror}") from None

    def take_over(self) -> None:
        """Write it in the place of a process that this one follows."""
        try:
            self.write()
        except ConfigurationError as error:
            logger.warning("%s", error)

    def remove(self) -> None:
        """Remove it, if it still names this process."""
        if self._path is None:
            return
        with contextlib.suppress(OSError, ValueError):
            with open(self._path, encoding="ascii") as file:
                names_this = int(file.read()) == os.getpid()
            if names_this:
                os.unlink(self._path)


def _database(name: str, option: str):  # type: ignore[no-untyped-def]
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(f"{option} needs users as POSIX has them") from None
