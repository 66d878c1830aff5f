"""Large pieces of HTTP/1.1 bodies, which leave within ``send()`` as long as the peer takes them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from h2asgi.connection import SMALLEST_SHARE
from h2asgi.turns import TURN

PIECE = bytes(range(256)) * 256
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Download:
    """An application that sends pieces, and keeps how many were taken and when others ran."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.taken: list[int] = []  # in each turn of the loop
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size = self.pieces * len(PIECE)
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(self.pieces):
            asyncio.get_running_loop().call_soon(self._turn)
            if not self.taken:
                self._turn()
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.taken[-1] += 1
        await send({"type": "http.response.body"})
        self.ended += 1

    def _turn(self) -> None:
        if not self.taken or self.taken[-1]:
            self.taken.append(0)


def body(octets: bytes) -> bytes:
    return octets.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("tls", [False, True])
def test_several_pieces_leave_in_one_turn(driver, tls):
    app = Download(3)
    driver.serve(app)
    peer = driver.http1() if tls else driver.connect()
    peer.deliver(REQUEST)
    driver.loop.turn()
    assert app.taken[0] == 3
    driver.loop.settle()
    assert body(peer.take()) == PIECE * 3
    assert app.ended == 1


def test_a_writer_gives_way_after_so_much(driver):
    app = Download(64)
    driver.serve(app)
    peer = driver.http1()
    peer.deliver(REQUEST)
    driver.loop.settle(80)
    assert app.ended == 1
    most = TURN // len(PIECE)
    assert max(app.taken) == most
    assert len(peer.take()) > 64 * len(PIECE)


def test_a_peer_that_does_not_read_holds_its_writer_and_nobody_else(driver):
    app = Download(64)
    driver.serve(app)
    peer = driver.http1()
    peer.transport.stall()
    peer.send(REQUEST)
    held = sum(app.taken)
    assert 1 <= held <= 5
    driver.loop.settle()
    assert sum(app.taken) == held
    other = driver.http1()
    other.send(REQUEST)
    driver.loop.settle(80)
    assert len(body(other.take())) == 64 * len(PIECE)
    peer.transport.drain()
    driver.loop.settle(80)
    assert body(peer.take()) == PIECE * 64
    assert app.ended == 2


def test_smaller_pieces_count_for_the_work_with_them(driver):
    turns = [0]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send(
                {"type": "http.response.body", "body": PIECE[: 16 * 1024], "more_body": True}
            )
            turns[-1] += 1
        await send({"type": "http.response.body"})

    driver.serve(app)
    peer = driver.http1()
    peer.deliver(REQUEST)
    while sum(turns) < 200:
        turns.append(0)
        driver.loop.turn()
    assert max(turns) == TURN // SMALLEST_SHARE


def test_a_writer_who_went_on_waits_all_the_same_when_the_transport_is_full(driver):
    """That its first pieces have left is no news of the later ones."""
    huge, waiting = bytes(8 * 1024 * 1024), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (PIECE + b"!", PIECE + b"!", huge, huge):
            waiting.append(len(piece))
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    driver.serve(app)
    peer = driver.http1()
    peer.transport.stall()
    peer.send(REQUEST)
    assert waiting == [len(PIECE) + 1, len(PIECE) + 1, len(huge)]
    peer.transport.drain()
    driver.loop.settle()
    assert waiting.count(len(huge)) == 2


def test_pipelined_requests_are_answered_in_order_and_not_within_each_other(driver):
    depth, deepest = 0, 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        headers = [(b"content-length", b"%d" % len(PIECE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PIECE})
        depth -= 1

    driver.serve(app)
    peer = driver.http1()
    peer.send(REQUEST * 50)
    driver.loop.settle(200)
    assert deepest <= 2  # the next one may begin in the flush that its predecessor waits for
    assert peer.take().count(b"HTTP/1.1 200 OK") == 50


def test_a_transport_that_breaks_within_send_fails_the_next_one(driver):
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        except OSError as error:
            errors.append(error)
            raise

    driver.serve(app)
    peer = driver.http1()
    peer.transport.breaks = True
    peer.send(REQUEST)
    assert len(errors) == 1
    assert len(peer.transport.writes) == 1
