"""WebSockets that have their connection to themselves: octets go past the engine (HTTP/1.1)."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from applications import Stepwise
from tunnel_peers import BINARY, CLOSE, PING, PONG, TEXT, HTTP1WebSocket, frame

from h2asgi import passage
from h2asgi.output import GATHERED_SIZE
from h2asgi.passage import MESSAGE, SHORT, TURN

ACCEPTANCE = {"type": "websocket.accept"}


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


@pytest.fixture
def quick(monkeypatch):
    """However long an application takes, it is quick, and has been for long enough."""
    monkeypatch.setattr(passage, "QUICK", inf)
    monkeypatch.setattr(passage, "PROOF", 0)


@pytest.mark.usefixtures("quick")
def test_answers_to_messages_that_came_together_are_one_write(driver, websocket):
    websocket.peer.send(frames(1))
    writes = websocket.peer.transport.writes
    writes.clear()
    websocket.peer.send(frames(10))
    assert writes == [10 * 3]
    assert websocket.take()[1:] == answers(10)


@pytest.mark.usefixtures("quick")
def test_one_write_gathers_no_more_than_a_record(driver, websocket):
    size = GATHERED_SIZE // 4
    websocket.peer.transport.writes.clear()
    websocket.peer.send(10 * frame(BINARY, bytes(size)))
    assert websocket.take() == 10 * [(BINARY, bytes(size))]
    assert websocket.peer.transport.writes == 3 * [3 * (size + 4)] + [size + 4]


@pytest.mark.usefixtures("quick")
def test_a_large_message_is_not_held_back(driver, websocket):
    websocket.peer.transport.writes.clear()
    large = frame(BINARY, bytes(SHORT + 1))
    websocket.peer.send(large + frames(2))
    assert websocket.take() == [(BINARY, bytes(SHORT + 1)), *answers(2)]
    assert websocket.peer.transport.writes == [SHORT + 1 + 4, 2 * 3]


@pytest.mark.usefixtures("quick")
def test_nothing_is_held_back_over_a_turn_of_the_loop(driver):
    async def app(scope, receive, send):
        await send(ACCEPTANCE)
        await receive()
        await receive()
        await send({"type": "websocket.send", "text": "a"})
        await asyncio.get_running_loop().create_future()

    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/")
    websocket.peer.deliver(frames(3))
    driver.loop.settle()
    assert websocket.take() == [(TEXT, b"a")]


class Echo:
    """Notes how many answers have arrived each time that it has sent one."""

    def __init__(self, driver):
        self.arrived = []
        driver.serve(self)
        self.websocket = HTTP1WebSocket(driver, "/")

    async def __call__(self, scope, receive, send):
        await receive()
        await send(ACCEPTANCE)
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "unanswered":
                continue
            await send({**message, "type": "websocket.send"})
            self.arrived.append(len(self.websocket.take()))
            if message["text"] == "slow":
                passage.QUICK = -inf


def test_an_application_is_to_be_quick_many_times_before_its_answers_wait(driver, monkeypatch):
    monkeypatch.setattr(passage, "QUICK", inf)
    echo = Echo(driver)
    echo.websocket.peer.send(frames(passage.PROOF + 10))
    assert echo.arrived == passage.PROOF * [1] + 9 * [0] + [10]


def test_an_application_that_blocks_the_loop_answers_one_by_one(driver, monkeypatch):
    monkeypatch.setattr(passage, "QUICK", -inf)
    echo = Echo(driver)
    echo.websocket.peer.send(frames(passage.PROOF + 10))
    assert echo.arrived == (passage.PROOF + 10) * [1]


@pytest.fixture
def proven(driver, monkeypatch):
    """It is quick as it begins, and after three messages it has been for long enough."""
    monkeypatch.setattr(passage, "QUICK", inf)
    monkeypatch.setattr(passage, "PROOF", 2)
    return Echo(driver)


def test_an_application_that_was_slow_once_has_to_be_quick_again(proven):
    proven.websocket.peer.send(frames(4) + frame(TEXT, b"slow") + frames(4))
    assert proven.arrived == [1, 1, 0, 0, 0, 4, 1, 1, 1]


@pytest.mark.parametrize(
    ("second", "arrived"),
    [(b"answered", [0, 2, 1, 1]), (b"unanswered", [0, 2])],
)
def test_an_application_may_be_slow_with_the_last_message(proven, second, arrived):
    """Whether it answers that one or not."""
    proven.websocket.peer.send(frames(3))
    passage.QUICK = -inf
    for _ in range(2):
        proven.websocket.peer.send(frames(1) + frame(TEXT, second))
    assert proven.arrived == [1, 1, 1, *arrived]
    assert len(proven.websocket.take()) == 0


@pytest.mark.usefixtures("quick")
def test_a_close_goes_behind_what_was_gathered(driver):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPTANCE)
        await receive()
        await send({"type": "websocket.send", "text": "a"})
        await send({"type": "websocket.close", "code": 1000})

    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/")
    websocket.peer.send(frames(2))
    assert websocket.take() == [(TEXT, b"a"), (CLOSE, b"\x03\xe8")]


@pytest.mark.usefixtures("quick")
def test_what_was_gathered_is_lost_with_the_connection(driver):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPTANCE)
        await receive()
        await send({"type": "websocket.send", "text": "a"})
        websocket.peer.transport.lose(ConnectionResetError())
        ends.append(await receive())
        ends.append(await receive())

    ends = []
    driver.serve(app)
    websocket = HTTP1WebSocket(driver, "/")
    websocket.peer.send(frames(2))
    assert [end["type"] for end in ends] == ["websocket.receive", "websocket.disconnect"]
    assert websocket.take() == []


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
