"""X-Forwarded-* and Forwarded: what a believed proxy adds counts, whatever stands in front of it.

Nothing raises; a client is an address as sockets give it, a host what a host field may be.
"""

from __future__ import annotations

import ipaddress

from script import Script

from h2asgi.forwarded import Forwarding, Origin
from h2asgi.protocol.headers import authority_text
from h2asgi.trust import Trusted

Fields = list[tuple[bytes, bytes]]

NAMES = (
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"),
    *(b"forwarded", b"host"),
)
X_FORWARDED, FORWARDED = (
    Forwarding(Trusted(["10.0.0.0/8"]), kind) for kind in ("x-forwarded", "forwarded")
)
EVERYBODY = [Forwarding(Trusted(["*"]), kind) for kind in ("x-forwarded", "forwarded")]
CLIENT = ("192.0.2.7", 0)
CONTROLS = bytes([*range(9), *range(10, 32), 127])


def check(octets: bytes) -> None:
    script = Script(octets)
    one_line = script.octet() & 1
    sent = [
        (name, value.translate(None, CONTROLS).strip(b" \t"))
        for name, value in script.fields(NAMES)
        if name in NAMES
    ]
    for forwarding in (X_FORWARDED, FORWARDED, *EVERYBODY):
        _check_origin(forwarding.origin(sent))
    added = _add(sent, b"x-forwarded-for", b"192.0.2.7", one_line)
    assert X_FORWARDED.origin(added).client == CLIENT
    added = _add(added, b"x-forwarded-for", b"10.0.0.2", one_line)
    assert X_FORWARDED.origin(added).client == CLIENT
    added = _add(sent, b"forwarded", b'for="192.0.2.7";proto=https;host="a,b"', one_line)
    assert FORWARDED.origin(added).client == CLIENT
    assert FORWARDED.origin(added).scheme == "https"
    added = _add(added, b"forwarded", b"for=10.0.0.2;proto=http", one_line)
    assert FORWARDED.origin(added).client == CLIENT
    assert FORWARDED.origin(added).scheme == "https"


def _add(fields: Fields, name: bytes, value: bytes, one_line: int) -> Fields:
    """Do what a proxy does: join all lines with what it has to say, or add a line of its own."""
    lines = [line for found, line in fields if found == name]
    if not one_line or not lines:
        return [*fields, (name, value)]
    others = [field for field in fields if field[0] != name]
    return [*others, (name, b", ".join([*lines, value]))]


def _check_origin(origin: Origin) -> None:
    if origin.client is not None:
        assert str(ipaddress.ip_address(origin.client[0])) == origin.client[0]
        assert "%" not in origin.client[0]
        assert 0 <= origin.client[1] <= 0xFFFF
    assert origin.scheme in (None, "http", "https")
    assert origin.host is None or authority_text(origin.host)
    assert origin.port is None or 0 < origin.port <= 0xFFFF
