"""The rules of ``headers.py``, one table per function; engines are tested against the same rules.

In the tables a request begins as the plain one at the top; a case names what differs.
"""

from __future__ import annotations

import pytest

from h2asgi.protocol.headers import (
    CONNECTION_FIELDS,
    RequestError,
    RequestHead,
    http1_request,
    http2_request,
    http2_request_line,
    trailers,
)

Fields = list[tuple[bytes, bytes]]

HOST = (b"host", b"a.example")
PSEUDO: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/"),
]
SIZE = 65_536


def pseudo(**changes: bytes | None) -> Fields:
    """The pseudo-header fields of a plain request, some replaced or (None) left out."""
    fields = []
    for name, value in PSEUDO:
        changed = changes.get(name[1:].decode(), value)
        if changed is not None:
            fields.append((name, changed))
    return fields


def get(headers: Fields, target: bytes = b"/", method: str = "GET") -> RequestHead:
    return RequestHead(method, target, headers, None, False)


def post(headers: Fields, length: int | None, expect: bool = False) -> RequestHead:
    return RequestHead("POST", b"/", headers, length, expect)


# Rules of field sections that both versions share: fields, and the status or None if allowed

SHARED: dict[str, tuple[Fields, int | None]] = {
    "empty-value": ([(b"x", b"")], None),
    "tab-within-value": ([(b"x", b"a\tb")], None),
    "octets-beyond-ascii": ([(b"x", b"\x80\xff")], None),
    "every-token-octet": ([(b"!#$%&'*+-.^_`|~09az", b"1")], None),
    "same-name-twice": ([(b"x", b"1"), (b"x", b"1")], None),
    "length-zero": ([(b"content-length", b"0")], None),
    "length-with-leading-zeros": ([(b"content-length", b"005")], None),
    "length-of-18-digits": ([(b"content-length", b"9" * 18)], None),
    "other-expectation": ([(b"expect", b"200-ok")], None),
    "te-trailers": ([(b"te", b"trailers")], None),
    "no-name": ([(b"", b"1")], 400),
    "upper-case-name": ([(b"X", b"1")], 400),
    "name-with-space": ([(b"x ", b"1")], 400),
    "name-with-colon": ([(b"x:", b"1")], 400),
    "name-with-nul": ([(b"x\0", b"1")], 400),
    "name-with-delete": ([(b"x\x7f", b"1")], 400),
    "name-beyond-ascii": ([(b"x\xe4", b"1")], 400),
    "name-with-crlf": ([(b"x\r\ny", b"1")], 400),
    "value-with-nul": ([(b"x", b"a\0")], 400),
    "value-with-cr": ([(b"x", b"a\rb")], 400),
    "value-with-lf": ([(b"x", b"a\nb")], 400),
    "value-with-escape": ([(b"x", b"\x1b[31m")], 400),
    "value-with-delete": ([(b"x", b"\x7f")], 400),
    "value-begins-with-space": ([(b"x", b" a")], 400),
    "value-ends-in-tab": ([(b"x", b"a\t")], 400),
    "length-twice": ([(b"content-length", b"5"), (b"content-length", b"5")], 400),
    "length-list": ([(b"content-length", b"5, 5")], 400),
    "length-empty": ([(b"content-length", b"")], 400),
    "length-signed": ([(b"content-length", b"+5")], 400),
    "length-with-underscore": ([(b"content-length", b"1_0")], 400),
    "length-superscript": ([(b"content-length", b"\xb2")], 400),
    "length-of-19-digits": ([(b"content-length", b"1" * 19)], 400),
    "two-hosts": ([HOST, HOST], 400),
}

VALUE_CONTROLS = [octet for octet in (*range(0x20), 0x7F) if octet != 0x09]


def accepted_by_http1(fields: Fields) -> int | None:
    hosts = [] if HOST in fields else [HOST]
    try:
        http1_request(b"GET", b"/", b"1.1", hosts + fields)
    except RequestError as error:
        return error.status
    return None


def accepted_by_http2(fields: Fields) -> int | None:
    try:
        http2_request(PSEUDO + fields, SIZE)
    except RequestError as error:
        return error.status
    return None


@pytest.mark.parametrize(("fields", "status"), SHARED.values(), ids=SHARED)
def test_both_versions_judge_fields_alike(fields: Fields, status: int | None) -> None:
    assert accepted_by_http1(fields) == status
    assert accepted_by_http2(fields) == status


@pytest.mark.parametrize("octet", VALUE_CONTROLS)
@pytest.mark.parametrize("name", [b"x", b"cookie", b"expect", b"te"])
def test_no_control_character_passes_in_any_value(name: bytes, octet: int) -> None:
    """RFC 9110 section 5.5; a value may end in a log, or in another server's request."""
    fields = [(name, b"a" + bytes([octet]) + b"b")]
    assert accepted_by_http1(fields) == accepted_by_http2(fields) == 400
    with pytest.raises(RequestError):
        trailers(fields)


# HTTP/1.x: method, target, version, fields, and the head or the status

CODING = b"transfer-encoding"
CHUNKED = (CODING, b"chunked")
HOST_B = (b"host", b"b")

HTTP1: dict[str, tuple[bytes, bytes, bytes, Fields, RequestHead | int]] = {
    "plain": (b"GET", b"/", b"1.1", [HOST], get([HOST])),
    "query": (b"GET", b"/a%20b?c=d?/", b"1.1", [HOST], get([HOST], b"/a%20b?c=d?/")),
    "host-comes-first": (
        b"GET", b"/", b"1.1", [(b"x", b"1"), HOST], get([HOST, (b"x", b"1")]),
    ),
    "cookies-without-the-empty-ones": (
        b"GET", b"/", b"1.1", [HOST, (b"cookie", b""), (b"cookie", b"a"), (b"cookie", b"")],
        get([HOST, (b"cookie", b"a")]),
    ),
    "cookies-joined-at-the-end": (
        b"GET", b"/", b"1.1", [(b"cookie", b"a"), HOST, (b"cookie", b"b"), (b"x", b"1")],
        get([HOST, (b"x", b"1"), (b"cookie", b"a; b")]),
    ),
    "length": (
        b"POST", b"/", b"1.1", [HOST, (b"content-length", b"5")],
        post([HOST, (b"content-length", b"5")], 5),
    ),
    "expectation": (
        b"POST", b"/", b"1.1", [HOST, (b"expect", b"100-Continue")],
        post([HOST, (b"expect", b"100-Continue")], None, expect=True),
    ),
    "expectation-in-1.0": (
        b"POST", b"/", b"1.0", [HOST, (b"expect", b"100-continue")],
        post([HOST, (b"expect", b"100-continue")], None),
    ),
    "chunked": (
        b"GET", b"/", b"1.1", [HOST, CHUNKED],
        RequestHead("GET", b"/", [HOST, CHUNKED], None, False, chunked=True),
    ),
    "connection-fields-stay": (
        b"GET", b"/", b"1.1",
        [HOST, (b"connection", b"te, upgrade"), (b"te", b"gzip"), (b"upgrade", b"h2c")],
        get([HOST, (b"connection", b"te, upgrade"), (b"te", b"gzip"), (b"upgrade", b"h2c")]),
    ),
    "no-host-in-1.0": (b"GET", b"/", b"1.0", [], get([])),
    "empty-host": (b"GET", b"/", b"1.1", [(b"host", b"")], get([(b"host", b"")])),
    "asterisk": (b"OPTIONS", b"*", b"1.1", [HOST], get([HOST], b"*", "OPTIONS")),
    "absolute": (b"GET", b"http://b/c?d", b"1.1", [HOST], get([HOST_B], b"/c?d")),
    "absolute-in-1.0": (b"GET", b"http://b/", b"1.0", [], get([HOST_B])),
    "absolute-upper-case": (b"GET", b"HTTP://b", b"1.1", [HOST], get([HOST_B])),
    "absolute-query-only": (b"GET", b"http://b?c/d", b"1.1", [HOST], get([HOST_B], b"/?c/d")),
    "absolute-with-another-inside": (
        b"GET", b"http://b/c?d=http://e/f?g", b"1.1", [HOST], get([HOST_B], b"/c?d=http://e/f?g"),
    ),
    "absolute-with-slashes-in-its-query": (
        b"GET", b"http://b?c/d?e/f", b"1.1", [HOST], get([HOST_B], b"/?c/d?e/f"),
    ),
    "absolute-ipv6": (b"GET", b"http://[::1]:8/", b"1.1", [HOST], get([(b"host", b"[::1]:8")])),
    "absolute-options": (b"OPTIONS", b"http://b", b"1.1", [HOST], get([HOST_B], b"*", "OPTIONS")),
    "absolute-options-with-path": (
        b"OPTIONS", b"http://b/", b"1.1", [HOST], get([HOST_B], b"/", "OPTIONS"),
    ),
    "no-method": (b"", b"/", b"1.1", [HOST], 400),
    "illegal-method": (b"G@T", b"/", b"1.1", [HOST], 400),
    "connect": (b"CONNECT", b"a:1", b"1.1", [HOST], 501),
    # What the application sees is upper-case, so it must not become one by the back door.
    "connect-in-lower-case": (b"connect", b"/", b"1.1", [HOST], 501),
    "no-host": (b"GET", b"/", b"1.1", [], 400),
    "no-host-but-absolute": (b"GET", b"http://b/", b"1.1", [], 400),
    "illegal-host": (b"GET", b"/", b"1.1", [(b"host", b"a/b")], 400),
    "illegal-host-with-absolute": (b"GET", b"http://b/", b"1.1", [(b"host", b"a b")], 400),
    "illegal-port": (b"GET", b"/", b"1.1", [(b"host", b"a:b")], 400),
    "no-target": (b"GET", b"", b"1.1", [HOST], 400),
    "fragment": (b"GET", b"/a#b", b"1.1", [HOST], 400),
    "fragment-in-absolute": (b"GET", b"http://b/#c", b"1.1", [HOST], 400),
    "control-in-target": (b"GET", b"/\x01", b"1.1", [HOST], 400),
    "beyond-ascii-in-target": (b"GET", b"/\xe4", b"1.1", [HOST], 400),
    "asterisk-with-get": (b"GET", b"*", b"1.1", [HOST], 400),
    "other-scheme": (b"GET", b"ftp://b/", b"1.1", [HOST], 400),
    "no-authority": (b"GET", b"http:///a", b"1.1", [HOST], 400),
    "user-in-authority": (b"GET", b"http://u@b/", b"1.1", [HOST], 400),
    "coding-and-length": (b"POST", b"/", b"1.1", [HOST, CHUNKED, (b"content-length", b"5")], 400),
    "coding-and-length-zero": (
        b"POST", b"/", b"1.1", [HOST, (b"content-length", b"0"), CHUNKED], 400,
    ),
    "coding-in-1.0": (b"POST", b"/", b"1.0", [HOST, CHUNKED], 400),
    "coding-twice": (b"POST", b"/", b"1.1", [HOST, CHUNKED, CHUNKED], 400),
    "chunked-twice": (b"POST", b"/", b"1.1", [HOST, (CODING, b"chunked, chunked")], 400),
    "chunked-not-last": (b"POST", b"/", b"1.1", [HOST, (CODING, b"chunked, gzip")], 400),
    "not-chunked": (b"POST", b"/", b"1.1", [HOST, (CODING, b"identity")], 400),
    "no-coding": (b"POST", b"/", b"1.1", [HOST, (CODING, b"")], 400),
    "other-coding": (b"POST", b"/", b"1.1", [HOST, (CODING, b"gzip, chunked")], 501),
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "version", "fields", "expected"), HTTP1.values(), ids=HTTP1
)
def test_http1_request(
    method: bytes, target: bytes, version: bytes, fields: Fields, expected: RequestHead | int
) -> None:
    if isinstance(expected, RequestHead):
        assert http1_request(method, target, version, fields) == expected
        return
    with pytest.raises(RequestError) as raised:
        http1_request(method, target, version, fields)
    assert raised.value.status == expected
    assert str(raised.value) == raised.value.reason


# HTTP/2: fields, and the head or the status

HTTP2: dict[str, tuple[Fields, RequestHead | int]] = {
    "plain": (PSEUDO, get([HOST])),
    "any-order": (PSEUDO[::-1], get([HOST])),
    "query": (pseudo(path=b"/a?b"), get([HOST], b"/a?b")),
    "http": (pseudo(scheme=b"http"), get([HOST])),
    "host-comes-first": ([*PSEUDO, (b"x", b"1")], get([HOST, (b"x", b"1")])),
    "equal-host-replaced": ([*PSEUDO, (b"x", b"1"), HOST], get([HOST, (b"x", b"1")])),
    "host-equal-but-for-case": ([*PSEUDO, (b"host", b"A.Example")], get([HOST])),
    "host-without-authority": ([*pseudo(authority=None), HOST], get([HOST])),
    "cookies-without-the-empty-ones": (
        [*PSEUDO, (b"cookie", b"a"), (b"cookie", b"")],
        get([HOST, (b"cookie", b"a")]),
    ),
    "cookies-joined-at-the-end": (
        [*PSEUDO, (b"cookie", b"a"), (b"cookie", b"b"), (b"x", b"1")],
        get([HOST, (b"x", b"1"), (b"cookie", b"a; b")]),
    ),
    "asterisk": (pseudo(method=b"OPTIONS", path=b"*"), get([HOST], b"*", "OPTIONS")),
    "length-and-expectation": (
        [*pseudo(method=b"POST"), (b"content-length", b"5"), (b"expect", b"100-continue")],
        post([HOST, (b"content-length", b"5"), (b"expect", b"100-continue")], 5, expect=True),
    ),
    "te-in-upper-case": ([*PSEUDO, (b"te", b"Trailers")], get([HOST, (b"te", b"Trailers")])),
    # RFC 9113 section 8.3.1
    "no-fields": ([], 400),
    "no-method": (pseudo(method=None), 400),
    "empty-method": (pseudo(method=b""), 400),
    "illegal-method": (pseudo(method=b"G T"), 400),
    "no-scheme": (pseudo(scheme=None), 400),
    "illegal-scheme": (pseudo(scheme=b"ht tp"), 400),
    "no-path": (pseudo(path=None), 400),
    "empty-path": (pseudo(path=b""), 400),
    "relative-path": (pseudo(path=b"a"), 400),
    "absolute-path": (pseudo(path=b"https://a.example/"), 400),
    "fragment": (pseudo(path=b"/a#b"), 400),
    "space-in-path": (pseudo(path=b"/a b"), 400),
    "crlf-in-path": (pseudo(path=b"/ HTTP/1.1\r\nx: y"), 400),
    "asterisk-with-get": (pseudo(path=b"*"), 400),
    "no-authority": (pseudo(authority=None), 400),
    "empty-authority": (pseudo(authority=b""), 400),
    "user-in-authority": (pseudo(authority=b"u@a.example"), 400),
    "path-in-authority": (pseudo(authority=b"a.example/b"), 400),
    "host-differs": ([*PSEUDO, (b"host", b"b.example")], 400),
    "empty-host-differs": ([*PSEUDO, (b"host", b"")], 400),
    # RFC 9113 section 8.3
    "method-twice": ([*PSEUDO, (b":method", b"GET")], 400),
    "unknown-pseudo": ([*PSEUDO, (b":x", b"1")], 400),
    "response-pseudo": ([*PSEUDO, (b":status", b"200")], 400),
    "protocol-without-extended-connect": ([*PSEUDO, (b":protocol", b"websocket")], 400),
    "upper-case-pseudo": ([(b":Method", b"GET"), *PSEUDO[1:]], 400),
    "pseudo-behind-field": ([*PSEUDO[:3], (b"x", b"1"), PSEUDO[3]], 400),
    "pseudo-behind-cookie": ([*PSEUDO[:3], (b"cookie", b"1"), PSEUDO[3]], 400),
    "pseudo-behind-host": ([*PSEUDO[:3], HOST, PSEUDO[3]], 400),
    # RFC 9113 section 8.2.2
    "te-other-than-trailers": ([*PSEUDO, (b"te", b"gzip")], 400),
    "te-list": ([*PSEUDO, (b"te", b"trailers, gzip")], 400),
    # RFC 9113 section 8.5
    "connect": ([(b":method", b"CONNECT"), (b":authority", b"a:1")], 501),
    "connect-with-path": (pseudo(method=b"CONNECT", scheme=None), 400),
    "connect-with-scheme": (pseudo(method=b"CONNECT", path=None), 400),
}  # fmt: skip
HTTP2 |= {
    f"connection-field-{name.decode()}": ([*PSEUDO, (name, b"x")], 400)
    for name in sorted(CONNECTION_FIELDS)
}


@pytest.mark.parametrize(("fields", "expected"), HTTP2.values(), ids=HTTP2)
def test_http2_request(fields: Fields, expected: RequestHead | int) -> None:
    if isinstance(expected, RequestHead):
        assert http2_request(fields, SIZE) == expected
        return
    with pytest.raises(RequestError) as raised:
        http2_request(fields, SIZE)
    assert raised.value.status == expected


# Extended CONNECT (RFC 8441): fields of a client that was told of it, and the head or the status

WEBSOCKET: Fields = [*pseudo(method=b"CONNECT"), (b":protocol", b"websocket")]


def websocket(headers: Fields) -> RequestHead:
    return RequestHead("CONNECT", b"/", headers, None, False, protocol="websocket")


def connecting(**changes: bytes | None) -> Fields:
    """An extended CONNECT, some pseudo-header fields replaced or (None) left out."""
    protocol = changes.pop("protocol", b"websocket")
    fields = pseudo(**{"method": b"CONNECT"} | changes)
    return fields if protocol is None else [*fields, (b":protocol", protocol)]


EXTENDED_CONNECT: dict[str, tuple[Fields, RequestHead | int]] = {
    "websocket": (WEBSOCKET, websocket([HOST])),
    "any-order": (WEBSOCKET[::-1], websocket([HOST])),
    "equal-host-replaced": ([*WEBSOCKET, HOST], websocket([HOST])),
    "upper-case": (connecting(protocol=b"WEBSOCKET"), websocket([HOST])),
    "length-means-nothing": (
        [*WEBSOCKET, (b"content-length", b"7")],
        websocket([HOST, (b"content-length", b"7")]),
    ),
    "nothing-to-continue": (
        [*WEBSOCKET, (b"expect", b"100-continue")],
        websocket([HOST, (b"expect", b"100-continue")]),
    ),
    "get": (PSEUDO, get([HOST])),
    "other-protocol": (connecting(protocol=b"connect-udp"), 501),
    "plain-connect": ([(b":method", b"CONNECT"), (b":authority", b"a:1")], 501),
    "no-protocol": (connecting(protocol=None), 400),
    "empty-protocol": (connecting(protocol=b""), 400),
    "illegal-protocol": (connecting(protocol=b"a b"), 400),
    "protocol-twice": ([*WEBSOCKET, WEBSOCKET[4]], 400),
    "protocol-behind-field": ([*WEBSOCKET[:4], (b"x", b"1"), WEBSOCKET[4]], 400),
    "no-scheme": (connecting(scheme=None), 400),
    "illegal-scheme": (connecting(scheme=b"w s"), 400),
    "no-path": (connecting(path=None), 400),
    "asterisk": (connecting(path=b"*"), 400),
    "no-authority": ([*connecting(authority=None), HOST], 400),
    "illegal-authority": (connecting(authority=b"u@a.example"), 400),
    "get-with-protocol": (connecting(method=b"GET"), 400),
    "get-with-protocol-first": (connecting(method=b"GET")[::-1], 400),
    "lower-case-connect": (connecting(method=b"connect"), 400),
    "lower-case-connect-with-protocol-first": (connecting(method=b"connect")[::-1], 400),
    "no-method": (connecting(method=None), 400),
    "other-pseudo": ([*WEBSOCKET, (b":x", b"1")], 400),
    "malformed-length": ([*WEBSOCKET, (b"content-length", b"x")], 400),
}


@pytest.mark.parametrize(("fields", "expected"), EXTENDED_CONNECT.values(), ids=EXTENDED_CONNECT)
def test_http2_extended_connect(fields: Fields, expected: RequestHead | int) -> None:
    if isinstance(expected, RequestHead):
        assert http2_request(fields, SIZE, websocket=True) == expected
        return
    with pytest.raises(RequestError) as raised:
        http2_request(fields, SIZE, websocket=True)
    assert raised.value.status == expected


@pytest.mark.parametrize("fields", [WEBSOCKET, connecting(protocol=b"connect-udp")])
def test_http2_protocol_is_unknown_to_whom_was_not_told_of_it(fields: Fields) -> None:
    with pytest.raises(RequestError) as raised:
        http2_request(fields, SIZE)
    assert raised.value.status == 400


def test_http2_header_list_size_counts_32_octets_a_field() -> None:
    """RFC 9113 section 6.5.2."""
    size = sum(len(name) + len(value) + 32 for name, value in PSEUDO)
    assert http2_request(PSEUDO, size) == get([HOST])
    with pytest.raises(RequestError) as raised:
        http2_request(PSEUDO, size - 1)
    assert raised.value.status == 431


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (PSEUDO, ("GET", b"/")),
        ([(b":method", b"CONNECT"), (b":authority", b"a:1")], ("CONNECT", b"a:1")),
        ([(b":method", b"\xff")], ("\\xff", b"")),
        ([], ("", b"")),
    ],
)
def test_http2_request_line_makes_out_what_it_can(
    fields: Fields, expected: tuple[str, bytes]
) -> None:
    assert http2_request_line(fields) == expected


# Trailers


def test_trailers_pass_in_order() -> None:
    fields = [(b"x-sum", b"7"), (b"x", b""), (b"x-sum", b"8")]
    assert trailers(fields) == fields
    assert trailers([]) == []


@pytest.mark.parametrize(
    "field",
    [(b":path", b"/"), (b"X", b"1"), (b"", b"1"), (b"x", b"1\n"), (b"x", b" 1")]
    + [(name, b"x") for name in sorted(CONNECTION_FIELDS)],
)
def test_malformed_trailers_are_rejected(field: tuple[bytes, bytes]) -> None:
    """RFC 9113 sections 8.1 and 8.2; RFC 9110 section 6.5.1."""
    with pytest.raises(RequestError) as raised:
        trailers([(b"ok", b"1"), field])
    assert raised.value.status == 400
