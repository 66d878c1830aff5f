"""From what the operator wrote to listening sockets.

``parse`` reads the options and touches nothing; ``listen`` opens the sockets.
Both raise ``ConfigurationError`` with the address and what to change.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import identity
from .config import BindConfig
from .errors import ConfigurationError
from .inheritance import Inherited

DEFAULT_TLS_PORT = 8443
DEFAULT_CLEARTEXT_PORT = 8000
LOOPBACK = ("127.0.0.1", "::1")

SAME_PORT_ATTEMPTS = 20
"""Tries to find a port that is free on every address when the kernel picks it for the first."""

_NO_SUCH_FAMILY = frozenset((errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT))
"""What a machine without IPv6 answers to an IPv6 address."""

_DIED = (ConnectionRefusedError, FileNotFoundError)
"""What connecting to a socket file says when no process listens behind it."""


@dataclass(frozen=True, slots=True)
class TCPAddress:
    """``hosts`` share one port number; an address of a family that is missing here is left out."""

    hosts: tuple[str, ...]
    port: int

    def __str__(self) -> str:
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket file, made when the server starts and removed when it stops."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A socket that the parent process opened, by its descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address = TCPAddress | UnixAddress | InheritedSocket

_SocketAddress = tuple[socket.AddressFamily, tuple[Any, ...]]


@dataclass(slots=True)
class ListeningSocket:
    """A socket that listens, and the file to remove with it: path, device and inode."""

    sock: socket.socket
    file: tuple[str, int, int] | None = None

    @property
    def address(self) -> tuple[str, int] | str:
        """(host, port), or the path of a Unix socket."""
        name = self.sock.getsockname()
        return (name[0], name[1]) if isinstance(name, tuple) else os.fsdecode(name)

    def close(self) -> None:
        """Stop listening; remove the socket file if it is still the one that was made here.

        In this order: once nobody listens, another server may take the file for a stale one
        and make its own, perhaps with the same inode.
        """
        if self.file is not None:
            path, device, inode = self.file
            self.file = None
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if (found.st_dev, found.st_ino) == (device, inode):
                    os.unlink(path)
        self.sock.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How sockets are opened; one of ``inherited`` goes before one that is made.

    Socket files get ``mode`` and ``owner`` (user and group, -1 for no change); ``reuse_port``
    lets other sockets listen on the same port.
    """

    backlog: int
    inherited: Inherited = field(default_factory=Inherited)
    mode: int | None = None
    owner: tuple[int, int] | None = None
    reuse_port: bool = False


def how(config: BindConfig, inherited: Inherited) -> How:
    """Read what ``config`` says of it; raises ConfigurationError."""
    mode = (
        None if config.unix_mode is None else identity.permissions(config.unix_mode, "--unix-mode")
    )
    owner = None
    if config.unix_owner is not None:
        name, colon, group = config.unix_owner.partition(":")
        uid = identity.user(name, "--unix-owner")[0] if name else -1
        owner = uid, identity.group(group, "--unix-owner") if colon else -1
    return How(
        backlog=config.backlog,
        inherited=inherited,
        mode=mode,
        owner=owner,
        reuse_port=config.reuse_port,
    )


def parse_inherited(inherited: Inherited, *, but_for: int | None) -> list[Address]:
    """Name the sockets that were handed down, as options would, without those on one port."""
    found: list[Address] = []
    for sock, _ in inherited.sockets:
        name = sock.getsockname()
        if not isinstance(name, tuple):
            found.append(UnixAddress(os.fsdecode(name)))
        elif name[1] != but_for:
            found.append(TCPAddress((name[0],), name[1]))
    return list(dict.fromkeys(found))


def parse(config: BindConfig, *, tls: bool) -> list[Address]:
    """Say where to listen: ``bind`` if there is any, else ``host`` and ``port``."""
    if config.bind:
        return list(dict.fromkeys(_parse_bind(text) for text in config.bind))
    port = config.port
    if port is None:
        port = DEFAULT_TLS_PORT if tls else DEFAULT_CLEARTEXT_PORT
    if config.host is None:
        return [TCPAddress(LOOPBACK, port)]
    if not config.host:
        raise ConfigurationError("--host is empty: write 0.0.0.0 or :: for every address")
    return [TCPAddress((config.host,), port)]


def parse_redirect(addresses: list[Address], port: int) -> list[Address]:
    """Say where to listen in the clear: on ``port`` of every host among ``addresses``."""
    hosts = [host for found in addresses if isinstance(found, TCPAddress) for host in found.hosts]
    if not hosts:
        raise ConfigurationError("--redirect-http has no host to listen on: give one with --bind")
    return [TCPAddress(tuple(dict.fromkeys(hosts)), port)]


def parse_health(text: str) -> list[Address]:
    """Say where to answer health checks: one address, as ``--bind`` has it."""
    return [_parse_bind(text, "--health-bind")]


def parse_metrics(text: str) -> list[Address]:
    """The same for metrics."""
    return [_parse_bind(text, "--metrics")]


def parse_inspect(text: str) -> list[Address]:
    """Say where the inspector is: one address, as ``--bind`` has it."""
    return [_parse_bind(text, "--inspect")]


def is_local(listening: ListeningSocket) -> bool:
    """Whether only this machine can reach it."""
    address = listening.address
    return (
        isinstance(address, str) or ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
    )


def _parse_bind(text: str, option: str = "--bind") -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ConfigurationError(f"{option} {text!r} has no path: write unix:/path/to/socket")
        return UnixAddress(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not _is_number(number, maximum=2**31 - 1):
            raise ConfigurationError(f"{option} {text!r} has no descriptor: write, say, fd://3")
        return InheritedSocket(int(number))
    host, colon, port = text.rpartition(":")
    if not colon or not _is_number(port, maximum=65_535):
        raise ConfigurationError(
            f"{option} {text!r} has no port from 0 to 65535: write host:port, [::1]:port, "
            "unix:/path or fd://3"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(
            f"{option} {text!r} is ambiguous: put the IPv6 address in brackets, [::1]:{port}"
        )
    if not host:
        raise ConfigurationError(
            f"{option} {text!r} has no host: write 0.0.0.0:{port} or [::]:{port} for every address"
        )
    return TCPAddress((host,), int(port))


def _is_number(text: str, *, maximum: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= maximum


def listen(addresses: list[Address], how: How | int) -> list[ListeningSocket]:
    """Open every address or none of them; a number is a backlog, and nothing else is special."""
    how = How(backlog=how) if isinstance(how, int) else how
    with contextlib.ExitStack() as opened:
        sockets: list[ListeningSocket] = []
        for address in addresses:
            with _naming(address):
                for listening in _open(address, how):
                    opened.callback(listening.close)
                    sockets.append(listening)
        opened.pop_all()
    return sockets


def listen_again(sockets: Sequence[ListeningSocket], how: How) -> list[ListeningSocket]:
    """Open one more socket on each TCP address, with ``reuse_port``; Unix sockets are shared."""
    again: list[ListeningSocket] = []
    for listening in sockets:
        sock = listening.sock
        if sock.family == getattr(socket, "AF_UNIX", None):
            again.append(listening)
            continue
        name = sock.getsockname()
        with _naming(TCPAddress((name[0],), name[1])):
            again.append(ListeningSocket(_bind_tcp(sock.family, name, how)))
    return again


def _open(address: Address, how: How) -> list[ListeningSocket]:
    if isinstance(address, UnixAddress):
        return [_open_unix(address.path, how)]
    if isinstance(address, InheritedSocket):
        return [_adopt(address, how)]
    candidates = [found for host in address.hosts for found in _resolve(host, address.port)]
    return _open_tcp(list(dict.fromkeys(candidates)), how)


def _resolve(host: str, port: int) -> list[_SocketAddress]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(
            f"cannot listen on {host!r}: no such host; check the name, or write an address"
        ) from error
    return [(family, address) for family, _, _, _, address in found]


def _open_tcp(candidates: list[_SocketAddress], how: How) -> list[ListeningSocket]:
    any_port = all(address[1] == 0 for _, address in candidates)
    for _ in range(SAME_PORT_ATTEMPTS - 1 if any_port else 0):
        try:
            return _open_tcp_once(candidates, how)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _open_tcp_once(candidates, how)


def _open_tcp_once(candidates: list[_SocketAddress], how: How) -> list[ListeningSocket]:
    missing: OSError | None = None
    sockets: list[ListeningSocket] = []
    with contextlib.ExitStack() as opened:
        for family, (host, port, *scope) in candidates:
            if port == 0 and sockets:
                port = sockets[0].sock.getsockname()[1]
            try:
                sock = _bind_tcp(family, (host, port, *scope), how)
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
                continue
            opened.callback(sock.close)
            sockets.append(ListeningSocket(sock))
        if missing is not None and not sockets:
            raise missing
        opened.pop_all()
    return sockets


def _bind_tcp(family: socket.AddressFamily, address: tuple[Any, ...], how: How) -> socket.socket:
    if inherited := how.inherited.claim(family, address):
        return _listening(inherited[0], how)
    # asyncio sets TCP_NODELAY on what is accepted, but only if this names the protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # Or a restart would have to wait for the old connections' TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if how.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # One socket, one family: "::" must not take 0.0.0.0's port as well.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        # Listening, not only bound: with SO_REUSEADDR it is listen() that fails
        # when another program has the port.
        sock.listen(how.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listening(sock: socket.socket, how: How) -> socket.socket:
    """Make sure that an inherited socket listens."""
    try:
        sock.setblocking(False)
        sock.listen(how.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: str, how: How) -> ListeningSocket:
    if inherited := how.inherited.claim(socket.AF_UNIX, path):
        sock, has_file = inherited
        return ListeningSocket(_listening(sock, how), _file(path) if has_file else None)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with _umask_for(how.mode):
            sock.bind(path)
        if how.mode is not None:
            os.chmod(path, how.mode)  # as the umask cannot be trusted on every system
        if how.owner is not None:
            os.chown(path, *how.owner)
        made = _file(path)
        sock.listen(how.backlog)
    except BaseException:
        sock.close()
        raise
    return ListeningSocket(sock, made)


def _file(path: str) -> tuple[str, int, int]:
    found = os.lstat(path)
    return path, found.st_dev, found.st_ino


@contextlib.contextmanager
def _umask_for(mode: int | None) -> Iterator[None]:
    """See that a file never has more permissions than ``mode``, not even for a moment."""
    if mode is None:
        yield
        return
    previous = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(previous)


def _remove_stale(path: str) -> None:
    """Make room at ``path`` when a server that is gone left its socket file there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(
            f"cannot listen on unix:{path}: it is there already and is not a socket; "
            "remove it or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except _DIED:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except PermissionError:
            raise
        except OSError:
            pass  # a full backlog, or a socket of another kind: somebody has it
    raise OSError(errno.EADDRINUSE, "in use")


def _adopt(address: InheritedSocket, how: How) -> ListeningSocket:
    sock = how.inherited.claim_descriptor(address.fd)
    try:
        sock = sock or socket.socket(fileno=address.fd)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: descriptor {address.fd} is not an open socket; "
            "check what the parent process hands down"
        ) from error
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigurationError(f"cannot listen on {address}: it is not a stream socket")
    return ListeningSocket(_listening(sock, how))


_ADVICE = {
    errno.EADDRINUSE: "the address is in use; stop the other program or choose another address",
    errno.EACCES: "permission denied; choose a port from 1024 up, or a path you may write to",
    errno.EPERM: "permission denied; choose a port from 1024 up, or a path you may write to",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own",
    errno.ENOENT: "there is no such directory; create it or choose another path",
}


@contextlib.contextmanager
def _naming(address: Address) -> Iterator[None]:
    """Turn the system's errors into a sentence for the operator."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another address")
        raise ConfigurationError(f"cannot listen on {address}: {advice}") from error
