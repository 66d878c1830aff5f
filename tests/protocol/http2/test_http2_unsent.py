"""What waits to be sent is counted in a budget that all connections share, exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import INITIAL_WINDOW_SIZE, Peer, rst_stream, settings, window_update

from h2asgi.limits import WatchedBudget

SIZE = 50_000


@pytest.fixture
def budget() -> WatchedBudget:
    return WatchedBudget(10 * SIZE)


@pytest.fixture
def peer(connect: Callable[..., Peer], budget: WatchedBudget) -> Peer:
    """A client that asks for three answers and lets nothing of them through."""
    peer = connect((INITIAL_WINDOW_SIZE, 0), unsent=budget)
    for stream_id in (1, 3, 5):
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, [], False)
        peer.engine.send_data(stream_id, bytes(SIZE), stream_id == 5)
    peer.received()
    return peer


def test_what_the_windows_hold_back_is_counted(peer: Peer, budget: WatchedBudget) -> None:
    assert budget.used == peer.engine.unsent == 3 * SIZE
    peer.send(window_update(1, 20_000))
    peer.received()
    assert budget.used == peer.engine.unsent == 3 * SIZE - 20_000


def test_nothing_is_counted_once_all_has_left(peer: Peer, budget: WatchedBudget) -> None:
    peer.send(settings((INITIAL_WINDOW_SIZE, SIZE)), window_update(0, 3 * SIZE))
    peer.received()
    assert budget.used == peer.engine.unsent == 0


def test_small_answers_that_need_not_wait_are_not_counted(
    connect: Callable[..., Peer], budget: WatchedBudget
) -> None:
    peer = connect(unsent=budget)
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"hello", True)
    assert budget.used == 0


@pytest.mark.parametrize("by", ["the peer", "us"])
def test_a_reset_gives_back_what_its_stream_held(
    peer: Peer, budget: WatchedBudget, by: str
) -> None:
    if by == "us":
        peer.engine.reset_stream(3, 8)
    else:
        peer.send(rst_stream(3))
    assert budget.used == peer.engine.unsent == 2 * SIZE


def test_the_end_of_the_connection_gives_back_everything(peer: Peer, budget: WatchedBudget) -> None:
    peer.engine.terminate(0, "over")
    peer.engine.receive_eof(peer.now)
    assert budget.used == peer.engine.unsent == 0


def test_a_connection_that_is_alone_has_a_budget_of_its_own(connect: Callable[..., Peer]) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, bytes(SIZE), True)
    assert peer.engine.unsent == SIZE
