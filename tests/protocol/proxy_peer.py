"""PROXY headers as a load balancer writes them, octet by octet, and the malformed ones."""

from __future__ import annotations

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20
SSL_VERSION, SSL_CN, SSL_CIPHER = 0x21, 0x22, 0x23


def value(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(2) + content


def tls(client: int, verify: int, *inner: bytes) -> bytes:
    return value(SSL, struct.pack("!BI", client, verify) + b"".join(inner))


def addresses(
    source: str = "192.0.2.7",
    source_port: int = 50_000,
    destination: str = "198.51.100.1",
    destination_port: int = 443,
) -> bytes:
    octets = [ipaddress.ip_address(text).packed for text in (source, destination)]
    return b"".join(octets) + struct.pack("!HH", source_port, destination_port)


def raw(command: int, family: int, content: bytes, size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2) + content


def v2(source: str = "192.0.2.7", source_port: int = 50_000, *values: bytes) -> bytes:
    """A header that HAProxy would write for a client on TCP."""
    if ":" in source:
        ends = addresses(source, source_port, "2001:db8::1")
        return raw(PROXY, TCP6, ends + b"".join(values))
    return raw(PROXY, TCP4, addresses(source, source_port) + b"".join(values))


TLVS = [
    value(ALPN, b"h2"),
    value(AUTHORITY, "bücher.example".encode()),
    value(NOOP, bytes(5)),
    value(UNIQUE_ID, b"id-1"),
    tls(
        0x05, 0, value(SSL_VERSION, b"TLSv1.3"), value(SSL_CN, b"alice"), value(SSL_CIPHER, b"AES")
    ),
    value(0xEA, b"\x01vpce-1"),
]

VALID = {
    "v1 IPv4": b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n",
    "v1 IPv4, shortest": b"PROXY TCP4 1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 IPv6": b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 50000 443\r\n",
    "v1 IPv6, longest": b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2)
    + b" 65535 65535\r\n",
    "v1 IPv4 as IPv6": b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 50000 443\r\n",
    "v1 unknown": b"PROXY UNKNOWN\r\n",
    "v1 unknown, longest": b"PROXY UNKNOWN " + b":".join([b"ffff"] * 8) + b" "
    + b":".join([b"ffff"] * 8) + b" 65535 65535\r\n",
    "v2 IPv4": v2(),
    "v2 IPv6": v2("2001:db8::7"),
    "v2 IPv4 as IPv6": v2("::ffff:192.0.2.7"),
    "v2 values": v2("192.0.2.7", 50_000, *TLVS),
    "v2 UDP": raw(PROXY, UDP4, addresses()),
    "v2 UDP on IPv6": raw(PROXY, UDP6, addresses("2001:db8::7", 1, "2001:db8::1", 2)),
    "v2 Unix": raw(PROXY, UNIX, bytes(216)),
    "v2 local": raw(LOCAL, UNSPECIFIED, b""),
    "v2 local with addresses": raw(LOCAL, TCP4, addresses()),
    "v2 local with anything": raw(LOCAL, UNSPECIFIED, b"\xff" * 20),
    "v2 unspecified": raw(PROXY, UNSPECIFIED, b"whatever"),
}  # fmt: skip

MALFORMED = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
    "v1 lower case": b"proxy TCP4 1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 tab": b"PROXY\tTCP4 1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 two spaces": b"PROXY TCP4  1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 space at the end": b"PROXY TCP4 1.1.1.1 2.2.2.2 0 1 \r\n",
    "v1 too few fields": b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
    "v1 no fields": b"PROXY TCP4\r\n",
    "v1 too many fields": b"PROXY TCP4 1.1.1.1 2.2.2.2 0 1 2\r\n",
    "v1 no family": b"PROXY \r\n1234567",
    "v1 unknown family": b"PROXY UDP4 1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 unknown word": b"PROXY UNKNOWNS\r\n",
    "v1 bare LF": b"PROXY TCP4 1.1.1.1 2.2.2.2 0 1\n",
    "v1 bare CR": b"PROXY TCP4 1.1.1.1 2.2.2.2 0 1\rx\r\n",
    "v1 bare CR in unknown": b"PROXY UNKNOWN x\ry\r\n",
    "v1 IPv6 in TCP4": b"PROXY TCP4 ::1 ::2 0 1\r\n",
    "v1 IPv4 in TCP6": b"PROXY TCP6 1.1.1.1 2.2.2.2 0 1\r\n",
    "v1 octal address": b"PROXY TCP4 01.1.1.1 2.2.2.2 0 1\r\n",
    "v1 short address": b"PROXY TCP4 1.1.1 2.2.2.2 0 1\r\n",
    "v1 large octet": b"PROXY TCP4 1.1.1.256 2.2.2.2 0 1\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%eth0 ::1 0 1\r\n",
    "v1 two gaps": b"PROXY TCP6 1::2::3 ::1 0 1\r\n",
    "v1 port with sign": b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 1\r\n",
    "v1 port with underscore": b"PROXY TCP4 1.1.1.1 2.2.2.2 8_0 1\r\n",
    "v1 port with zeros": b"PROXY TCP4 1.1.1.1 2.2.2.2 080 1\r\n",
    "v1 large port": b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 1\r\n",
    "v1 port of another alphabet": "PROXY TCP4 1.1.1.1 2.2.2.2 ٣ 1\r\n".encode(),
    "v1 without end": b"PROXY UNKNOWN " + b"x" * 200,
    "v1 one octet too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v1 TCP without end": b"PROXY TCP4 " + b"1" * 200,
    "v2 wrong signature": b"\r\n\r\n\0\r\nQUIT\r" + bytes(4),
    "v2 version 1": raw(0x11, TCP4, addresses()),
    "v2 version 3": raw(0x31, TCP4, addresses()),
    "v2 unknown command": raw(0x22, TCP4, addresses()),
    "v2 unknown family": raw(PROXY, 0x41, addresses()),
    "v2 unknown transport": raw(PROXY, 0x13, addresses()),
    "v2 family without transport": raw(PROXY, 0x10, addresses()),
    "v2 transport without family": raw(PROXY, 0x01, addresses()),
    "v2 local of unknown family": raw(LOCAL, 0xF1, b""),
    "v2 too short for IPv4": raw(PROXY, TCP4, addresses()[:-1]),
    "v2 IPv4 as TCP6": raw(PROXY, TCP6, addresses()),
    "v2 too short for Unix": raw(PROXY, UNIX, bytes(215)),
    "v2 nothing": raw(PROXY, TCP4, b""),
    "v2 too long": raw(PROXY, TCP4, b"", 8 * 1024 + 1),
    "v2 value without length": v2("192.0.2.7", 1, b"\x01\x00"),
    "v2 value cut off": v2("192.0.2.7", 1, b"\x01\x00\x03h2"),
    "v2 value too large": v2("192.0.2.7", 1, b"\xe0\xff\xff"),
    "v2 ALPN twice": v2("192.0.2.7", 1, value(ALPN, b"h2"), value(ALPN, b"http/1.1")),
    "v2 TLS twice": v2("192.0.2.7", 1, tls(1, 0), tls(0, 0)),
    "v2 TLS too short": v2("192.0.2.7", 1, value(SSL, bytes(4))),
    "v2 inner value cut off": v2("192.0.2.7", 1, tls(1, 0, b"\x21\x00\x09TLS")),
    "v2 authority not UTF-8": v2("192.0.2.7", 1, value(AUTHORITY, b"\xff")),
    "v2 name not UTF-8": v2("192.0.2.7", 1, tls(5, 0, value(SSL_CN, b"\xc3"))),
    "v2 unique id too long": v2("192.0.2.7", 1, value(UNIQUE_ID, bytes(129))),
    "v2 wrong checksum": v2("192.0.2.7", 1, value(CRC32C, b"\0\0\0\1")),
    "v2 short checksum": v2("192.0.2.7", 1, value(CRC32C, b"\0\0\1")),
    "v2 checksum twice": v2("192.0.2.7", 1, value(CRC32C, bytes(4)), value(CRC32C, bytes(4))),
}
