"""Sockets that one program leaves to the next, as systemd does it: sd_listen_fds(3).

LISTEN_FDS descriptors from 3 on belong to the process that LISTEN_PID names,
LISTEN_FDNAMES says what they are. An upgrade hands its sockets over in the same way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

FIRST = 3
"""SD_LISTEN_FDS_START."""

_SOCKET = "h2asgi-socket"
_OWN_FILE = "h2asgi-file"  # a Unix socket whose file is to be removed in the end
_READY = "h2asgi-ready"  # the pipe by which the new program says that it serves


@dataclass(eq=False, slots=True)
class Inherited:
    """What was handed to this process; each socket can be claimed once."""

    sockets: list[tuple[socket.socket, bool]] = field(default_factory=list)
    predecessor: int | None = None
    """Where to say that this program serves; its end says that it never will."""
    succeeds: bool = False
    """Whether there is or was one, which serves until this program does."""

    def claim(self, family: int, address: Any) -> tuple[socket.socket, bool] | None:
        """Give the socket of that address, any port standing for 0, and if its file is ours."""
        return self._claim(lambda sock: sock.family == family and _is_same(sock, address))

    def claim_descriptor(self, number: int) -> socket.socket | None:
        """Give the socket of that number."""
        found = self._claim(lambda sock: sock.fileno() == number)
        return None if found is None else found[0]

    def has_any_of(self, addresses: Sequence[Any]) -> bool:
        """Whether there are further sockets of addresses that are listened on already."""
        hosts = [address for address in addresses if isinstance(address, tuple)]
        return any(_is_same(sock, address) for sock, _ in self.sockets for address in hosts)

    def _claim(self, wanted: Any) -> tuple[socket.socket, bool] | None:
        for entry in self.sockets:
            if wanted(entry[0]):
                self.sockets.remove(entry)
                return entry
        return None

    def tell_predecessor(self) -> None:
        """Say that this program serves; the one before it ends then."""
        if self.predecessor is not None:
            with contextlib.suppress(OSError):
                os.write(self.predecessor, b"\1")
        self.leave_predecessor()

    def leave_predecessor(self) -> None:
        """Have nothing to do with it: in a worker, it would wait for that one's end as well."""
        if self.predecessor is not None:
            os.close(self.predecessor)
            self.predecessor = None

    def close(self) -> list[Any]:
        """Close what nobody has claimed; gives the addresses."""
        left, self.sockets = self.sockets, []
        addresses = [sock.getsockname() for sock, _ in left]
        for sock, _ in left:
            sock.close()
        return addresses


def _is_same(sock: socket.socket, address: Any) -> bool:
    name = sock.getsockname()
    if not (isinstance(address, tuple) and isinstance(name, tuple)):
        return bool(name == address)
    return name[0] == address[0] and address[1] in (0, name[1])


def take() -> Inherited:
    """Take what is meant for this process; raises ConfigurationError for what is no socket."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return Inherited()
    del os.environ["LISTEN_PID"]
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    inherited = Inherited()
    for index in range(int(count) if count.isdigit() else 0):
        descriptor = FIRST + index
        name = names[index] if index < len(names) else ""
        os.set_inheritable(descriptor, False)
        if name == _READY:
            inherited.predecessor, inherited.succeeds = descriptor, True
        else:
            inherited.sockets.append((_socket(descriptor), name == _OWN_FILE))
    return inherited


def _socket(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        raise ConfigurationError(
            f"LISTEN_FDS hands down descriptor {descriptor}, which is not a socket"
        ) from None


def start_successor(sockets: Sequence[tuple[socket.socket, bool]], ready: int) -> int:
    """Start this program anew, as it was started; gives its process number.

    ``sockets`` come with whether their file goes with them; ``ready`` is the
    end of a pipe that is written to once the new program serves.
    """
    # By number, so that fd://3 stays what it was.
    ordered = sorted(sockets, key=lambda entry: entry[0].fileno())
    names = [_OWN_FILE if has_file else _SOCKET for _, has_file in ordered]
    descriptors = [sock.fileno() for sock, _ in ordered]
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # Of other threads, which the child of this fork never needs: it is gone at once.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            _become_successor([*descriptors, ready], [*names, _READY])
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _become_successor(descriptors: list[int], names: list[str]) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        above = FIRST + len(descriptors)
        copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
        for index, copy in enumerate(copies):
            os.dup2(copy, FIRST + index)
            os.close(copy)
        environment = os.environ | {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(descriptors)),
            "LISTEN_FDNAMES": ":".join(names),
        }
        if "WATCHDOG_PID" in environment:
            environment["WATCHDOG_PID"] = str(os.getpid())
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    finally:
        os._exit(127)
