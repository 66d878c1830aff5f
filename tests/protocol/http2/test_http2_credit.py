"""The arithmetic of credit by itself: when it is given, how much, and when windows are measured."""

from __future__ import annotations

import pytest

from h2asgi.config import KIB, MIB, HTTP2Config
from h2asgi.limits import Budget
from h2asgi.protocol.http2.receive_window import ConnectionWindow, ReceiveWindow
from h2asgi.protocol.http2.window_growth import (
    FASTER,
    FIRST_PAUSE,
    FRUITLESS_MEASUREMENTS,
    SHORTEST_ROUND_TRIP,
    WindowGrowth,
)

STREAM = 256 * KIB
CONNECTION = MIB
LARGEST = 16 * MIB


def growth(budget: Budget | None = None) -> WindowGrowth:
    return WindowGrowth(HTTP2Config(), budget or Budget(LARGEST))


# A stream.


@pytest.mark.parametrize(
    ("taken", "increment"), [(STREAM // 2 - 1, 0), (STREAM // 2, STREAM // 2), (STREAM, STREAM)]
)
def test_a_stream_gets_credit_from_half_a_window_on(taken: int, increment: int) -> None:
    window = ReceiveWindow(STREAM)
    assert window.receive(STREAM)
    window.acknowledge(taken)
    assert window.due == taken
    assert window.credit(growth()) == increment
    assert window.due == taken - increment
    assert window.available == increment


def test_a_stream_may_use_its_window_to_the_last_octet() -> None:
    window = ReceiveWindow(STREAM)
    assert window.receive(STREAM)
    assert not window.receive(1)


def test_a_window_that_is_to_shrink_gets_no_credit_until_it_has() -> None:
    budget = Budget(LARGEST)
    sizes = growth(budget)
    sizes._stream_window = 4 * STREAM
    window = ReceiveWindow(4 * STREAM)
    budget.used = LARGEST  # the first windows hold
    window.receive(4 * STREAM)
    window.acknowledge(2 * STREAM)
    assert window.credit(sizes) == 0
    assert window.size == STREAM
    window.acknowledge(2 * STREAM)
    assert window.credit(sizes) == STREAM


# The connection.


def connection(used: int, unread: int, maximum: int = LARGEST) -> ConnectionWindow:
    """One of which ``used`` octets have come, and ``unread`` of them were not taken."""
    window = ConnectionWindow(growth(), maximum, Budget(LARGEST))
    window.receive(used)
    window.acknowledge(used - unread)
    return window


@pytest.mark.parametrize(
    ("used", "unread", "increment"),
    [
        (CONNECTION // 2 - 1, 0, 0),
        (CONNECTION // 2, 0, CONNECTION // 2),
        (CONNECTION, 0, CONNECTION),
        # What is unread counts as held, and half of the window must be due all the same.
        (CONNECTION // 2, 1, 0),
        # A stream window is left, or just less.
        (CONNECTION - STREAM, CONNECTION - STREAM - STREAM // 2, 0),
        (CONNECTION - STREAM + 1, CONNECTION - STREAM // 2 * 3 + 1, STREAM // 2 + 1),
    ],
)
def test_when_the_connection_gets_credit(used: int, unread: int, increment: int) -> None:
    window = connection(used, unread)
    size = max(CONNECTION, unread + STREAM + STREAM // 2)
    assert window.size == size
    assert window.credit() == increment
    assert window.available == CONNECTION - used + increment
    assert window.credit() == 0, "once"


@pytest.mark.parametrize(("due", "increment"), [(STREAM // 2, STREAM // 2), (STREAM // 2 - 1, 0)])
def test_a_connection_with_little_left_gets_credit_sooner(due: int, increment: int) -> None:
    """From half a stream window on, also where it can grow no more."""
    used = CONNECTION - STREAM + 1
    assert connection(used, used - due, CONNECTION).credit() == increment
    assert connection(used - 1, used - 1 - due, CONNECTION).credit() == 0, "a stream window is left"


def test_what_is_unread_makes_the_connection_window_larger_up_to_its_maximum() -> None:
    window = connection(CONNECTION, CONNECTION)
    assert window.credit() == STREAM + STREAM // 2
    window = ConnectionWindow(growth(), CONNECTION + 100, Budget(LARGEST))
    window.receive(CONNECTION)
    assert window.size == CONNECTION + 100
    assert window.credit() == 0


# Measurements.


def measure(sizes: WindowGrowth, now: float, taken: int, seconds: float = 0.125) -> None:
    """With seconds that a float holds exactly."""
    assert sizes.begin(0, now)
    assert sizes.taken == 0
    sizes.taken = taken
    sizes.ping_acknowledged(now + seconds)


def test_windows_double_when_a_round_trip_takes_two_thirds_and_more() -> None:
    sizes = growth()
    measure(sizes, 0.0, STREAM * 2 // 3)
    assert sizes.stream_window == STREAM
    measure(sizes, 1.0, STREAM * 2 // 3 + 1)
    assert (sizes.stream_window, sizes.connection_window) == (2 * STREAM, 2 * CONNECTION)
    assert sizes.half_connection_window == CONNECTION
    assert type(sizes.half_connection_window) is int
    assert sizes.taken == 0


def test_windows_double_again_when_that_has_brought_something() -> None:
    sizes = growth()
    measure(sizes, 0.0, STREAM)
    measure(sizes, 1.0, int(2 * STREAM * FASTER) - 1, seconds=0.25)
    assert sizes.stream_window == 2 * STREAM
    measure(sizes, 2.0, int(2 * STREAM * FASTER), seconds=0.25)
    assert sizes.stream_window == 4 * STREAM


def test_a_round_trip_takes_some_time_whatever_the_clock_says() -> None:
    sizes = growth()
    measure(sizes, 0.0, STREAM, seconds=0.0)
    assert sizes._rate == STREAM / SHORTEST_ROUND_TRIP


def test_fruitless_measurements_come_ever_more_rarely_and_then_no_more() -> None:
    sizes, now = growth(), 0.0
    for number in range(FRUITLESS_MEASUREMENTS):
        assert sizes.enough == STREAM
        measure(sizes, now, 0)
        pause = FIRST_PAUSE * 2**number
        now += 0.125
        assert not sizes.begin(0, now + pause - 0.001)
        now += pause
    assert sizes.enough > 2**60
    assert sizes.stream_window == STREAM


def test_a_measurement_that_bore_fruit_makes_them_frequent_again() -> None:
    sizes = growth()
    measure(sizes, 0.0, 0)
    measure(sizes, 1.0, 0)
    measure(sizes, 2.0, STREAM)
    measure(sizes, 3.0, 0)
    assert not sizes.begin(0, 3.125 + FIRST_PAUSE - 0.001)
    assert sizes.begin(0, 3.125 + FIRST_PAUSE)


def test_nothing_is_measured_while_credit_is_due() -> None:
    sizes = growth()
    assert not sizes.begin(STREAM // 8 + 1, 0.0)
    assert sizes.begin(STREAM // 8, 0.0)


def test_an_acknowledgement_that_nobody_waits_for_is_nothing() -> None:
    sizes = growth()
    sizes.taken = 10 * STREAM
    sizes.ping_acknowledged(1.0)
    assert sizes.stream_window == STREAM
    assert sizes.taken == 10 * STREAM


def test_windows_grow_no_further_than_their_largest() -> None:
    sizes, now, taken = growth(), 0.0, STREAM
    while sizes.enough < 2**60:
        measure(sizes, now, taken)
        now, taken = now + 1, taken * 2
        assert now < 20
    assert (sizes.stream_window, sizes.connection_window) == (LARGEST // 2, LARGEST)
