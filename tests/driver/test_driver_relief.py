"""Who is cut off when the responses that wait for their clients fill their budget."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from applications import START, body

from h2asgi.limits import WatchedBudget
from h2asgi.relief import HARD_LIMIT, LOOK_INTERVAL, LOOKS, Relief

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
SIZE = 1024 * 1024
NOTHING = {"INITIAL_WINDOW_SIZE": 0}
SOON = (LOOKS + 1) * LOOK_INTERVAL
"""Seconds after which a client that takes nothing was seen often enough."""


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(body(bytes(SIZE)))


@pytest.fixture(params=["http1", "http2"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def serve(driver: Any) -> Any:
    """Serve 1 MiB to whoever asks; so many of them fill the budget."""

    def serve(answers: float) -> Relief:
        driver.serve(large)
        driver.state.unsent = WatchedBudget(int(answers * SIZE))
        return Relief(driver.loop, driver.state.connections, driver.state.unsent)

    return serve


def ask(driver: Any, protocol: str) -> Any:
    """A client that asks and reads nothing."""
    if protocol == "http1":
        peer = driver.http1()
        peer.transport.stall()
        peer.send(GET)
    else:
        peer = driver.http2(**NOTHING)
        peer.request()
    return peer


def pass_time(driver: Any, seconds: float = SOON) -> None:
    for _ in range(round(seconds / LOOK_INTERVAL)):
        driver.loop.advance(LOOK_INTERVAL)


def test_below_the_budget_nobody_is_looked_at(driver, serve, protocol):
    serve(3)
    before = driver.loop.timers_made
    peers = [ask(driver, protocol) for _ in range(2)]
    pass_time(driver)
    assert not any(peer.transport.lost for peer in peers)
    assert not any(left <= LOOK_INTERVAL for left in driver.loop.timers_left())
    assert driver.loop.timers_made - before <= 2 * len(peers), "those of connections"


def test_as_many_as_it_takes_are_cut_off(driver, serve, protocol, caplog):
    serve(2.5)
    peers = [ask(driver, protocol) for _ in range(4)]
    assert not any(peer.transport.lost for peer in peers), "not before they were seen to be slow"
    with caplog.at_level(logging.WARNING, "h2asgi"):
        pass_time(driver)
    assert [peer.transport.aborted for peer in peers].count(True) == 2
    assert driver.state.unsent.used < 2.5 * SIZE
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--limit-unsent" in caplog.text


def test_those_for_which_most_waits_go_first(driver, serve):
    serve(3.5)
    small = [ask(driver, "http2") for _ in range(2)]
    large = ask(driver, "http2")
    large.request()
    pass_time(driver)
    assert large.transport.lost
    assert not any(peer.transport.lost for peer in small)


def test_who_takes_what_waits_within_a_minute_stays(driver, serve):
    """However little that is of it in a moment."""
    serve(1.75)
    honest = ask(driver, "http2")
    hostile = [ask(driver, "http2"), ask(driver, "http2")]
    for _ in range(2 * LOOKS + 4):
        honest.credit(1, 20_000)
        pass_time(driver, LOOK_INTERVAL)
    assert all(peer.transport.lost for peer in hostile)
    assert not honest.transport.lost


def test_who_pauses_for_a_moment_stays(driver, serve):
    serve(0.75)
    honest = ask(driver, "http2")
    for _ in range(4):
        pass_time(driver, (LOOKS - 1) * LOOK_INTERVAL)
        honest.credit(1, 20_000)
        driver.loop.settle()
    assert not honest.transport.lost


def test_an_octet_now_and_then_is_next_to_nothing(driver, serve):
    serve(0.75)
    peer = ask(driver, "http2")
    for _ in range(LOOKS + 2):
        if not peer.transport.lost:
            peer.credit(1, 1)
        pass_time(driver, LOOK_INTERVAL)
    assert peer.transport.lost


def test_far_above_the_budget_nobody_is_waited_for(driver, serve, protocol):
    serve(1.5)
    peers = [ask(driver, protocol) for _ in range(HARD_LIMIT * 2)]
    driver.loop.settle()
    assert driver.state.unsent.used < HARD_LIMIT * 1.5 * SIZE
    assert [peer.transport.lost for peer in peers].count(True) == 2


def test_it_is_over_when_what_waited_is_taken(driver, serve, caplog):
    serve(0.75)
    for _ in range(2):
        peer = ask(driver, "http2")
        peer.credit(0, SIZE)
        peer.credit(1, SIZE)
        assert peer.response(1).ended
        pass_time(driver)
    assert not driver.loop.timers_left() or min(driver.loop.timers_left()) > LOOK_INTERVAL
    assert not caplog.records or all(r.levelno < logging.WARNING for r in caplog.records)


def test_a_server_that_has_stopped_looks_no_more(driver, serve):
    relief = serve(0.75)
    peer = ask(driver, "http2")
    relief.stop()
    ask(driver, "http2")
    pass_time(driver)
    assert not peer.transport.lost
