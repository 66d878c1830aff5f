"""The timer of a connection, over a clock that only the test moves."""

from __future__ import annotations

from math import inf

import pytest
from fake_transport import FakeLoop

from h2asgi.shared_by_transports import MAX_TURNS
from h2asgi.timer import LATE, Timer


class Timed:
    """A timer that runs its actions, and what was called when."""

    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.calls: list[tuple[str, float]] = []
        self.timer = Timer(loop, self._on_time)

    def _on_time(self) -> None:
        self.timer.run(self.loop.time())
        self.timer.update(None)

    def first(self) -> None:
        self.calls.append(("first", self.loop.now - 1000))

    def second(self) -> None:
        self.calls.append(("second", self.loop.now - 1000))


@pytest.fixture
def timed():
    loop = FakeLoop()
    yield Timed(loop)
    assert loop.errors == []
    loop.close()


def test_actions_are_called_once_each_in_the_order_of_their_times(timed):
    timed.timer.set(timed.second, 1020)
    timed.timer.set(timed.first, 1010)
    assert timed.timer.next == 1010
    timed.loop.advance(30)
    assert timed.calls == [("first", 30), ("second", 30)]
    timed.loop.advance(30)
    assert len(timed.calls) == 2
    assert timed.timer.next == inf


def test_an_action_that_is_set_again_has_only_its_last_time(timed):
    timed.timer.set(timed.first, 1010)
    timed.timer.set(timed.first, 1020)
    timed.loop.advance(10)
    assert timed.calls == []
    timed.loop.advance(10)
    assert timed.calls == [("first", 20)]


def test_a_cancelled_action_is_not_called(timed):
    timed.timer.set(timed.first, 1010)
    timed.timer.set(timed.second, 1010)
    timed.timer.cancel(timed.first)
    timed.timer.cancel(timed.first)
    assert not timed.timer.is_set(timed.first)
    assert timed.timer.is_set(timed.second)
    timed.loop.advance(10)
    assert timed.calls == [("second", 10)]


def test_an_action_may_cancel_another_that_is_due(timed):
    timed.timer.set(timed.timer.clear, 1005)
    timed.timer.set(timed.first, 1010)
    timed.loop.advance(10)
    assert timed.calls == []


def test_a_later_time_makes_no_new_timer(timed):
    timed.timer.update(1010)
    for due in (1010, 1020, None):
        timed.timer.update(due)
    assert timed.loop.timers_made == 1
    timed.timer.update(1005)
    assert timed.loop.timers_left() == [5]


def test_nothing_is_called_after_stop(timed):
    timed.timer.set(timed.first, 1010)
    timed.timer.stop()
    timed.loop.advance(10)
    assert timed.calls == []
    assert timed.loop.timers_left() == []


def test_after_the_loop_was_blocked_input_comes_first(timed):
    """One turn for what loops have behind timers, those in which it is read, and the flush."""
    timed.timer.set(timed.first, 1010)
    timed.loop.now += 10 + LATE
    for _ in range(1 + 1 + MAX_TURNS):
        timed.loop.turn()
    timed.loop.call_soon(timed.second)
    timed.loop.settle()
    assert [name for name, _ in timed.calls] == ["second", "first"]


def test_otherwise_a_timer_is_in_time(timed):
    timed.timer.set(timed.first, 1010)
    timed.loop.now += 10 + LATE / 2
    timed.loop.turn()
    assert len(timed.calls) == 1


def test_nothing_is_called_after_a_late_stop(timed):
    timed.timer.set(timed.first, 1010)
    timed.loop.now += 20
    timed.loop.turn()
    timed.timer.stop()
    timed.loop.settle()
    assert timed.calls == []


def test_a_loop_that_has_no_timer_for_what_is_due_now(timed, monkeypatch):
    """uvloop calls it in the next turn, by a handle that does not say when it is due."""
    call_at = timed.loop.call_at

    def at(when, callback, *args):
        return timed.loop.call_soon(callback) if when <= timed.loop.now else call_at(when, callback)

    monkeypatch.setattr(timed.loop, "call_at", at)
    timed.timer.set(timed.first, 1000)
    timed.timer.set(timed.second, 1000)
    timed.timer.set(timed.first, 999)
    timed.loop.advance(0)
    assert timed.calls == [("first", 0), ("second", 0)]
