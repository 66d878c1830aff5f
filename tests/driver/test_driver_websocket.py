"""WebSockets between transport and application, the same over both protocols."""

from __future__ import annotations

import pytest
from applications import Stepwise, hello
from tunnel_peers import (
    ACCEPT,
    BINARY,
    KEY,
    PING,
    PONG,
    TEXT,
    HTTP1WebSocket,
    HTTP2WebSocket,
    frame,
)
from websocket_app import ACCEPTANCE, CONNECT, App, disconnect, received, text

from h2asgi.config import HTTP1Config, WebSocketConfig
from h2asgi.websocket_exchange import MAX_QUEUED, SLICE

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
        assert b"\r\nupgrade: websocket\r\n" in answer
        assert b"\r\nconnection: upgrade\r\n" in answer
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
