"""Budgets, at any time and in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from h2asgi.limits import Budget, RateBudget, WatchedBudget

bursts = st.integers(1, 50)
rates = st.integers(0, 50)
steps = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5)), max_size=200)


@given(bursts, rates, steps)
def test_no_time_has_more_than_the_burst_and_the_rate_in_it(
    burst: int, rate: int, steps: list[tuple[float, int]]
) -> None:
    budget = RateBudget(burst, rate)
    now, taken = 0.0, []
    for pause, amount in steps:
        now += pause
        if budget.consume(now, amount):
            taken.append((now, amount))
    for first, (start, _) in enumerate(taken):
        total = 0
        for end, amount in taken[first:]:
            total += amount
            assert total <= burst + (end - start) * rate + 1e-6


@given(bursts, st.integers(1, 50), st.integers(1, 500))
def test_who_keeps_to_the_rate_is_never_refused(burst: int, rate: int, times: int) -> None:
    budget = RateBudget(burst, rate)
    assert all(budget.consume(number * (1 / rate) * (1 + 1e-9)) for number in range(times))


@given(bursts, rates)
def test_the_whole_burst_can_be_had_at_once_and_again_after_a_while(burst: int, rate: int) -> None:
    budget = RateBudget(burst, rate)
    for now in (0.0, 1_000.0):
        again = now == 0.0 or rate > 0
        assert [budget.consume(now) for _ in range(burst + 1)] == [again] * burst + [False]


@given(bursts, st.integers(1, 10))
def test_a_refusal_takes_nothing(burst: int, more: int) -> None:
    budget = RateBudget(burst, 0)
    assert not budget.consume(1.0, burst + more)
    assert budget.consume(1.0, burst)


def test_a_clock_that_runs_backwards_fills_nothing() -> None:
    budget = RateBudget(2, 1)
    assert budget.consume(100.0, 2)
    assert not budget.consume(50.0)
    assert not budget.consume(100.5)
    assert budget.consume(101.0)


def test_a_budget_that_is_shared_tells_when_it_is_used_up() -> None:
    budget = Budget(2)
    budget.used += 1
    assert not budget.exhausted
    budget.used += 1
    assert budget.exhausted


def test_whoever_watches_a_budget_is_called_for_what_is_added_when_it_is_used_up() -> None:
    budget, calls = WatchedBudget(3), []
    budget.add(3)  # nobody watches
    budget.used = 0
    budget.on_exhausted = lambda: calls.append(budget.used)
    for _ in range(4):
        budget.add(1)
    budget.used -= 2
    budget.add(0)
    assert calls == [3, 4]
