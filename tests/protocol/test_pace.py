"""Whether a transfer moves, seen by looks alone."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.protocol.pace import LOOKS, SHORTEST_STRETCH, Pace, Transfer

seconds = st.floats(0.1, 1000.0)


def test_a_pace_that_asks_for_nothing_needs_no_looks() -> None:
    assert Pace(0, 0).interval == inf


def test_looks_are_a_quarter_of_the_timeout_apart() -> None:
    assert Pace(60, 100).interval == 15
    assert Pace(0, 100).interval == SHORTEST_STRETCH / LOOKS


@given(timeout=seconds, closer=st.floats(0.05, 1.0), moves=st.lists(seconds, max_size=20))
def test_a_stall_is_never_seen_early_and_late_by_a_look_at_most(
    timeout: float, closer: float, moves: list[float]
) -> None:
    """``moves`` are the pauses between octets; ``closer`` is for looks that others ask for."""
    pace, transfer, now, last, total = Pace(timeout, 0), Transfer(), 0.0, 0.0, 0
    interval = pace.interval * closer
    arrivals: list[float] = []
    for pause in moves:
        arrivals.append((arrivals[-1] if arrivals else 0.0) + min(pause, timeout * 0.99))
    while True:
        now += interval
        while arrivals and arrivals[0] <= now:
            last, total = arrivals.pop(0), total + 1
        reason = transfer.look(total, pace, interval, rated=True)
        stalled = now - last
        assert stalled <= timeout + 2 * interval + 1e-6
        if reason:
            assert stalled >= timeout - 1e-6
            assert not arrivals
            return


def test_looks_that_come_late_count_once() -> None:
    """The loop was blocked, and what the peer sent is unread in the kernel."""
    pace, transfer = Pace(60, 0), Transfer()
    for _ in range(LOOKS):
        assert transfer.look(5, pace, pace.interval, rated=True) == ""
    assert transfer.look(6, pace, pace.interval, rated=True) == ""
    for _ in range(LOOKS - 1):
        assert transfer.look(6, pace, pace.interval, rated=True) == ""
    assert transfer.look(6, pace, pace.interval, rated=True) == "nothing moved for too long"


def rate(pace: Pace, octets_per_look: int, looks: int, *, rated: bool = True) -> list[str]:
    transfer = Transfer()
    seen = [
        transfer.look(octets_per_look * look, pace, pace.interval, rated=rated)
        for look in range(looks)
    ]
    return [reason for reason in seen if reason]


@pytest.mark.parametrize("timeout", [0, 40, 120])
def test_the_rate_is_asked_of_each_stretch(timeout: float) -> None:
    pace = Pace(timeout, 100)
    enough = round(100 * pace.interval)
    assert rate(pace, enough, 41) == []
    assert len(rate(pace, enough - 1, 41)) == 10
    assert rate(pace, enough - 1, 41, rated=False) == []


def test_a_slow_stretch_is_not_excused_by_a_fast_one() -> None:
    pace, transfer = Pace(60, 100), Transfer()
    for look in range(LOOKS + 1):
        assert transfer.look(look * 1_000_000, pace, pace.interval, rated=True) == ""
    total = LOOKS * 1_000_000
    seen = [transfer.look(total + n, pace, pace.interval, rated=True) for n in range(1, LOOKS + 1)]
    assert seen[-1] == "slower than the minimum transfer rate"
    assert not any(seen[:-1])


def test_a_stall_is_not_cut_short_by_the_rate() -> None:
    assert Pace(60, 100).stretch == 60
    assert Pace(10, 100).stretch == SHORTEST_STRETCH
