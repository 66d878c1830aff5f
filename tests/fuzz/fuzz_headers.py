"""What a head may look like: nothing but RequestError, and what is let through is legal.

What HTTP/2 lets through HTTP/1.1 does too, and it means the same there: so no request changes its
meaning by the protocol it comes by.
"""

from __future__ import annotations

from script import Fields, Script, assert_legal

from h2asgi.protocol.headers import (
    RequestError,
    RequestHead,
    http1_request,
    http2_request,
    http2_trailers,
    trailers,
)

NAMES = (
    *(b"host", b"cookie", b"te", b"content-length", b"expect", b"transfer-encoding", b"upgrade"),
    *(b"connection", b"x-field", b"X-Upper", b":path", b":protocol"),
)
METHODS = (b"GET", b"POST", b"OPTIONS", b"CONNECT", b"get")
LIST_SIZE = 1024


def check(octets: bytes) -> None:
    script = Script(octets)
    websocket = bool(script.octet() & 1)
    pseudo = [
        (b":method", script.text(METHODS)),
        (b":scheme", script.text((b"https", b"http"))),
        (b":authority", script.text((b"example.com", b"[::1]:80"))),
        (b":path", script.text((b"/", b"*", b"/a?b=c"))),
    ]
    fields = script.fields(NAMES)
    over_http2 = _http2(pseudo + fields, websocket)
    over_http1 = _http1(pseudo, fields)
    if over_http2 is not None and over_http2.protocol is None:
        assert over_http1 is not None
        over_http2.list_size = 0
        if not any(name == b"host" for name, _ in fields):
            assert over_http1 == over_http2
    _check_trailers(fields)


def _http2(fields: Fields, websocket: bool) -> RequestHead | None:
    try:
        head = http2_request(list(fields), LIST_SIZE, websocket=websocket)
    except RequestError as error:
        assert error.status in (400, 431, 501)
        return None
    _check_head(head)
    assert head.list_size <= LIST_SIZE
    assert not head.chunked
    assert head.protocol in ((None, "websocket") if websocket else (None,))
    return head


def _http1(pseudo: Fields, fields: Fields) -> RequestHead | None:
    (_, method), _, (_, authority), (_, target) = pseudo
    if not any(name == b"host" for name, _ in fields):
        fields = [(b"host", authority), *fields]
    try:
        head = http1_request(method, target, b"1.1", list(fields))
    except RequestError as error:
        assert error.status in (400, 501)
        return None
    _check_head(head)
    assert not (head.chunked and head.content_length is not None)
    return head


def _check_head(head: RequestHead) -> None:
    assert_legal(head.headers)
    names = [name for name, _ in head.headers]
    assert names[0] == b"host"
    assert names.count(b"host") == 1
    assert names.count(b"cookie") <= 1
    assert names.count(b"content-length") <= 1
    assert head.target == b"*" or head.target.startswith(b"/")
    assert all(0x20 < octet < 0x7F and octet != 0x23 for octet in head.target)
    assert head.method.isascii()
    assert head.method == head.method.upper() != "CONNECT" or head.protocol
    if head.content_length is not None and not head.protocol:
        assert int(dict(head.headers)[b"content-length"]) == head.content_length


def _check_trailers(fields: Fields) -> None:
    try:
        assert_legal(trailers(fields))
    except RequestError:
        try:
            http2_trailers(fields)
        except RequestError:
            return
        raise AssertionError("HTTP/2 lets pass more than HTTP/1.1") from None
