"""How WebSockets end: closed, lost, given up, stopped; the same over both protocols."""

from __future__ import annotations

import asyncio
import logging

import pytest
from applications import Stepwise, hello
from tunnel_peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    HTTP1WebSocket,
    HTTP2WebSocket,
    close_frame,
    frame,
)
from websocket_app import ACCEPTANCE, CONNECT, App, code, disconnect, received, text

from h2asgi.config import Timeouts, WebSocketConfig
from h2asgi.errors import IllegalMessage
from h2asgi.shared_by_transports import MAX_TURNS
from h2asgi.websocket_exchange import MAX_QUEUED

UTF8_GONE_WRONG = b"\xff"
HALF = MAX_QUEUED // 2 + 1
"""Octets of a message, the third of which is held back if none is received."""


# The end.


def test_peer_closes(driver, opened):
    app, websocket = opened()
    websocket.send(TEXT, b"last")
    websocket.close(3001, b"bye")
    [(opcode, payload)] = websocket.take()
    assert (opcode, payload[:2]) == (CLOSE, code(3001))
    assert websocket.ended
    assert app.receive(3) == [
        received("last"),
        disconnect(3001, "bye"),
        disconnect(3001, "bye"),
    ]
    assert isinstance(app.send(text("too late"))[0], OSError)
    app.finish()
    driver.loop.settle()
    assert not driver.state.tasks


def test_peer_closes_without_a_code(opened):
    """RFC 6455 section 7.1.5."""
    app, websocket = opened()
    websocket.send(CLOSE)
    assert websocket.take() == [(CLOSE, b"")]
    assert websocket.ended
    assert app.receive() == [disconnect(1005)]


def test_application_closes(driver, opened):
    app, websocket = opened()
    app.send({"type": "websocket.close", "code": 3000, "reason": "done"})
    assert websocket.take() == [(CLOSE, code(3000) + b"done")]
    assert not websocket.ended
    websocket.send(TEXT, b"under way")
    websocket.close(3000)
    websocket.take()
    assert websocket.ended
    assert app.receive() == [disconnect(3000, "done")]


def test_return_of_the_application_is_1000(driver, opened):
    app, websocket = opened()
    app.finish()
    driver.loop.settle()
    assert websocket.take() == [(CLOSE, code(1000))]
    assert not driver.state.tasks


def test_exception_in_the_application_is_1011(driver, far_end, caplog):
    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        raise ValueError("boom")

    driver.serve(app)
    websocket = far_end(driver, "/ws")
    assert websocket.take() == [(CLOSE, code(1011))]
    assert [r.levelno for r in caplog.records if r.levelno > logging.DEBUG] == [logging.ERROR]


@pytest.mark.parametrize("number", [1006, 1015, 999, 5000])
def test_close_codes_that_may_not_be_sent_raise(driver, far_end, number):
    """RFC 6455 section 7.4."""
    raised = []

    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        try:
            await send({"type": "websocket.close", "code": number})
        except RuntimeError as error:
            raised.append(error)

    driver.serve(app)
    websocket = far_end(driver, "/ws")
    assert len(raised) == 1
    assert websocket.take() == [(CLOSE, code(1000))]


@pytest.mark.parametrize("subprotocol", ["chat", "other"])
def test_subprotocol_that_was_not_offered_raises(driver, far_end, subprotocol):
    raised = []

    async def app(scope, receive, send):
        try:
            await send({**ACCEPTANCE, "subprotocol": subprotocol})
        except RuntimeError as error:
            raised.append(error)
            await send(ACCEPTANCE)

    driver.serve(app)
    websocket = far_end(driver, "/ws")
    assert len(raised) == 1
    assert websocket.take() == [(CLOSE, code(1000))]


def test_peer_that_does_not_answer_a_close_is_reset(driver, opened):
    app, websocket = opened(websocket=WebSocketConfig(close_timeout=5))
    app.send({"type": "websocket.close"})
    driver.loop.advance(4.9)
    websocket.take()
    assert websocket.reset is None
    driver.loop.advance(0.2)
    websocket.take()
    assert websocket.reset is not None


def test_close_is_looked_for_behind_messages_that_nobody_received(driver, opened):
    app, websocket = opened()
    for _ in range(3):
        websocket.send(BINARY, bytes(HALF))
    websocket.close(1000)
    app.send({"type": "websocket.close"})
    websocket.take()
    assert websocket.ended


def test_peer_that_keeps_its_half_open_after_the_close_is_reset(driver):
    app = App()
    driver.serve(app, websocket=WebSocketConfig(close_timeout=5))
    websocket = HTTP2WebSocket(driver, "/ws")
    websocket.close()
    websocket.take()
    assert (websocket.ended, websocket.reset) == (True, None)
    driver.loop.advance(5.1)
    websocket.take()
    assert websocket.reset is not None


def test_both_halves_ended_leave_nothing_behind(driver):
    driver.serve(App(), websocket=WebSocketConfig(close_timeout=5))
    websocket = HTTP2WebSocket(driver, "/ws")
    websocket.close()
    websocket.end()
    websocket.take()
    assert (websocket.ended, websocket.reset) == (True, None)
    [connection] = driver.state.connections
    assert not connection._exchanges
    assert 5.0 not in driver.loop.timers_left()


@pytest.mark.parametrize("held", [False, True])
def test_lost_peer_is_1006(driver, opened, held):
    app, websocket = opened()
    if held:
        websocket.send(TEXT, b"before")
    websocket.abort()
    assert app.receive(1 + held) == [received("before")] * held + [disconnect(1006)]
    assert isinstance(app.send(text("x"))[0], OSError)


def test_end_of_the_tunnel_without_a_close_is_1006(driver):
    app = App()
    app.loop = driver.loop
    driver.serve(app)
    websocket = HTTP2WebSocket(driver, "/ws")
    websocket.send(TEXT, b"last")
    websocket.end()
    websocket.take()
    assert (websocket.ended, websocket.reset) == (True, None)
    assert app.receive(2) == [received("last"), disconnect(1006)]


def test_end_of_the_tunnel_comes_behind_what_is_held_back(driver):
    app = App()
    app.loop = driver.loop
    driver.serve(app)
    websocket = HTTP2WebSocket(driver, "/ws")
    websocket.send_octets(frame(BINARY, bytes(HALF)) * 3 + close_frame(3000))
    websocket.end()
    assert app.receive(4)[1:] == [received(bytes(HALF))] * 2 + [disconnect(3000)]


@pytest.mark.parametrize("tls", [True, False])
def test_end_of_input_without_a_close_is_1006(driver, tls, quiet):
    app = App()
    app.loop = driver.loop
    driver.serve(app)
    from tunnel_peers import HEAD

    peer = driver.http1() if tls else driver.connect(False)
    peer.send(HEAD.format(path="/").encode())
    peer.end()
    assert app.receive() == [disconnect(1006)]
    assert peer.transport.is_closing()


@pytest.mark.parametrize(
    ("octets", "number"),
    [
        (frame(3), 1002),
        (frame(TEXT, UTF8_GONE_WRONG), 1007),
        (frame(BINARY, bytes(2_000)), 1009),
        (b"\x81\x01a", 1002),
    ],
)
def test_broken_rules_close_with_a_code(driver, opened, octets, number):
    """RFC 6455 sections 5 and 7.4.1."""
    app, websocket = opened(websocket=WebSocketConfig(max_message_size=1_000))
    websocket.send(TEXT, b"good")
    websocket.send_octets(octets + frame(TEXT, b"never seen"))
    [(opcode, payload)] = websocket.take()
    assert (opcode, payload[:2]) == (CLOSE, code(number))
    assert websocket.ended
    first, second = app.receive(2)
    assert (first, second["code"]) == (received("good"), number)


# Keep-alive.


def keep_alive(**settings):
    return {
        "websocket": WebSocketConfig(ping_interval=20, ping_timeout=10, **settings),
        "timeouts": Timeouts(http2_idle=1e6),
    }


def test_silent_peer_is_pinged_and_then_given_up(driver, opened):
    app, websocket = opened(**keep_alive())
    driver.loop.advance(19.9)
    assert websocket.take() == []
    driver.loop.advance(0.2)
    assert [opcode for opcode, _ in websocket.take()] == [PING]
    driver.loop.advance(9.9)
    assert websocket.take() == []
    driver.loop.advance(0.2)
    assert websocket.take() == [(CLOSE, code(1011) + b"keepalive ping timeout")]
    assert websocket.ended
    assert app.receive() == [disconnect(1006, "keepalive ping timeout")]


@pytest.mark.parametrize("opcode", [PONG, TEXT])
def test_any_sign_of_life_will_do(driver, opened, opcode):
    _, websocket = opened(**keep_alive())
    for _ in range(3):
        driver.loop.advance(20.1)
        [(ping, payload)] = websocket.take()
        assert ping == PING
        websocket.send(opcode, payload)
    driver.loop.advance(15)
    assert websocket.take() == []
    websocket.send(TEXT, b"x")
    driver.loop.advance(15)
    assert websocket.take() == []


def test_timeout_does_not_run_while_the_peer_is_held_back(driver, opened):
    """Its answer may be behind what the application has yet to receive."""
    app, websocket = opened(**keep_alive())
    for _ in range(3):
        websocket.send(BINARY, bytes(HALF))
    for _ in range(10):
        driver.loop.advance(15)
    assert websocket.take() == []
    app.receive(3)
    driver.loop.advance(19)
    assert websocket.take() == []
    driver.loop.advance(2)
    assert [opcode for opcode, _ in websocket.take()] == [PING]


def test_pings_can_be_switched_off(driver, opened):
    _, websocket = opened(
        websocket=WebSocketConfig(ping_interval=0), timeouts=Timeouts(http2_idle=1e6)
    )
    for _ in range(10):
        driver.loop.advance(100)
    assert websocket.take() == []


def test_one_timer_serves_a_busy_websocket(driver, opened):
    app, websocket = opened(**keep_alive())
    made = driver.loop.timers_made
    for _ in range(100):
        websocket.send(TEXT, b"x")
        app.receive()
        driver.loop.advance(0.1)
    assert driver.loop.timers_made <= made + 1


# The shutdown.


def test_shutdown_closes_with_1012(driver, opened):
    app, websocket = opened()
    websocket.peer.connection.begin_shutdown()
    driver.loop.settle()
    assert websocket.take() == [(CLOSE, code(1012))]
    assert app.receive() == [disconnect(1012)]
    assert isinstance(app.send(text("x"))[0], OSError)
    app.finish()
    websocket.close(1012)
    if isinstance(websocket, HTTP2WebSocket):
        websocket.end()
        driver.loop.advance(1)
    assert websocket.peer.connection._closing
    assert not driver.state.tasks


def test_shutdown_waits_for_the_answer_to_a_handshake(driver, far_end, quiet):
    app = Stepwise()
    driver.serve(app)
    websocket = far_end(driver, "/ws")
    websocket.peer.connection.begin_shutdown()
    driver.loop.settle()
    app.start("receive", ACCEPTANCE, "receive")
    driver.loop.settle()
    assert app.done == [CONNECT, None, disconnect(1012)]
    assert websocket.take() == [(CLOSE, code(1012))]


def test_what_outlives_the_shutdown_is_reset(driver, opened):
    app, websocket = opened()
    websocket.peer.connection.begin_shutdown()
    websocket.peer.connection.abort_streams()
    driver.loop.settle()
    websocket.take()
    assert websocket.reset is not None
    assert app.receive() == [disconnect(1012)]


def test_writers_that_wait_fail_when_the_peer_is_lost(driver, opened):
    app, websocket = opened()
    websocket.peer.transport.stall()
    app.start(*[{"type": "websocket.send", "bytes": bytes(300_000)}] * 4)
    driver.loop.settle()
    assert len(app.done) < 2 + 4
    websocket.abort()
    assert isinstance(app.done[-1], OSError)


def test_tunnel_and_requests_share_a_connection(driver):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await send(ACCEPTANCE)
        await asyncio.get_running_loop().create_future()

    driver.serve(app)
    websocket = HTTP2WebSocket(driver, "/ws")
    peer = websocket.peer
    assert websocket.status == 200
    assert peer.response(peer.request()).body == b"hello"


def test_a_close_whose_reason_has_no_utf8_is_refused_and_another_one_sent(driver, far_end):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPTANCE)
        with pytest.raises(IllegalMessage):
            await send({"type": "websocket.close", "code": 1000, "reason": "\ud800"})
        await send({"type": "websocket.send", "text": "still here"})

    driver.serve(app)
    websocket = far_end(driver, "/ws")
    (opcode, data), (last, _) = websocket.take()
    assert (opcode, data, last) == (TEXT, b"still here", CLOSE)


def test_a_pong_that_came_while_the_loop_was_blocked_is_in_time(driver, opened):
    _, websocket = opened(websocket=WebSocketConfig(ping_interval=20, ping_timeout=20))
    driver.loop.advance(20.1)
    assert websocket.take() == [(PING, b"")]
    driver.loop.now += 21
    for _ in range(1 + 1 + MAX_TURNS):  # behind the timers, and all the others who are read from
        driver.loop.turn()
    websocket.send(PONG)
    assert websocket.take() == []
    assert not websocket.ended


@pytest.fixture
def slow(driver):
    """A WebSocket whose peer takes a mebibyte or less, and then nothing for nine seconds."""
    config = WebSocketConfig(ping_interval=20, ping_timeout=10, close_timeout=10)
    app = App()
    app.loop = driver.loop
    driver.serve(app, websocket=config, timeouts=Timeouts(min_transfer_rate=0))
    websocket = HTTP1WebSocket(driver, "/ws")
    transport = websocket.peer.transport
    transport.stall()

    def take(times: int) -> None:
        for _ in range(times):
            driver.loop.advance(9)
            transport.drain()
            transport.stall()
            driver.loop.settle()

    return app, websocket, take


def test_a_peer_that_is_busy_with_a_message_is_not_late_with_a_pong(driver, slow):
    app, websocket, take = slow
    app.start({"type": "websocket.send", "bytes": bytes(8 * 2**20)})
    take(9)
    (opcode, data), *pings = websocket.take()
    assert (opcode, len(data)) == (BINARY, 8 * 2**20)
    assert {opcode for opcode, _ in pings} == {PING}
    for _ in range(4):  # now there is nothing that keeps it from answering
        driver.loop.advance(15)
    take(1)
    assert websocket.take()[-1][0] == CLOSE


def test_a_peer_that_is_busy_with_a_message_is_not_late_with_its_close(driver, slow):
    app, websocket, take = slow
    app.start({"type": "websocket.send", "bytes": bytes(4 * 2**20)}, {"type": "websocket.close"})
    take(8)
    assert [(opcode, len(data)) for opcode, data in websocket.take()][0::2] == [
        (BINARY, 4 * 2**20), (CLOSE, 2),
    ]  # fmt: skip
    driver.loop.advance(20)
    assert websocket.peer.transport.lost
