"""The simulation of scaling: nobody is lost or doubled, and age does what is said of it."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import pytest
from benchmarks import rebalance
from benchmarks.rebalance import Fleet, Instance, Policy, Sample

SCALING = Path(__file__).parents[1] / "docs" / "scaling.md"
KEPT, ALIKE, SPREAD, _ = rebalance.POLICIES
CLIENTS = 2000


def fleet(policy: Policy, clients: int = 100, instances: int = 5) -> Fleet:
    serving = [Instance() for _ in range(instances)]
    made = Fleet(policy, random.Random(1), [1.0] * clients, serving)
    for client in range(clients):
        made.connect(client, 0.0)
    return made


def loads(made: Fleet) -> list[float]:
    return [instance.load for instance in made.serving]


def test_a_replaced_instance_begins_with_nobody_and_nobody_is_lost() -> None:
    made = fleet(KEPT)
    made.replace(2, 1.0)
    assert sum(loads(made)) == 100
    assert sum(instance.connections for instance in made.serving) == 100
    made.replace(2, 2.0)
    assert sum(loads(made)) == 100


def test_more_instances_get_nobody_by_themselves() -> None:
    made = fleet(KEPT)
    made.grow(3, 1.0)
    made.expire(1e9)
    assert loads(made)[5:] == [0, 0, 0]


def test_connections_end_at_their_age_and_once() -> None:
    """A client that has moved meanwhile has a new age."""
    made = fleet(Policy("", "", age=10.0))
    made.connect(0, 5.0)
    made.connects = 0
    made.expire(9.9)
    assert made.connects == 0
    made.expire(10.0)
    assert made.connects == 99
    made.expire(19.9)
    assert made.connects == 100


def test_ages_differ_by_the_spread_and_no_more() -> None:
    made = fleet(Policy("", "", age=10.0, spread=0.1))
    made.connects = 0
    made.expire(8.99)
    assert made.connects == 0
    made.expire(10.0)
    assert 30 < made.connects < 70
    made.expire(11.01)
    assert made.connects == 100


def test_the_fewest_get_the_next() -> None:
    made = fleet(Policy("", "", least=True))
    assert loads(made) == [20] * 5
    made.grow(1, 0.0)
    for client in range(16):
        made.connect(client, 1.0)
    assert made.serving[-1].connections == 16


def test_rates_are_uneven_and_their_mean_is_one() -> None:
    drawn = sorted(rebalance.rates(random.Random(1), 20_000))
    assert fmean(drawn) == pytest.approx(1)
    assert sum(drawn[-2000:]) / sum(drawn) == pytest.approx(0.39, abs=0.02)


def simulated(policy: Policy) -> list[Sample]:
    return rebalance.simulate(policy, clients=CLIENTS)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert simulated(SPREAD) == simulated(SPREAD)
    assert rebalance.simulate(SPREAD, 2, CLIENTS) != simulated(SPREAD)


def test_without_a_bound_what_is_skewed_stays_skewed() -> None:
    samples = simulated(KEPT)
    assert len(samples) == rebalance.END / rebalance.SAMPLE
    end = rebalance.DEPLOYMENT + rebalance.REPLACEMENT * rebalance.INSTANCES
    after, later = (rebalance.at(samples, end + minutes * rebalance.MINUTE) for minutes in (1, 19))
    assert after.idlest < 0.2  # the last one that was replaced
    assert (after.idlest, after.busiest) == (later.idlest, later.busiest)
    assert samples[-1].idlest == 0
    assert samples[-1].reconnects == 0


def test_with_a_bound_the_skew_is_gone_after_that_time() -> None:
    samples = simulated(SPREAD)
    end = rebalance.SCALE_UP + 1.1 * SPREAD.age
    assert rebalance.at(samples, rebalance.SCALE_UP + rebalance.SAMPLE).idlest < 0.1
    assert rebalance.at(samples, end + rebalance.SAMPLE).idlest > 0.3


def test_connections_that_began_together_end_together_unless_ages_differ() -> None:
    peaks = {}
    for policy in (ALIKE, SPREAD):
        samples = simulated(policy)[1:]
        peaks[policy.name] = max(sample.reconnects for sample in samples)
    assert peaks[ALIKE.name] == pytest.approx(CLIENTS / rebalance.ARRIVAL, rel=0.01)
    # Over a fifth of the age.
    assert peaks[SPREAD.name] < 1.4 * CLIENTS / (0.2 * SPREAD.age)


@pytest.mark.parametrize(
    ("concurrency", "limit", "connections"),
    [(0, 10, []), (9, 10, [9]), (10, 10, [10]), (25, 10, [10, 10, 5])],
)
def test_a_gateway_opens_as_many_connections_as_it_needs(
    concurrency: int, limit: int, connections: list[int]
) -> None:
    assert rebalance.split(concurrency, limit) == connections


def test_a_lower_limit_of_streams_spreads_the_load_of_a_gateway() -> None:
    shares = [
        fmean(rebalance.busiest_share(limit, seed) for seed in range(20))
        for limit in (1000, 128, 32)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] > 1


def test_the_plot_is_xml_and_has_a_curve_for_each_policy_in_each_panel() -> None:
    curves = [(policy, simulated(policy)) for policy in (KEPT, SPREAD)]
    tree = ElementTree.fromstring(rebalance.svg(curves))
    for policy in (KEPT, SPREAD):
        lines = [each for each in tree if each.get("class") == policy.css]
        assert len(lines) == 3 + 1  # and one in the key


def test_the_document_has_the_tables_of_the_simulation() -> None:
    """Figures that anybody can have again, so they are as they stand there."""
    text = SCALING.read_text("utf-8")
    curves = [(policy, rebalance.simulate(policy)) for policy in rebalance.POLICIES]
    for row in (*rebalance.table(curves), *rebalance.limits_table()):
        assert row in text
