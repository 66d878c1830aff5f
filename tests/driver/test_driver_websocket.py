"""WebSockets between transport and application, the same over both protocols."""

from __future__ import annotations

import asyncio
import logging

import pytest
from applications import Stepwise, hello
from tunnel_peers import (
    ACCEPT,
    BINARY,
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    HTTP1WebSocket,
    HTTP2WebSocket,
    close_frame,
    frame,
)

from h2asgi.config import HTTP1Config, Timeouts, WebSocketConfig
from h2asgi.websocket_exchange import MAX_QUEUED, SLICE

ACCEPTANCE = {"type": "websocket.accept"}
CONNECT = {"type": "websocket.connect"}
UTF8_GONE_WRONG = b"\xff"
HALF = MAX_QUEUED // 2 + 1
"""Octets of a message, the third of which is held back if none is received."""


def text(data):
    return {"type": "websocket.send", "text": data}


def received(data):
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def code(number):
    return number.to_bytes(2, "big")


@pytest.fixture(params=[HTTP1WebSocket, HTTP2WebSocket], ids=["http1", "http2"])
def far_end(request):
    return request.param


@pytest.fixture
def quiet(caplog):
    """Nothing is logged above debug."""
    caplog.set_level(logging.DEBUG)
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []


class App(Stepwise):
    """Driven by the test; a WebSocket that it has accepted before."""

    def __init__(self, *steps):
        super().__init__()
        self.start("receive", ACCEPTANCE, *steps)

    def receive(self, count=1):
        """Receive so many messages; give those there are."""
        before = len(self.done)
        self.start(*["receive"] * count)
        self.loop.settle(count + 20)
        return self.done[before:]

    def send(self, *messages):
        before = len(self.done)
        self.start(*messages)
        self.loop.settle()
        return self.done[before:]


@pytest.fixture
def opened(driver, far_end, quiet):
    """Open a WebSocket: ``opened(**config)`` gives the application and its peer."""

    def open_one(path="/ws", *, behind=b"", **config):
        app = App()
        app.loop = driver.loop
        driver.serve(app, **config)
        websocket = far_end(driver, path, behind)
        assert websocket.status in (101, 200)
        assert app.done[:2] == [CONNECT, None]
        return app, websocket

    return open_one


# The handshake.


def test_handshake(driver, opened, far_end):
    app, websocket = opened("/ws?a=1")
    http1 = far_end is HTTP1WebSocket
    assert app.scope["type"] == "websocket"
    assert app.scope["scheme"] == "wss"
    assert app.scope["http_version"] == ("1.1" if http1 else "2")
    assert app.scope["query_string"] == b"a=1"
    [record] = driver.records
    status = 101 if http1 else 200
    assert (record.status, record.target, record.body_size) == (status, b"/ws?a=1", 0)
    if http1:
        assert b"\r\nsec-websocket-accept: " + ACCEPT in websocket.head
        assert b"\r\nserver: h2asgi" in websocket.head


def test_bad_handshakes_never_reach_the_application(driver, far_end, quiet):
    app = App()
    driver.serve(app, websocket=WebSocketConfig(origins=("https://a",)))
    if far_end is HTTP1WebSocket:
        peer = driver.http1()
        head = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        key = f"sec-websocket-key: {KEY}\r\n".encode()
        peer.send(head + b"sec-websocket-version: 13\r\n\r\n")
        assert peer.take().startswith(b"HTTP/1.1 400 ")
        peer.send(head + key + b"sec-websocket-version: 8\r\n\r\n")
        answer = peer.take()
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"\r\nsec-websocket-version: 13\r\n" in answer
        peer.send(head + key + b"sec-websocket-version: 13\r\norigin: https://b\r\n\r\n")
        assert peer.take().startswith(b"HTTP/1.1 403 ")
    else:
        peer = driver.http2()
        for fields, status in [
            ([], 400),
            ([("sec-websocket-version", "8")], 426),
            ([("sec-websocket-version", "13"), ("origin", "https://b")], 403),
        ]:
            protocol = (":protocol", "websocket")
            stream_id = peer.request("CONNECT", "/ws", protocol, *fields, end_stream=False)
            assert peer.response(stream_id).status == status
    assert app.scope is None
    assert len(driver.records) == 3


@pytest.mark.parametrize("behind", [b"", frame(TEXT, b"early")])
def test_refusal_leaves_the_connection_as_it_is(driver, far_end, behind, quiet):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await send({"type": "websocket.close"})

    driver.serve(app)
    if far_end is HTTP1WebSocket:
        behind = b""
    websocket = far_end(driver, "/ws", behind)
    assert (websocket.status, websocket.body) == (403, b"Forbidden")
    assert [record.status for record in driver.records] == [403]
    if far_end is HTTP1WebSocket:
        websocket.peer.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert websocket.peer.take().endswith(b"hello")
    else:
        assert websocket.peer.response(websocket.peer.request()).body == b"hello"
    assert not driver.state.tasks


def test_denial(driver, far_end):
    app = Stepwise()
    app.start(
        {"type": "websocket.http.response.start", "status": 401, "headers": []},
        {"type": "websocket.http.response.body", "body": b"not ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"you"},
        "receive",
        "receive",
        None,
    )
    driver.serve(app)
    websocket = far_end(driver, "/ws")
    assert websocket.status == 401
    assert b"not " in websocket.body
    assert b"you" in websocket.body
    assert app.done[3:] == [CONNECT, disconnect(1006)]
    assert [record.status for record in driver.records] == [401]


def test_switched_off_an_upgrade_is_an_ordinary_get(driver):
    driver.serve(hello, websocket=WebSocketConfig(enabled=False))
    websocket = HTTP1WebSocket(driver, "/ws")
    assert (websocket.status, websocket.body) == (200, b"hello")


@pytest.mark.parametrize("enabled", [True, False])
def test_extended_connect_is_advertised_where_it_is_served(driver, enabled):
    """RFC 8441 section 3."""
    driver.serve(hello, websocket=WebSocketConfig(enabled=enabled))
    peer = driver.connect("h2")
    settings = peer.take()
    assert (b"\x00\x08\x00\x00\x00\x01" in settings[:100]) is enabled


def test_messages_ahead_of_the_acceptance_wait_for_it(driver, far_end):
    app = Stepwise()
    app.loop = driver.loop
    driver.serve(app)
    websocket = far_end(driver, "/ws", frame(TEXT, b"early"))
    assert websocket.status == 0
    app.start("receive", ACCEPTANCE, "receive")
    driver.loop.settle()
    assert app.done == [CONNECT, None, received("early")]


def test_peer_that_leaves_before_the_answer(driver, far_end, quiet):
    app = Stepwise()
    driver.serve(app)
    websocket = far_end(driver, "/ws")
    websocket.abort()
    app.start("receive", "receive", ACCEPTANCE)
    driver.loop.settle()
    assert app.done[:2] == [CONNECT, disconnect(1006)]
    assert isinstance(app.done[2], OSError)
    assert [record.status for record in driver.records] == [0]


def test_end_of_the_tunnel_before_the_answer_is_a_lost_peer(driver):
    app = Stepwise()
    driver.serve(app)
    websocket = HTTP2WebSocket(driver, "/ws")
    websocket.end()
    app.start("receive", "receive")
    driver.loop.settle()
    assert app.done == [CONNECT, disconnect(1006)]
    websocket.take()
    assert websocket.reset is not None


def test_end_of_input_before_the_answer_is_a_lost_peer(driver):
    """In the clear a client can close its sending side; no WebSocket can be opened then."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect(False)
    from tunnel_peers import HEAD

    peer.send(HEAD.format(path="/").encode())
    peer.end()
    app.start("receive", "receive")
    driver.loop.settle()
    assert app.done == [CONNECT, disconnect(1006)]
    assert peer.transport.is_closing()


# Messages.


def test_messages_both_ways(opened):
    app, websocket = opened()
    websocket.send(TEXT, "é".encode())
    websocket.send(BINARY, bytes(100_000))
    assert app.receive(2) == [received("é"), received(bytes(100_000))]
    app.send(text("ü"), {"type": "websocket.send", "bytes": b"\x00"})
    assert websocket.take() == [(TEXT, "ü".encode()), (BINARY, b"\x00")]


def test_fragments_with_a_ping_between_them(opened):
    """RFC 6455 section 5.4."""
    app, websocket = opened()
    websocket.send(TEXT, b"a", fin=False)
    websocket.send(PING, b"p")
    assert websocket.take() == [(PONG, b"p")]
    websocket.send(0, b"b")
    assert app.receive() == [received("ab")]


def test_send_has_its_octets_in_the_transport_when_it_returns(driver, far_end):
    taken = []

    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        taken.append(connection[0].transport.get_write_buffer_size())
        connection[0].transport.writes.clear()
        await send(text("x" * 100))
        taken.append(sum(connection[0].transport.writes))

    connection = []
    original = driver._accept

    def accept(*arguments, **options):
        peer = original(*arguments, **options)
        connection.append(peer)
        return peer

    driver._accept = accept
    driver.serve(app)
    far_end(driver, "/ws")
    assert taken[1] >= 102


def test_peer_that_does_not_read_makes_send_wait(driver, opened):
    app, websocket = opened()
    websocket.peer.transport.stall()
    app.start(*[{"type": "websocket.send", "bytes": bytes(65_536)}] * 100)
    driver.loop.settle(300)
    sent = len(app.done) - 2
    assert sent < 10
    assert app.receive() == []  # it is still sending
    websocket.peer.transport.drain()
    if isinstance(websocket, HTTP2WebSocket):
        websocket.peer.credit(0, 500_000)
        websocket.peer.credit(websocket.stream_id, 500_000)
    driver.loop.settle(20)
    assert len(app.done) - 2 > sent


@pytest.mark.parametrize("size", [0, 100, 65_536])
def test_flood_is_held_back_and_nothing_of_it_is_lost(driver, opened, size):
    """Field note 19: credit on consumption. By the window of the stream, or by TCP."""
    app, websocket = opened(http1=HTTP1Config(receive_window=65_536))
    count = 3 * 262_144 // (size + 8)
    message = frame(BINARY, bytes(size))
    transport = websocket.peer.transport
    backlog = bytearray(message * count)
    http2 = isinstance(websocket, HTTP2WebSocket)
    credit = 262_144

    def push():
        """Send as much as the server takes."""
        nonlocal credit
        if http2:
            credit += websocket.peer.credits().get(websocket.stream_id, 0)
        while backlog and (credit > 0 if http2 else transport.reading):
            piece = bytes(backlog[: min(16_384, credit) if http2 else 16_384])
            del backlog[: len(piece)]
            credit -= len(piece)
            websocket.send_octets(piece)

    push()
    assert backlog, "nothing held the peer back"
    held = _held(driver)
    assert held < 2 * MAX_QUEUED + SLICE // 6 * 256
    app.start(*["receive"] * count)
    for _ in range(2_000):
        if len(app.done) == 2 + count:
            break
        driver.loop.settle(500)
        push()
    assert app.done[2:] == [received(bytes(size))] * count
    assert not backlog


def _held(driver):
    """Octets that the cycles of all WebSockets have queued."""
    [connection] = driver.state.connections
    return sum(websocket.cycle.queued for websocket in connection._exchanges._websockets.values())


def test_pings_are_answered_at_once_but_the_last_only_while_the_peer_does_not_read(driver, opened):
    """RFC 6455 section 5.5.3; a peer that reads nothing cannot pile up Pongs."""
    app, websocket = opened()
    transport = websocket.peer.transport
    transport.stall()
    for number in range(6_000):
        websocket.peer.deliver(_over(websocket, frame(PING, b"%0100d" % number)))
        if not number % 100:
            driver.loop.settle(2)
    driver.loop.settle()
    assert transport.get_write_buffer_size() < 400_000
    pongs = []
    for _ in range(20):
        transport.drain()
        driver.loop.settle()
        if isinstance(websocket, HTTP2WebSocket):
            websocket.peer.credit(0, 100_000)
            websocket.peer.credit(websocket.stream_id, 100_000)
        pongs += websocket.take()
    assert len(pongs) < 5_000
    assert pongs[-1] == (PONG, b"%0100d" % 5_999)
    assert app.done[2:] == []


def _over(websocket, data):
    """The octets of the connection that carry ``data`` through the tunnel."""
    if isinstance(websocket, HTTP1WebSocket):
        return data
    from hyperframe import frame as frames

    return frames.DataFrame(websocket.stream_id, data).serialize()


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
