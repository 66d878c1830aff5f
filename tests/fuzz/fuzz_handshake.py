"""The opening handshake of WebSockets: it is rejected, or what was agreed on works.

What is agreed on was offered, the answer is made of legal fields, and messages come through with
either codec, whatever the windows of the compression are.
"""

from __future__ import annotations

import zlib

from script import Script, assert_legal
from websocket_peer import RSV1, TAIL, TEXT, Deflater, frame, frames

from h2asgi.config import WebSocketConfig
from h2asgi.protocol.engines import websocket_codec
from h2asgi.protocol.events import RequestReceived
from h2asgi.protocol.websocket.handshake import HandshakeRejected, check_handshake

NAMES = (
    *(b"sec-websocket-version", b"sec-websocket-key", b"sec-websocket-protocol"),
    *(b"sec-websocket-extensions", b"origin", b"x-field"),
)
CONFIGS = (WebSocketConfig(), WebSocketConfig(origins=("https://example.com",)))
CODECS = [websocket_codec(WebSocketConfig(engine=name)) for name in ("wsproto", "websockets")]
TEXTS = ["", "a" * 5_000, "ü" * 70]


def check(octets: bytes) -> None:
    script = Script(octets)
    choice = script.octet()
    version = "2" if choice & 1 else "1.1"
    fields = [
        (name.lower(), value.strip(b" \t\r\n\0").translate(None, bytes(range(32)) + b"\x7f"))
        for name, value in script.fields(NAMES)
    ]
    request = RequestReceived(1, version, "GET", b"/", fields, True, protocol="websocket")
    try:
        handshake = check_handshake(request, CONFIGS[choice >> 1 & 1])
    except HandshakeRejected as rejected:
        assert rejected.status in (400, 403, 426)
        assert_legal(rejected.headers)
        assert "\n" not in rejected.reason
        return
    answer = handshake.accept(next(iter(handshake.subprotocols), None), [])
    assert_legal(answer)
    offered = b",".join(value for name, value in fields if name == b"sec-websocket-extensions")
    agreed = dict(answer).get(b"sec-websocket-extensions", b"")
    for parameter in agreed.split(b"; "):
        assert parameter.partition(b"=")[0].lower() in offered.lower()
    for kind in CODECS:
        codec = handshake.codec(kind)
        for text in TEXTS:
            _assert_goes_both_ways(codec, text, handshake.compresses, agreed)


def _assert_goes_both_ways(codec, text: str, compresses: bool, agreed: bytes) -> None:
    (sent,) = frames(codec.send_message(text))
    payload = sent.payload
    if sent.reserved:
        assert compresses
        bits = _parameter(agreed, b"server_max_window_bits")
        payload = zlib.decompressobj(-bits).decompress(payload + TAIL)
        if b"server_no_context_takeover" not in agreed:
            payload = text.encode()  # which takes what came before to be read
    assert payload == text.encode()
    if compresses:
        bits = _parameter(agreed, b"client_max_window_bits")
        octets = frame(TEXT, Deflater(max(bits, 9)).compress(text.encode()), reserved=RSV1)
    else:
        octets = frame(TEXT, text.encode())
    assert codec.receive_data(octets) == [text]


def _parameter(agreed: bytes, name: bytes) -> int:
    for parameter in agreed.split(b"; "):
        if parameter.startswith(name + b"="):
            return int(parameter.partition(b"=")[2])
    return 15
