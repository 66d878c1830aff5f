"""Whatever a peer sends, the engines answer with the same frames and events.

libnghttp2 checks what it decodes, hpack does not: here it shows when the rules of ``headers.py``
and those of a library drift apart.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from http2_peer import GET, POST, WEBSOCKET, Encoder, Fields, Peer, frame

CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"example.com:443")]

METHODS = [b"GET", b"get", b"OPTIONS", b"CONNECT", b"connect", b"G T", b"", b"\xc3"]
SCHEMES = [b"https", b"HTTPS", b"ftp", b"h ttp", b"1s", b""]
AUTHORITIES = [b"example.com", b"[::1]:80", b"user@host", b"a b", b"\xc3", b"", None]
PATHS = [
    b"/",
    b"/?q=|^`\\",
    b"*",
    b"a",
    b"/a b",
    b"/#x",
    b"/\xc3",
    b"/\x7f",
    b"http://x/",
    b"",
    None,
]
FIELDS: Fields = [
    *((b"host", value) for value in (b"example.com", b"EXAMPLE.com", b"other", b"")),
    *((b"te", value) for value in (b"trailers", b"gzip", b"")),
    *((b"content-length", value) for value in (b"0", b"10", b"+1", b"", b"1" * 18, b"9" * 20)),
    *((b"x", value) for value in (b"", b"a\tb", b" a", b"a\t", b"\0", b"a\rb", b"\x7f", b"\xff")),
    *(
        (name, b"v")
        for name in (b"", b"X", b"x(", b"x\xff", b":x", b":status", b":protocol", b"x y")
    ),
    *((name, b"v") for name in (b"connection", b"keep-alive", b"proxy-connection", b"upgrade")),
    (b"transfer-encoding", b"chunked"),
    (b"expect", b"100-continue"),
    (b"priority", b"u=x"),
    (b"cookie", b"a=b"),
]
LARGE_FIELDS: Fields = [(b"x", b"v" * 65_000), (b"x", b"0" * 70_000), (b"n" * 70_000, b"v")]


def request_lines() -> list[Fields]:
    """All pairs of values that differ from an honest request's."""
    honest = (METHODS[0], SCHEMES[0], AUTHORITIES[0], PATHS[0])
    names = (b":method", b":scheme", b":authority", b":path")
    chosen = (
        values
        for values in product(METHODS, SCHEMES, AUTHORITIES, PATHS)
        if sum(value != usual for value, usual in zip(values, honest, strict=True)) <= 2
    )
    return [
        [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
        for values in chosen
    ]


def blocks(fields: Fields, stream_id: int, *, end: bool) -> bytes:
    """A field section in as many frames as it takes."""
    block = Encoder().encode(fields)
    pieces = [block[start : start + 16_384] for start in range(0, len(block), 16_384)] or [b""]
    kinds = [0x1] + [0x9] * (len(pieces) - 1)
    flags = [0x1 if end else 0] + [0] * (len(pieces) - 1)
    flags[-1] |= 0x4
    return b"".join(
        frame(*header, stream_id, piece)
        for *header, piece in zip(kinds, flags, pieces, strict=True)
    )


@pytest.fixture
def assert_agree(both_engines: tuple[Any, Any]) -> Any:
    def check(*sections: tuple[Fields, bool], websocket: bool = False) -> None:
        answers = []
        for engine_factory in both_engines:
            peer = Peer(engine_factory(websocket=websocket)).connect()
            output = peer.exchange(*(blocks(fields, 1, end=end) for fields, end in sections))
            answers.append((output, [_comparable(event) for event in peer.events()]))
        assert answers[0] == answers[1], sections

    return check


def _comparable(event: Any) -> Any:
    """All of it but the reasons, which only logs tell."""
    values = {name: getattr(event, name) for name in event.__match_args__ if name != "reason"}
    return type(event), values


def test_on_request_lines(assert_agree: Any) -> None:
    for fields in request_lines():
        assert_agree((fields, True))


@pytest.mark.parametrize("start", [GET, CONNECT, GET[:2] + GET[3:]], ids=["GET", "CONNECT", "host"])
@pytest.mark.parametrize("end", [True, False], ids=["without body", "with body"])
def test_on_fields(assert_agree: Any, start: Fields, end: bool) -> None:
    for field in FIELDS:
        assert_agree(([*start, field], end))


@pytest.mark.parametrize("websocket", [False, True])
def test_on_extended_connect(assert_agree: Any, websocket: bool) -> None:
    for protocol in (b"websocket", b"WebSocket", b"connect-udp", b"a b", b"", b"\xc3"):
        for method, end in product(METHODS, (False, True)):
            changed = {b":protocol": protocol, b":method": method}
            fields = [(name, changed.get(name, value)) for name, value in WEBSOCKET]
            assert_agree((fields, end), websocket=websocket)
    for place, (name, _) in enumerate(WEBSOCKET):
        less = WEBSOCKET[:place] + WEBSOCKET[place + 1 :]
        assert_agree((less, False), websocket=websocket)
        assert_agree(([*less, (b"host", b"example.com")], False), websocket=websocket)
        for path in PATHS:
            if path is not None:
                assert_agree(([*less, (name, path)], False), websocket=websocket)
    for field in FIELDS:
        assert_agree(([*WEBSOCKET, field], False), websocket=websocket)
        assert_agree((WEBSOCKET, False), ([field], True), websocket=websocket)


def test_on_repeated_and_misplaced_fields(assert_agree: Any) -> None:
    for field in FIELDS:
        assert_agree(([*GET, field, field], True))
        assert_agree(([field, *GET], True))


def test_on_trailers(assert_agree: Any) -> None:
    for field in FIELDS:
        assert_agree((POST, False), ([field], True))
    assert_agree((POST, False), ([], True))


@pytest.mark.parametrize("field", LARGE_FIELDS, ids=["x 65,000", "x 70,000", "n 70,000"])
def test_on_large_fields(assert_agree: Any, field: tuple[bytes, bytes]) -> None:
    assert_agree(([*GET, field], True))
    assert_agree((POST, False), ([field], True))


def test_on_no_fields(assert_agree: Any) -> None:
    assert_agree(([], True))
