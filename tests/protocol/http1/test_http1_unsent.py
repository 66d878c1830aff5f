"""What waits beyond the high-water mark is counted in a budget that all connections share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_peer import GET, Peer

from h2asgi.limits import WatchedBudget
from h2asgi.protocol.engine import SEND_HIGH_WATER

SIZE = 2 * SEND_HIGH_WATER


@pytest.fixture
def budget() -> WatchedBudget:
    return WatchedBudget(10 * SIZE)


@pytest.fixture
def peer(connect: Callable[..., Peer], budget: WatchedBudget) -> Peer:
    """A client with a request whose answer has begun, and whose head has left."""
    peer = connect(unsent=budget)
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"%d" % (4 * SIZE))], False)
    peer.received()
    return peer


def test_what_waits_is_counted_until_it_has_mostly_left(peer: Peer, budget: WatchedBudget) -> None:
    peer.engine.send_data(1, bytes(SEND_HIGH_WATER), False)
    assert budget.used == 0, "nobody has to wait for that"
    peer.engine.send_data(1, bytes(SIZE), False)
    assert budget.used == peer.engine.unsent == SEND_HIGH_WATER + SIZE
    assert len(peer.engine.data_to_send(SEND_HIGH_WATER, 0.0)) == SEND_HIGH_WATER
    assert peer.engine.unsent == SIZE
    peer.engine.send_data(1, bytes(100), False)
    assert budget.used == peer.engine.unsent == SIZE + 100
    peer.received()
    assert budget.used == peer.engine.unsent == 0


def test_the_end_of_the_connection_gives_back_everything(peer: Peer, budget: WatchedBudget) -> None:
    peer.engine.send_data(1, bytes(SIZE), False)
    peer.engine.receive_eof(0.0)
    assert budget.used == SIZE, "a client that has half-closed may still read"
    peer.engine.terminate(0, "the connection is lost")
    peer.engine.terminate(0, "again")
    assert budget.used == 0


def test_a_connection_that_is_alone_has_a_budget_of_its_own(connect: Callable[..., Peer]) -> None:
    peer = connect()
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, bytes(SIZE), True)
    assert peer.engine.unsent > SIZE
