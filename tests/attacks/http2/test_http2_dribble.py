"""Tiny windows (CVE-2019-9511, CVE-2019-9517): much is asked for, and little is let through.

What must hold: what waits is bounded by what a writer may queue on each stream, an update costs
about a frame, and updates that let next to nothing through are soon too many.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from http2_attacks import Step, assert_calmed, repeat
from http2_peer import INITIAL_WINDOW_SIZE, Data, Peer, settings, window_update

from h2asgi.config import Limits
from h2asgi.protocol.engine import SEND_HIGH_WATER

BURST, RATE = 1_000, 100
STREAMS = 100
REASON = "too many frames without content"

ATTACKS: dict[str, tuple[Step, int]] = {
    "an octet for a stream": (lambda peer, number: window_update(1, 1), 1),
    "an octet for the next stream": (
        lambda peer, number: window_update(2 * (number % STREAMS) + 1, 1),
        1,
    ),
    "an octet for all streams": (
        lambda peer, number: settings((INITIAL_WINDOW_SIZE, number + 1)),
        STREAMS + 2,
    ),
}


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    """A hundred downloads that wait, none of which has been sent an octet."""
    limits = Limits(http2_control_burst=BURST, http2_control_rate=RATE)
    peer = connect((INITIAL_WINDOW_SIZE, 0), limits=limits)
    for number in range(STREAMS):
        stream_id = 2 * number + 1
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, [], False)
        peer.engine.send_data(stream_id, bytes(SEND_HIGH_WATER), False)
    peer.received()
    return peer


@pytest.mark.parametrize("name", ATTACKS)
def test_dribble_ends_the_connection(peer: Peer, name: str) -> None:
    step, cost = ATTACKS[name]
    times, events = repeat(peer, step, 3 * BURST)
    earned = 2 * STREAMS  # by the heads of the responses
    # What a frame earns pays for no update that let less than a kibibyte of it through.
    assert BURST // cost - 10 <= times <= (BURST + earned) // cost + 10
    assert_calmed(peer, events, REASON)


def test_windows_of_the_connection_count_as_well(connect: Callable[..., Peer]) -> None:
    limits = Limits(http2_control_burst=BURST, http2_control_rate=RATE)
    peer = connect(limits=limits)
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    peer.send(window_update(1, 2**20))
    peer.engine.send_data(1, bytes(2**20), False)
    assert sum(len(a.data) for a in peer.received() if isinstance(a, Data)) == 65_535
    times, events = repeat(peer, lambda peer, number: window_update(0, 1), 3 * BURST)
    assert BURST <= times <= BURST + 20
    assert_calmed(peer, events, REASON)


def test_what_waits_does_not_grow_with_the_updates(peer: Peer) -> None:
    tracemalloc.start()
    try:
        repeat(peer, ATTACKS["an octet for the next stream"][0], BURST // 2)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 32 * 1024
    assert peak < 256 * 1024
