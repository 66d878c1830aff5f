"""Addresses that an operator can write, and the sockets that they become."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from h2asgi import sockets
from h2asgi.config import BindConfig
from h2asgi.errors import ConfigurationError
from h2asgi.sockets import InheritedSocket, ListeningSocket, TCPAddress, UnixAddress

LOOPBACK = ("127.0.0.1", "::1")


@contextmanager
def listening(*bind: str, **options: object) -> Iterator[list[ListeningSocket]]:
    config = BindConfig(bind=bind, **options)  # type: ignore[arg-type]
    opened = sockets.listen(sockets.parse(config, tls=False), config.backlog)
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


@pytest.mark.parametrize(
    ("options", "tls", "expected"),
    [
        ({}, True, TCPAddress(LOOPBACK, 8443)),
        ({}, False, TCPAddress(LOOPBACK, 8000)),
        ({"port": 0}, True, TCPAddress(LOOPBACK, 0)),
        ({"host": "::", "port": 1}, True, TCPAddress(("::",), 1)),
        ({"host": "0.0.0.0"}, False, TCPAddress(("0.0.0.0",), 8000)),
        ({"bind": ("example.org:80",)}, True, TCPAddress(("example.org",), 80)),
        ({"bind": ("[::1]:443",)}, True, TCPAddress(("::1",), 443)),
        ({"bind": ("unix:run/x.sock",)}, True, UnixAddress("run/x.sock")),
        ({"bind": ("fd://3",)}, True, InheritedSocket(3)),
    ],
)
def test_parse_gives_the_address(options, tls, expected):
    assert sockets.parse(BindConfig(**options), tls=tls) == [expected]


def test_bind_goes_before_host_and_each_entry_counts_once():
    config = BindConfig(host="::", port=5, bind=("unix:/a", "127.0.0.1:1", "unix:/a"))
    assert sockets.parse(config, tls=False) == [
        UnixAddress("/a"),
        TCPAddress(("127.0.0.1",), 1),
    ]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("localhost", "host:port"),
        ("localhost:", "host:port"),
        ("localhost:http", "host:port"),
        ("localhost:65536", "0 to 65535"),
        ("localhost:-1", "0 to 65535"),
        ("localhost:٣", "0 to 65535"),
        ("localhost:" + "9" * 5000, "0 to 65535"),
        ("::1:8000", "brackets, [::1]:8000"),
        (":8000", "0.0.0.0:8000 or [::]:8000"),
        ("unix:", "unix:/path/to/socket"),
        ("unix:/a\0b", "unix:/path/to/socket"),
        ("fd://", "fd://3"),
        ("fd://-1", "fd://3"),
    ],
)
def test_bad_syntax_is_named_with_what_to_write(text, advice):
    with pytest.raises(ConfigurationError) as caught:
        sockets.parse(BindConfig(bind=(text,)), tls=False)
    assert repr(text) in str(caught.value)
    assert advice in str(caught.value)


def test_an_empty_host_is_refused():
    with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0"):
        sockets.parse(BindConfig(host=""), tls=False)


def test_port_0_is_one_number_for_both_loopback_addresses():
    with listening(port=0) as opened:
        (host4, port4), (host6, port6) = (each.address for each in opened)
        assert (host4, host6) == LOOPBACK
        assert port4 == port6 != 0
        for host in LOOPBACK:
            socket.create_connection((host, port4), timeout=5).close()


def test_port_0_tries_again_when_its_number_is_taken_on_the_other_address(monkeypatch):
    """Another program may have, on ::1, the port that the kernel gives on 127.0.0.1."""
    bind = sockets._bind_tcp
    refused: list[int] = []

    def bind_but_refuse_twice(family, address, backlog):
        if family == socket.AF_INET6 and len(refused) < 2:
            refused.append(address[1])
            raise OSError(errno.EADDRINUSE, "in use")
        return bind(family, address, backlog)

    monkeypatch.setattr(sockets, "_bind_tcp", bind_but_refuse_twice)
    with listening(port=0) as opened:
        assert len(opened) == 2
        assert len(refused) == 2


def test_port_0_gives_up_in_the_end(monkeypatch):
    tries: list[int] = []

    def refuse(family, address, backlog):
        tries.append(1)
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(sockets, "_bind_tcp", refuse)
    with pytest.raises(ConfigurationError, match="in use"), listening(port=0):
        pass
    assert len(tries) == sockets.SAME_PORT_ATTEMPTS


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_machine_without_ipv6_gets_127_0_0_1(monkeypatch, number):
    bind = sockets._bind_tcp

    def bind_ipv4_only(family, address, backlog):
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return bind(family, address, backlog)

    monkeypatch.setattr(sockets, "_bind_tcp", bind_ipv4_only)
    with listening(port=0) as opened:
        assert [each.address[0] for each in opened] == ["127.0.0.1"]


def test_a_host_name_is_resolved_to_all_its_addresses(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with listening("two.example:0") as opened:
        (host6, port6), (host4, port4) = (each.address for each in opened)
        assert (host6, host4) == ("::1", "127.0.0.1")
        assert port6 == port4


def test_an_ipv6_wildcard_leaves_ipv4_alone():
    with listening("[::]:0") as first:
        port = first[0].address[1]
        assert first[0].sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        with listening(f"0.0.0.0:{port}") as second:
            assert second[0].address == ("0.0.0.0", port)


def test_a_port_in_use_is_named():
    with listening("127.0.0.1:0") as opened:
        port = opened[0].address[1]
        with (
            pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: the address is in use"),
            listening(f"127.0.0.1:{port}"),
        ):
            pass


def test_a_port_in_use_on_one_address_of_two_opens_neither():
    """Half a loopback would let another program answer for ``localhost``."""
    with listening("[::1]:0") as opened:
        port = opened[0].address[1]
        with pytest.raises(ConfigurationError, match="in use"), listening(port=port):
            pass
        with listening(f"127.0.0.1:{port}") as free:  # and it was let go of
            assert len(free) == 1


def test_an_address_of_another_machine_is_refused():
    with (
        pytest.raises(
            ConfigurationError, match=r"192\.0\.2\.1:0: this machine has no such address"
        ),
        listening("192.0.2.1:0"),
    ):
        pass


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "bad host"])
def test_an_unknown_host_is_refused(host, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigurationError, match="no such host"), listening(f"{host}:0"):
        pass


def test_a_forbidden_port_is_refused(monkeypatch):
    def refuse(family, address, backlog):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sockets, "_bind_tcp", refuse)
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:80: permission denied"):
        sockets.listen([TCPAddress(("127.0.0.1",), 80)], 1)


def test_a_later_failure_closes_what_was_opened(tmp_path: Path):
    path = tmp_path / "a.sock"
    with (
        pytest.raises(ConfigurationError, match="no such address"),
        listening(f"unix:{path}", "192.0.2.1:0"),
    ):
        pass
    assert not path.exists()


def test_a_unix_socket_is_made_and_removed(tmp_path: Path):
    path = tmp_path / "a.sock"
    with listening(f"unix:{path}") as opened:
        assert opened[0].address == str(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_that_somebody_serves_is_left_alone(tmp_path: Path):
    path = tmp_path / "a.sock"
    with listening(f"unix:{path}"):
        with pytest.raises(ConfigurationError, match="in use"), listening(f"unix:{path}"):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_unix_socket_with_a_full_queue_is_in_use(tmp_path: Path):
    path = tmp_path / "a.sock"
    with listening(f"unix:{path}", backlog=1):
        clients = []
        try:
            for _ in range(10):
                client = socket.socket(socket.AF_UNIX)
                clients.append(client)
                client.setblocking(False)
                try:
                    client.connect(str(path))
                except BlockingIOError:
                    break
            else:
                pytest.skip("this kernel's queue does not fill up")
            with pytest.raises(ConfigurationError, match="in use"), listening(f"unix:{path}"):
                pass
        finally:
            for client in clients:
                client.close()
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path):
    path = tmp_path / "data"
    path.write_text("precious")
    with (
        pytest.raises(ConfigurationError, match=f"unix:{path}.*is not a socket"),
        listening(f"unix:{path}"),
    ):
        pass
    assert path.read_text() == "precious"


def test_a_link_to_a_socket_is_not_followed(tmp_path: Path):
    target, link = tmp_path / "target", tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(target))
    link.symlink_to(target)
    with pytest.raises(ConfigurationError, match="is not a socket"), listening(f"unix:{link}"):
        pass
    assert target.exists()


def test_a_socket_file_that_another_server_took_over_stays(tmp_path: Path):
    path = tmp_path / "a.sock"
    with listening(f"unix:{path}") as first:
        path.unlink()
        with listening(f"unix:{path}"):
            first[0].close()
            assert path.exists()


def test_a_socket_file_is_removed_while_somebody_still_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another server that begins meanwhile would otherwise replace it, and lose its own."""
    path = tmp_path / "socket"
    in_use = []
    unlink = os.unlink

    def noting(removed: str) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            in_use.append(client.connect_ex(str(path)) == 0)
        unlink(removed)

    with listening(f"unix:{path}"):
        monkeypatch.setattr(os, "unlink", noting)
    assert in_use == [True]


@pytest.mark.parametrize(
    ("path", "advice"),
    [("{tmp}/none/a.sock", "no such directory"), ("{tmp}/" + "x" * 200, "too long")],
)
def test_an_impossible_unix_path_is_refused(tmp_path: Path, path, advice):
    with (
        pytest.raises(ConfigurationError, match=advice),
        listening("unix:" + path.format(tmp=tmp_path)),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_directory_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    with (
        pytest.raises(ConfigurationError, match="permission denied"),
        listening(f"unix:{tmp_path}/a.sock"),
    ):
        pass


@pytest.mark.parametrize("already_listens", [True, False])
def test_an_inherited_socket_is_used_as_it_is(already_listens):
    parent = socket.socket()
    parent.bind(("127.0.0.1", 0))
    if already_listens:
        parent.listen()
    address = parent.getsockname()
    with listening(f"fd://{parent.detach()}") as opened:
        assert opened[0].address == address
        assert not opened[0].sock.getblocking()
        socket.create_connection(address, timeout=5).close()


def test_an_inherited_unix_socket_keeps_its_file(tmp_path: Path):
    path = tmp_path / "a.sock"
    parent = socket.socket(socket.AF_UNIX)
    parent.bind(str(path))
    with listening(f"fd://{parent.detach()}") as opened:
        assert opened[0].address == str(path)
    assert path.exists()  # whoever made it removes it


def test_a_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(ConfigurationError, match="is not an open socket"),
    ):
        sockets.listen([InheritedSocket(file.fileno())], 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        fd = os.dup(datagrams.fileno())
        with pytest.raises(ConfigurationError, match="not a stream socket"):
            sockets.listen([InheritedSocket(fd)], 1)
    one, other = socket.socketpair()
    with one, pytest.raises(ConfigurationError, match="fd://"):
        sockets.listen([InheritedSocket(other.detach())], 1)
    with pytest.raises(ConfigurationError, match="is not an open socket"):
        sockets.listen([InheritedSocket(987_654)], 1)
