"""Requests that RFC 9113 section 8 calls malformed, each a stream error; one table for all tests.

``MALFORMED`` maps a name to the request's fields, ``MALFORMED_BODIES`` to the
frames of a request after its HEADERS (given the peer and the stream's id), and
``MALFORMED_TRAILERS`` to trailer fields.
"""

from __future__ import annotations

from collections.abc import Callable

from http2_peer import GET, POST, Fields, Peer, data


def without(name: bytes) -> Fields:
    return [field for field in GET if field[0] != name]


def replaced(name: bytes, value: bytes) -> Fields:
    return [(name, value) if field[0] == name else field for field in GET]


def plus(name: bytes, value: bytes = b"x") -> Fields:
    return [*GET, (name, value)]


MALFORMED: dict[str, Fields] = {
    # Section 8.2.1: names and values.
    "upper-case name": plus(b"X-Upper"),
    "empty name": plus(b""),
    "space in name": plus(b"x y"),
    "colon in name": plus(b"x:y"),
    "control character in name": plus(b"x\x01"),
    "DEL in name": plus(b"x\x7f"),
    "octet above 0x7f in name": plus(b"x\xe9"),
    "NUL in value": plus(b"x", b"a\x00b"),
    "CR in value": plus(b"x", b"a\rb"),
    "LF in value": plus(b"x", b"a\nb"),
    "space before value": plus(b"x", b" a"),
    "space after value": plus(b"x", b"a "),
    "tab before value": plus(b"x", b"\ta"),
    "tab after value": plus(b"x", b"a\t"),
    "NUL in cookie": plus(b"cookie", b"a\x00"),
    "NUL in host": plus(b"host", b"example.com\x00"),
    # Section 8.2.2: connection-specific fields.
    "connection": plus(b"connection", b"keep-alive"),
    "connection: close": plus(b"connection", b"close"),
    "keep-alive": plus(b"keep-alive", b"5"),
    "proxy-connection": plus(b"proxy-connection", b"keep-alive"),
    "transfer-encoding": plus(b"transfer-encoding", b"chunked"),
    "upgrade": plus(b"upgrade", b"h2c"),
    "te: gzip": plus(b"te", b"gzip"),
    "te: trailers, gzip": plus(b"te", b"trailers, gzip"),
    # Section 8.3: pseudo-header fields.
    "pseudo field after a regular one": [*GET[:3], (b"x", b"y"), GET[3]],
    "pseudo field after a cookie": [*GET[:3], (b"cookie", b"y"), GET[3]],
    "unknown pseudo field": [*GET, (b":new", b"x")],
    "response pseudo field": [*GET, (b":status", b"200")],
    ":protocol, which is not offered": [*GET, (b":protocol", b"websocket")],
    "repeated :method": [GET[0], *GET],
    "repeated :scheme": [GET[1], *GET],
    "repeated :authority": [GET[2], *GET],
    "repeated :path": [GET[3], *GET],
    "upper-case pseudo field": [*without(b":path"), (b":Path", b"/")],
    "no fields": [],
    # Section 8.3.1.
    "no :method": without(b":method"),
    "no :scheme": without(b":scheme"),
    "no :path": without(b":path"),
    "empty :method": replaced(b":method", b""),
    "space in :method": replaced(b":method", b"GET /"),
    "empty :scheme": replaced(b":scheme", b""),
    "illegal :scheme": replaced(b":scheme", b"ht tp"),
    "empty :path": replaced(b":path", b""),
    ":path without slash": replaced(b":path", b"index"),
    ":path in absolute form": replaced(b":path", b"https://example.com/"),
    ":path with fragment": replaced(b":path", b"/a#b"),
    ":path with space": replaced(b":path", b"/a b"),
    ":path with CR LF": replaced(b":path", b"/\r\nx: y"),
    ":path with NUL": replaced(b":path", b"/\x00"),
    "asterisk without OPTIONS": replaced(b":path", b"*"),
    "no authority and no host": without(b":authority"),
    "empty :authority": replaced(b":authority", b""),
    "empty host": [*without(b":authority"), (b"host", b"")],
    "userinfo in :authority": replaced(b":authority", b"user@example.com"),
    "userinfo with password": replaced(b":authority", b"user:secret@example.com"),
    "userinfo in host": [*without(b":authority"), (b"host", b"user@example.com")],
    "path in :authority": replaced(b":authority", b"example.com/x"),
    "space in :authority": replaced(b":authority", b"example com"),
    "host differs from :authority": plus(b"host", b"other.example"),
    "host differs in its port": plus(b"host", b"example.com:444"),
    "repeated host": [*plus(b"host", b"example.com"), (b"host", b"example.com")],
    # Section 8.1.1, RFC 9110 section 8.6.
    "content-length without body": plus(b"content-length", b"1"),
    "repeated content-length": [*plus(b"content-length", b"0"), (b"content-length", b"0")],
    "content-length list": plus(b"content-length", b"0, 0"),
    "negative content-length": plus(b"content-length", b"-1"),
    "signed content-length": plus(b"content-length", b"+0"),
    "empty content-length": plus(b"content-length", b""),
    "content-length in hex": plus(b"content-length", b"0x0"),
    "content-length in other digits": plus(b"content-length", "٣".encode()),
    "endless content-length": plus(b"content-length", b"0" * 5000),
    # Section 8.5.
    "CONNECT with :path": replaced(b":method", b"CONNECT"),
    "CONNECT without authority": [(b":method", b"CONNECT")],
}

MALFORMED_BODIES: dict[str, tuple[int, Callable[[Peer, int], list[bytes]]]] = {
    "body longer than content-length": (5, lambda peer, id: [data(id, b"123456")]),
    "body longer, in pieces": (5, lambda peer, id: [data(id, b"12345"), data(id, b"6")]),
    "body shorter than content-length": (5, lambda peer, id: [data(id, b"1234", end=True)]),
    "body shorter, ended by an empty frame": (
        5,
        lambda peer, id: [data(id, b"1234"), data(id, end=True)],
    ),
    "body shorter, ended by trailers": (
        5,
        lambda peer, id: [data(id, b"1234"), peer.headers(id, [(b"x", b"y")])],
    ),
    "body with content-length 0": (0, lambda peer, id: [data(id, b"1", end=True)]),
    "trailers without END_STREAM": (
        5,
        lambda peer, id: [data(id, b"12345"), peer.headers(id, [(b"x", b"y")], end=False)],
    ),
    "a second request on the stream": (5, lambda peer, id: [peer.headers(id, POST, end=False)]),
}

MALFORMED_TRAILERS: dict[str, Fields] = {
    "request pseudo field": [(b":path", b"/")],
    "response pseudo field": [(b":status", b"200")],
    "upper-case name": [(b"X-Sum", b"1")],
    "LF in value": [(b"x-sum", b"1\n")],
    "space around value": [(b"x-sum", b" 1")],
    "connection": [(b"connection", b"close")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked")],
}
