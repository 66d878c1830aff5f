"""client_hello.py: the name that a client asks for, from the first octets of its connection."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.client_hello import MAX_SIZE, ClientHello


def hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


WHOLE = hello("www.example.com")


def records(message: bytes, size: int) -> bytes:
    """Cut a handshake message into records of ``size`` octets (RFC 8446 section 5.1)."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def name_of(data: bytes) -> str | None:
    found = ClientHello()
    assert found.feed(data)
    return found.server_name


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM", "www.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        (None, None),
    ],
)
def test_the_name_is_found(asked: str | None, found: str | None) -> None:
    assert name_of(hello(asked)) == found


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_a_message_may_be_cut_into_records(size: int) -> None:
    assert name_of(records(WHOLE[5:], size)) == "www.example.com"


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_octets_may_come_in_any_pieces(cuts: list[int]) -> None:
    found, at = ClientHello(), 0
    for cut in sorted(cuts):
        assert found.feed(WHOLE[at:cut]) is (cut == len(WHOLE))
        if cut == len(WHOLE):
            break
        at = cut
    else:
        assert found.feed(WHOLE[at:])
    assert found.server_name == "www.example.com"


@pytest.mark.parametrize("octets", [b"\xff", b"\x80www"])
def test_a_name_that_is_not_ascii_is_none(octets: bytes) -> None:
    name = b"www.example.com"
    assert name_of(WHOLE.replace(name, octets + name[len(octets) :])) is None


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x03\x01", b"\x15" * 5])
def test_what_is_no_handshake_is_left_to_openssl(data: bytes) -> None:
    assert name_of(data) is None


def test_another_message_is_left_to_openssl() -> None:
    assert name_of(records(b"\x02" + WHOLE[6:], 16_384)) is None


def test_the_search_has_a_bound() -> None:
    found = ClientHello()
    endless = records(b"\x01\xff\xff\xff" + bytes(MAX_SIZE), 1000)
    assert not found.feed(endless[: MAX_SIZE // 2])
    assert found.feed(endless[MAX_SIZE // 2 :])
    assert found.server_name is None


@given(st.integers(5, len(WHOLE) - 1), st.binary(max_size=4))
def test_nothing_that_is_sent_raises(at: int, octets: bytes) -> None:
    found = ClientHello()
    found.feed(WHOLE[:at] + octets + WHOLE[at + len(octets) :])
    assert found.server_name is None or found.server_name.isascii()


@given(st.binary(max_size=200))
def test_no_content_of_the_message_raises(content: bytes) -> None:
    message = b"\x01" + len(content).to_bytes(3) + content
    assert ClientHello().feed(records(message, 1000))
