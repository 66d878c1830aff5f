"""WebSockets that have their connection to themselves: octets go past the engine (HTTP/1.1)."""

from __future__ import annotations

import asyncio
import socket

import pytest
from applications import Stepwise
from tunnel_peers import PING, PONG, TEXT, HTTP1WebSocket, frame

from h2asgi.passage import MESSAGE, TURN

ACCEPTANCE = {"type": "websocket.accept"}
CORK = getattr(socket, "TCP_CORK", None)
CORKED = (socket.IPPROTO_TCP, CORK, True)
UNCORKED = (socket.IPPROTO_TCP, CORK, False)

needs_cork = pytest.mark.skipif(CORK is None, reason="this system cannot hold segments back")


async def echo(scope, receive, send):
    await receive()
    await send(ACCEPTANCE)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


@pytest.fixture
def websocket(driver):
    driver.serve(echo)
    return HTTP1WebSocket(driver, "/")


def frames(count):
    return b"".join(frame(TEXT, b"%d" % number) for number in range(count))


def answers(count):
    return [(TEXT, b"%d" % number) for number in range(count)]


def test_answers_need_no_turn_each(driver, websocket):
    websocket.peer.deliver(frames(10))
    driver.loop.turn()
    assert websocket.take() == answers(10)


def test_a_flood_gives_others_a_turn(driver, websocket):
    count = 3 * TURN // MESSAGE
    websocket.peer.deliver(frames(count))
    driver.loop.turn()
    first = websocket.take()
    assert 0 < len(first) <= TURN // MESSAGE
    driver.loop.settle()
    assert first + websocket.take() == answers(count)


def test_what_the_engine_has_goes_first(driver, websocket):
    """RFC 6455 section 5.5.2: a Pong is not to wait for messages behind it."""
    websocket.peer.deliver(frame(PING, b"p") + frames(2))
    driver.loop.settle()
    assert websocket.take() == [(PONG, b"p"), *answers(2)]


@pytest.mark.parametrize("turns", range(5))
def test_what_came_before_the_acceptance_goes_first(driver, turns):
    app = Stepwise()
    app.loop = driver.loop
    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/", frame(TEXT, b"early"))
    app.start("receive", ACCEPTANCE, "receive", "receive")
    for _ in range(turns):
        driver.loop.turn()
    websocket.peer.deliver(frame(TEXT, b"late"))
    driver.loop.settle()
    assert [message["text"] for message in app.done[2:]] == ["early", "late"]


@needs_cork
def test_the_peer_is_woken_once_for_messages_that_came_together(driver, websocket):
    sock = websocket.peer.transport.get_extra_info("socket")
    websocket.peer.send(frames(1))
    assert sock.options == []
    websocket.peer.send(frames(10))
    assert sock.options == [CORKED, UNCORKED]


@needs_cork
def test_nothing_is_held_back_over_a_turn_of_the_loop(driver):
    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        await receive()
        await receive()
        await send({"type": "websocket.send", "text": "a"})
        await asyncio.get_running_loop().create_future()

    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/")
    websocket.peer.deliver(frames(2))
    driver.loop.settle()
    sock = websocket.peer.transport.get_extra_info("socket")
    assert sock.options == [CORKED, UNCORKED]
    assert websocket.take() == [(TEXT, b"a")]


def test_large_messages_have_no_more_than_their_turn(driver):
    """Neither by the passage nor, when that gives way, by the engine."""
    size, taken = 20_000, [0]

    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        await receive()
        await receive()
        for _ in range(300):
            await send({"type": "websocket.send", "bytes": bytes(size)})
            taken[-1] += 1
        await receive()

    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/")
    websocket.peer.deliver(frames(1))
    while sum(taken) < 300:
        taken.append(0)
        driver.loop.turn()
    assert max(taken) <= TURN // (MESSAGE + size) + 1
