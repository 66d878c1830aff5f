"""Turns at reading, over a loop that is stepped by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from h2asgi.shared_by_transports import (
    HANDSHAKES_PER_TURN,
    MAX_TURNS,
    READS_PER_TURN,
    SharedByTransports,
)


class Loop:
    """``call_soon``, and ``turn`` to do what was scheduled before it."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def turn(self) -> None:
        scheduled, self.scheduled = self.scheduled, []
        for callback in scheduled:
            callback()


class Turns:
    """Readers, by number, and who has read."""

    def __init__(self) -> None:
        self.loop = Loop()
        loop: Any = self.loop
        self.shared = SharedByTransports(loop)
        self.readers: dict[int, Reader] = {}
        self.done: list[int] = []

    def ready(self, *numbers: int) -> None:
        """What the loop does when it names the sockets that have input."""
        for number in numbers:
            reader = self.readers.setdefault(number, Reader(number, self.done))
            if self.shared.may_read(reader):
                reader.read()

    def turn(self) -> list[int]:
        """Turns until somebody has read; who that was."""
        self.done.clear()
        while self.loop.scheduled and not self.done:
            self.loop.turn()
        return self.done.copy()


class Reader:
    def __init__(self, number: int, done: list[int]) -> None:
        self.number = number
        self._done = done

    def read(self) -> None:
        self._done.append(self.number)

    def end_watch(self) -> None: ...


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_a_few_read_at_once_and_the_rest_stand_in_line(turns):
    first = list(range(READS_PER_TURN))
    second = list(range(READS_PER_TURN, 2 * READS_PER_TURN))
    turns.ready(*first, *second, 1000)
    assert turns.done == first
    assert turns.turn() == second
    assert turns.turn() == [1000]


def test_who_is_named_again_stands_in_line_once(turns):
    turns.ready(*range(READS_PER_TURN + 2))
    turns.ready(READS_PER_TURN, READS_PER_TURN + 1)
    assert turns.turn() == [READS_PER_TURN, READS_PER_TURN + 1]
    assert turns.turn() == []


def test_nobody_overtakes_the_line(turns):
    turns.ready(*range(READS_PER_TURN * 2 + 1))
    turns.turn()
    turns.ready(0)  # has read in the first turn, and has input again
    assert turns.turn() == [READS_PER_TURN * 2, 0]


def test_many_are_through_within_a_few_turns(turns):
    many = range(READS_PER_TURN * 100)
    turns.ready(*many)
    done = turns.done.copy()
    sizes = [len(done)]
    while step := turns.turn():
        sizes.append(len(step))
        done += step
    assert done == list(many)
    assert sizes == [READS_PER_TURN, *[(len(many) - READS_PER_TURN) // MAX_TURNS] * MAX_TURNS]


def test_the_next_line_begins_with_small_parts(turns):
    turns.ready(*range(READS_PER_TURN * 100))
    while turns.turn():
        pass
    turns.ready(*range(READS_PER_TURN * 3))
    assert [len(turns.turn()) for _ in range(3)] == [READS_PER_TURN, READS_PER_TURN, 0]


def test_answers_go_before_further_reading(turns):
    """What a read schedules, such as the flush of its answers, comes before the next reads."""
    turns.ready(*range(READS_PER_TURN + 1))
    order = []
    turns.loop.call_soon(lambda: order.append("answer"))
    turns.readers[READS_PER_TURN].read = lambda: order.append("read")
    turns.turn()
    assert order == ["answer", "read"]


def test_steps_of_handshakes_are_taken_a_few_in_a_turn(turns):
    """Those that are lined up meanwhile come after."""
    taken = []
    for number in range(HANDSHAKES_PER_TURN + 2):
        turns.shared.line_up(partial(taken.append, number))
    assert taken == []
    turns.loop.turn()
    assert taken == list(range(HANDSHAKES_PER_TURN))
    turns.shared.line_up(partial(taken.append, "late"))
    turns.loop.turn()
    assert taken[HANDSHAKES_PER_TURN:] == [HANDSHAKES_PER_TURN, HANDSHAKES_PER_TURN + 1, "late"]
    assert turns.loop.scheduled == []


def test_a_step_that_lines_up_another_waits_for_its_turn(turns):
    taken = []
    turns.shared.line_up(lambda: turns.shared.line_up(partial(taken.append, "again")))
    turns.loop.turn()
    assert taken == []
    turns.loop.turn()
    assert taken == ["again"]


def test_an_idle_loop_is_left_alone(turns):
    turns.ready(1)
    turns.turn()
    assert turns.loop.scheduled == []
    turns.ready(1)
    assert turns.done == [1]


def test_one_that_fails_holds_up_nobody_else(turns):
    turns.ready(*range(READS_PER_TURN + 3))
    turns.readers[READS_PER_TURN].read = _fail
    with pytest.raises(ZeroDivisionError):
        turns.turn()
    assert turns.turn() == [READS_PER_TURN + 1, READS_PER_TURN + 2]


def _fail() -> None:
    raise ZeroDivisionError
