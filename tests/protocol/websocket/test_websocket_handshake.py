"""The opening handshake (RFC 6455 section 4.2, RFC 8441 section 5, RFC 7692 section 7.1)."""

from __future__ import annotations

from typing import Any

import pytest

from h2asgi.config import WebSocketConfig
from h2asgi.errors import IllegalMessage
from h2asgi.protocol.events import Headers, RequestReceived
from h2asgi.protocol.websocket.codec import Codec
from h2asgi.protocol.websocket.handshake import (
    MAX_EXTENSIONS,
    Handshake,
    HandshakeRejected,
    check_handshake,
)

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
ACCEPT = (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
VERSION = (b"sec-websocket-version", b"13")
UPGRADE = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
WHOLE = [KEY, VERSION]


def check(headers: Headers, http_version: str = "1.1", **options: Any) -> Handshake:
    host: Headers = [(b"host", b"a.example")]
    over_http1 = http_version != "2"
    fields = host + (UPGRADE if over_http1 else []) + headers
    method = "GET" if over_http1 else "CONNECT"
    request = RequestReceived(
        1, http_version, method, b"/chat", fields, over_http1, protocol="websocket"
    )
    return check_handshake(request, WebSocketConfig(**options))


def rejected(headers: Headers, http_version: str = "1.1", **options: Any) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as raised:
        check(headers, http_version, **options)
    return raised.value


def protocols(*values: bytes) -> Headers:
    return [(b"sec-websocket-protocol", value) for value in values]


def extensions(*values: bytes) -> Headers:
    return [(b"sec-websocket-extensions", value) for value in values]


def agreed(*values: bytes, **options: Any) -> bytes | None:
    fields = dict(check(WHOLE + extensions(*values), **options).accept(None, []))
    return fields.get(b"sec-websocket-extensions")


def test_the_example_of_the_standard() -> None:
    assert check(WHOLE).accept(None, []) == [*UPGRADE, ACCEPT]


def test_over_http2_there_is_neither_upgrade_nor_key() -> None:
    assert check([VERSION], "2").accept(None, []) == []


def test_over_http2_a_bad_key_means_nothing() -> None:
    assert check([VERSION, (KEY[0], b"x")], "2").accept(None, []) == []
    assert check([VERSION, KEY, KEY], "2").accept(None, []) == []


def test_over_http2_a_key_is_answered_for_the_client_of_a_proxy() -> None:
    """Envoy hands the key of an upgrade on and waits for its answer."""
    assert check([VERSION, KEY], "2").accept(None, []) == [ACCEPT]


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"dGhlIHNhbXBsZSBub25jZQ=",
        b"dGhlIHNhbXBsZSBub25j",
        b"dGhlIHNhbXBsZSBub25jZSEhIQ==",
        b"dGhlIHNhbXBsZSBub25jZQ==x",
        b"dGhl IHNhbXBsZSBub25jZQ==",
        b"\xff" * 24,
    ],
)
def test_the_key_must_be_16_octets_in_base64(key: bytes) -> None:
    assert rejected([(KEY[0], key), VERSION]).status == 400


def test_there_must_be_a_key_over_http1() -> None:
    assert rejected([VERSION]).status == 400


@pytest.mark.parametrize("field", [KEY, VERSION])
def test_key_and_version_stand_once(field: tuple[bytes, bytes]) -> None:
    rejection = rejected([*WHOLE, field])
    assert rejection.status == 400
    assert rejection.headers == []


@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_there_must_be_a_version(http_version: str) -> None:
    assert rejected([KEY], http_version).status == 400


@pytest.mark.parametrize("version", [b"8", b"12", b"14", b"013", b"13, 8", b"", b"x"])
def test_another_version_is_told_ours(version: bytes) -> None:
    rejection = rejected([KEY, (VERSION[0], version)])
    assert rejection.status == 426
    assert rejection.headers == [VERSION, *UPGRADE]


def test_another_version_over_http2_is_told_ours() -> None:
    rejection = rejected([(VERSION[0], b"8")], "2")
    assert rejection.status == 426
    assert rejection.headers == [VERSION]


def test_every_origin_passes_unless_some_are_named() -> None:
    check([*WHOLE, (b"origin", b"https://evil.example")])


def test_a_foreign_origin_is_refused() -> None:
    origins = ("https://a.example", "https://b.example:8443")
    for origin in (b"https://a.example", b"HTTPS://A.example", b"https://b.example:8443"):
        check([*WHOLE, (b"origin", origin)], origins=origins)
    for origin in (b"https://evil.example", b"http://a.example", b"https://b.example", b"null"):
        for version in ("1.1", "2"):
            rejection = rejected([*WHOLE, (b"origin", origin)], version, origins=origins)
            assert rejection.status == 403


def test_a_client_without_an_origin_is_no_browser() -> None:
    check(WHOLE, origins=("https://a.example",))


def test_two_origins_are_malformed() -> None:
    origin = (b"origin", b"https://a.example")
    assert rejected([*WHOLE, origin, origin], origins=("https://a.example",)).status == 400


def test_subprotocols_come_in_their_order() -> None:
    handshake = check(WHOLE + protocols(b"chat.v2, chat.v1", b" ,wamp,"))
    assert handshake.subprotocols == ["chat.v2", "chat.v1", "wamp"]
    assert check(WHOLE).subprotocols == []


@pytest.mark.parametrize("value", [b"a b", b'"a"', b"a;b", b"\xe9"])
def test_subprotocols_are_tokens(value: bytes) -> None:
    assert rejected(WHOLE + protocols(value)).status == 400


@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_one_subprotocol_is_accepted(http_version: str) -> None:
    fields = check(WHOLE + protocols(b"a, b"), http_version).accept("b", [])
    assert fields[-1] == (b"sec-websocket-protocol", b"b")


@pytest.mark.parametrize("subprotocol", ["c", "A", "", "a, b"])
def test_a_subprotocol_that_was_not_offered_is_the_applications_mistake(subprotocol: str) -> None:
    with pytest.raises(IllegalMessage, match="has not offered"):
        check(WHOLE + protocols(b"a, b")).accept(subprotocol, [])


def test_fields_of_the_application_come_last() -> None:
    cookie = (b"set-cookie", b"a=b")
    assert check(WHOLE).accept(None, [cookie]) == [*UPGRADE, ACCEPT, cookie]


@pytest.mark.parametrize(
    "name", [b"sec-websocket-protocol", b"sec-websocket-accept", b"sec-websocket-extensions"]
)
def test_fields_of_the_handshake_are_not_the_applications(name: bytes) -> None:
    with pytest.raises(IllegalMessage, match="is the server's to send"):
        check(WHOLE).accept(None, [(name, b"x")])


@pytest.mark.parametrize(
    "name", [b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"keep-alive"]
)
def test_framing_fields_of_the_application_are_left_out(name: bytes) -> None:
    assert check(WHOLE).accept(None, [(name, b"0")]) == [*UPGRADE, ACCEPT]


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; client_max_window_bits=12",
        ),
        (
            b"permessage-deflate; client_max_window_bits=15",
            b"permessage-deflate; client_max_window_bits=12",
        ),
        (
            b"permessage-deflate; client_max_window_bits=8",
            b"permessage-deflate; client_max_window_bits=8",
        ),
        (
            b"permessage-deflate; server_max_window_bits=15",
            b"permessage-deflate; server_max_window_bits=12",
        ),
        (
            b'permessage-deflate;server_max_window_bits="9"',
            b"permessage-deflate; server_max_window_bits=9",
        ),
        (
            b'permessage-deflate; server_max_window_bits = "1\\0"',
            b"permessage-deflate; server_max_window_bits=10",
        ),
        (
            b"PERMESSAGE-DEFLATE; server_no_context_takeover; client_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (b"x-webkit-deflate-frame, permessage-deflate", b"permessage-deflate"),
        (
            b"permessage-deflate; server_max_window_bits=8, permessage-deflate",
            b"permessage-deflate",
        ),
        (b"foo; bar=1; baz", None),
    ],
)
def test_the_first_offer_that_can_be_kept_is_taken(offer: bytes, answer: bytes | None) -> None:
    assert agreed(offer) == answer


@pytest.mark.parametrize(
    "parameters",
    [
        b"unknown",
        b"server_no_context_takeover; server_no_context_takeover",
        b"server_no_context_takeover=1",
        b"client_no_context_takeover=true",
        b"server_max_window_bits",
        b"server_max_window_bits=7",
        b"server_max_window_bits=8",
        b"server_max_window_bits=16",
        b"server_max_window_bits=010",
        b"server_max_window_bits=x",
        b"client_max_window_bits=7",
        b"client_max_window_bits=16",
        b"client_max_window_bits=1e1",
        b"client_max_window_bits; client_max_window_bits=10",
    ],
)
def test_an_offer_that_is_wrong_is_declined_and_the_next_one_taken(parameters: bytes) -> None:
    offer = b"permessage-deflate; " + parameters
    assert agreed(offer) is None
    assert agreed(offer, b"permessage-deflate") == b"permessage-deflate"


@pytest.mark.parametrize(
    "value",
    [b"a b", b";a", b"a;", b"a ; ", b"a; b=", b"a; =b", b'a; b="c', b'a; b="c d"', b'a; b=""'],
)
def test_extensions_that_break_the_grammar_are_malformed(value: bytes) -> None:
    for per_message_deflate in (True, False):
        rejection = rejected(WHOLE + extensions(value), per_message_deflate=per_message_deflate)
        assert rejection.status == 400


def test_compression_can_be_turned_off() -> None:
    assert agreed(b"permessage-deflate", per_message_deflate=False) is None


def test_compression_is_agreed_on_over_http2_too() -> None:
    fields = check([VERSION, *extensions(b"permessage-deflate")], "2").accept(None, [])
    assert fields == extensions(b"permessage-deflate")


def test_the_codec_compresses_when_that_was_agreed_on(kind: type[Codec]) -> None:
    compressing = check(WHOLE + extensions(b"permessage-deflate")).codec(kind)
    assert compressing.send_message("Hello")[0] == 0xC1
    assert check(WHOLE).codec(kind).send_message("Hello")[0] == 0x81


def test_the_codec_has_the_bound_of_the_settings(kind: type[Codec]) -> None:
    codec = check(WHOLE, max_message_size=5).codec(kind)
    assert codec.receive_data(b"\x82\x86") != []


@pytest.mark.parametrize("lines", [1, 8])
def test_more_extensions_than_anybody_offers_are_too_many(lines: int) -> None:
    """They are not read, whatever is in them."""
    value = b"permessage-deflate" + b", a" * ((MAX_EXTENSIONS // lines - 18) // 3)
    value = value.ljust(MAX_EXTENSIONS // lines, b" ")
    assert agreed(*[value] * lines) == b"permessage-deflate"
    rejection = rejected(WHOLE + extensions(*[value] * lines, b"x"))
    assert rejection.status == 431
    for http_version in ("1.1", "2"):
        assert rejected(WHOLE + extensions(b'"' * 60_000), http_version).status == 431
