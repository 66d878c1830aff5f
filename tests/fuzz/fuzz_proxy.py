"""The header of the PROXY protocol: it is refused, or read the same however it is cut.

Nothing raises but the refusal, nothing is read behind the header, addresses are such as sockets
give them, and a header written anew from what was understood says the same.
"""

from __future__ import annotations

import ipaddress

from proxy_peer import PROXY, TCP4, TCP6, addresses, raw, value
from script import Script

from h2asgi.protocol.proxy import (
    MAX_V1_SIZE,
    MAX_V2_SIZE,
    MalformedProxyHeader,
    ProxyHeader,
    ProxyHeaderParser,
)

BEGINNINGS = (b"", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", raw(PROXY, TCP4, b"")[:13])
CRC32C = 3
TAIL = b"\n" * MAX_V1_SIZE + bytes(MAX_V2_SIZE)
"""An end for every header: when one that has none is refused may depend on how it is cut."""


def check(octets: bytes) -> None:
    script = Script(octets)
    choice = script.octet()
    step = 1 + script.octet() % 32
    stream = BEGINNINGS[choice % len(BEGINNINGS)] + script.rest()
    if choice & 0x80 and len(stream) > 16:  # the size that is said is mostly wrong
        stream = stream[:14] + (len(stream) - 16).to_bytes(2) + stream[16:]
    stream += TAIL
    whole, cut = _parse(stream, len(stream)), _parse(stream, step)
    assert whole == cut
    if whole is None:
        return
    header, _ = whole
    assert header is not None
    for address in (header.source, header.destination):
        if address is not None:
            assert str(ipaddress.ip_address(address[0])) == address[0]
            assert "%" not in address[0]
            assert 0 <= address[1] <= 0xFFFF
    if not header.relayed:
        assert header == ProxyHeader(header.version)
    elif header.source is not None and header.destination is not None:
        _assert_says_the_same_when_written(header)


def _parse(stream: bytes, step: int) -> tuple[ProxyHeader | None, int] | None:
    """Give the header, or None as long as it goes on, and what was read; or None if refused."""
    parser, place = ProxyHeaderParser(), 0
    while parser.wanted and place < len(stream):
        piece = stream[place : place + min(step, parser.wanted)]
        place += len(piece)
        try:
            parser.feed(piece)
        except MalformedProxyHeader:
            return None
    return parser.header, place


def _assert_says_the_same_when_written(header: ProxyHeader) -> None:
    ends = (header.source, header.destination)
    assert ends[0] is not None
    assert ends[1] is not None
    if ":" in ends[0][0] + ends[1][0]:
        texts = [host if ":" in host else f"::ffff:{host}" for host, _ in ends]
        family = TCP6
    else:
        texts, family = [host for host, _ in ends], TCP4
    octets = addresses(texts[0], ends[0][1], texts[1], ends[1][1])
    values = [value(kind, content) for kind, content in header.values if kind != CRC32C]
    again = _parse(raw(PROXY, family, octets + b"".join(values)), 1 << 16)
    assert again is not None
    assert again[0] is not None
    assert (again[0].source, again[0].destination, again[0].tls) == (*ends, header.tls)
    assert (again[0].alpn, again[0].authority) == (header.alpn, header.authority)
