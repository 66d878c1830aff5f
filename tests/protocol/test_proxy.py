"""PROXY headers: what they say, what is refused, and that not an octet too much is read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxy_peer import (
    CRC32C,
    MALFORMED,
    SSL_CN,
    TLVS,
    VALID,
    addresses,
    raw,
    tls,
    v2,
    value,
)

from h2asgi.protocol.proxy import (
    FIRST_SIZE,
    MAX_V1_SIZE,
    MAX_V2_SIZE,
    ClientTLS,
    MalformedProxyHeader,
    ProxyHeader,
    ProxyHeaderParser,
    crc32c,
)

BEHIND = b"\x16\x03\x01 and all that follows"
IPV4 = ("192.0.2.7", 50_000), ("198.51.100.1", 443)
IPV6 = ("2001:db8::7", 50_000), ("2001:db8::1", 443)
LONG = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65_535


def parse(stream: bytes, sizes: list[int] | None = None) -> tuple[ProxyHeader, int]:
    """Read as from a socket that gives so many octets at a time; what is told, and its size."""
    parser = ProxyHeaderParser()
    place = 0
    while parser.wanted:
        assert place < len(stream), "it wants more than there is"
        size = min(parser.wanted, sizes.pop() if sizes else parser.wanted)
        piece = stream[place : place + size]
        place += len(piece)
        parser.feed(piece)
    assert parser.header is not None
    return parser.header, place


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("v1 IPv4", ProxyHeader(1, True, *IPV4)),
        ("v1 IPv4, shortest", ProxyHeader(1, True, ("1.1.1.1", 0), ("2.2.2.2", 1))),
        ("v1 IPv6", ProxyHeader(1, True, *IPV6)),
        ("v1 IPv6, longest", ProxyHeader(1, True, LONG, LONG)),
        ("v1 IPv4 as IPv6", ProxyHeader(1, True, *IPV4)),
        ("v1 unknown", ProxyHeader(1)),
        ("v1 unknown, longest", ProxyHeader(1)),
        ("v2 IPv4", ProxyHeader(2, True, *IPV4)),
        ("v2 IPv6", ProxyHeader(2, True, *IPV6)),
        ("v2 IPv4 as IPv6", ProxyHeader(2, True, IPV4[0], IPV6[1])),
        ("v2 UDP", ProxyHeader(2, True, *IPV4)),
        ("v2 UDP on IPv6", ProxyHeader(2, True, ("2001:db8::7", 1), ("2001:db8::1", 2))),
        ("v2 Unix", ProxyHeader(2, True)),
        ("v2 local", ProxyHeader(2)),
        ("v2 local with addresses", ProxyHeader(2)),
        ("v2 local with anything", ProxyHeader(2)),
        ("v2 unspecified", ProxyHeader(2)),
    ],
)
def test_what_a_header_says(name: str, header: ProxyHeader) -> None:
    assert parse(VALID[name] + BEHIND) == (header, len(VALID[name]))


def test_values() -> None:
    header, _ = parse(VALID["v2 values"])
    assert header.alpn == b"h2"
    assert header.authority == "bücher.example"
    assert header.unique_id == b"id-1"
    assert header.tls == ClientTLS("TLSv1.3", "AES", True, "alice")
    assert [kind for kind, _ in header.values] == [tlv[0] for tlv in TLVS]
    assert header.values[-1] == (0xEA, b"\x01vpce-1")


@pytest.mark.parametrize(
    ("client", "verify", "expected"),
    [
        (0x00, 0, None),  # it did not use TLS
        (0x06, 0, None),
        (0x01, 0, ClientTLS(None, None, False, None)),  # HAProxy says 0 without a certificate, too
        (0x03, 0, ClientTLS(None, None, True, "alice")),
        (0x05, 0, ClientTLS(None, None, True, "alice")),
        (0x07, 18, ClientTLS(None, None, False, None)),  # a certificate that was found bad
    ],
)
def test_the_name_of_a_client_is_believed_when_its_certificate_was_verified(
    client: int, verify: int, expected: ClientTLS | None
) -> None:
    header, _ = parse(v2("192.0.2.7", 1, tls(client, verify, value(SSL_CN, b"alice"))))
    assert header.tls == expected


def test_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's polynomial, as everybody checks it
    blank = v2("192.0.2.7", 1, value(0xE0, b"x"), value(CRC32C, bytes(4)), value(0xE1, b"y"))
    place = blank.index(value(CRC32C, bytes(4))) + 3
    whole = blank[:place] + crc32c(blank).to_bytes(4) + blank[place + 4 :]
    assert parse(whole)[0].source == ("192.0.2.7", 1)
    for changed in (16, place, len(whole) - 1):
        broken = bytearray(whole)
        broken[changed] ^= 1
        with pytest.raises(MalformedProxyHeader, match="checksum is wrong"):
            parse(bytes(broken))


def test_the_largest_header_is_taken() -> None:
    size = MAX_V2_SIZE - len(addresses()) - 3
    header, _ = parse(v2("192.0.2.7", 1, value(0xE0, bytes(size))))
    assert len(header.values[0][1]) == size


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_are_refused(octets: bytes) -> None:
    with pytest.raises(MalformedProxyHeader):
        parse(octets + bytes(MAX_V2_SIZE))


@pytest.mark.parametrize("begin", [b"G", b"\r\nG", b"PRI", b"\x16\x03\x01", b"PROXX"])
def test_something_else_is_refused_as_soon_as_it_is_seen(begin: bytes) -> None:
    """Whoever speaks first and then waits must not wait for the deadline."""
    with pytest.raises(MalformedProxyHeader):
        ProxyHeaderParser().feed(begin)


@pytest.mark.parametrize("octets", VALID.values(), ids=VALID)
def test_no_header_is_shorter_than_the_first_read(octets: bytes) -> None:
    assert len(octets) >= FIRST_SIZE


@given(
    st.sampled_from([*VALID.values(), *MALFORMED.values(), raw(0x21, 0x11, bytes(40))]),
    st.lists(st.integers(1, 20)),
)
@example(VALID["v1 unknown"], [1] * 15)
def test_any_chunking_gives_the_same_and_reads_no_further(octets: bytes, sizes: list[int]) -> None:
    def outcome(sizes: list[int] | None) -> object:
        try:
            return parse(octets + bytes(MAX_V2_SIZE), sizes)
        except MalformedProxyHeader:
            return MalformedProxyHeader

    whole = outcome(None)
    assert outcome(sizes) == whole
    if whole is not MalformedProxyHeader:
        assert whole[1] == len(octets)


@given(st.binary(max_size=300), st.lists(st.integers(1, 50)))
def test_no_octets_raise_anything_else(octets: bytes, sizes: list[int]) -> None:
    for signature in (b"", b"PROXY ", b"PROXY TCP4 ", VALID["v2 local"][:12], v2()[:14]):
        try:
            _, size = parse(signature + octets + bytes(2 * MAX_V2_SIZE), list(sizes))
        except MalformedProxyHeader:
            continue
        assert size <= max(MAX_V1_SIZE, 16 + MAX_V2_SIZE)
