"""How long-lived connections spread over instances that are replaced, and over more of them.

``python -m benchmarks.rebalance`` simulates 10,000 clients with a connection
each and 50 instances, through a rolling deployment and a scale-up, under
several policies for the age of connections, and prints what came of it. It
writes ``docs/scaling.svg``. Nothing is measured: the same seed gives the same
figures everywhere, in a few seconds.

A load balancer of connections is assumed, or clients that find instances
themselves: a new connection goes to an instance at random, and stays there.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from statistics import fmean

from h2asgi.connection import AGE_SPREAD

from .plot import STYLE

CLIENTS, INSTANCES, ADDED = 10_000, 50, 25
MINUTE = 60.0
ARRIVAL = 10.0
"""Seconds in which all clients connect at the start, as they do after an outage."""

DEPLOYMENT = 30 * MINUTE
REPLACEMENT = 12.0
"""Seconds from one instance to the next in the rolling deployment."""

SCALE_UP = 60 * MINUTE
END = 90 * MINUTE
SAMPLE = 10.0

RATE_SIGMA = 1.0
"""Clients differ: their rates of requests are log-normal, so that a tenth of them makes 39 %."""


@dataclass(frozen=True)
class Policy:
    """When connections end: at ``age`` seconds, give or take the share ``spread`` of it."""

    name: str
    css: str
    age: float = math.inf
    spread: float = 0.0
    least: bool = False
    """Whether a connection goes to the instance that has the fewest."""


POLICIES = (
    Policy("no bound", "kept"),
    Policy("10 min, all alike", "alike", 10 * MINUTE),
    Policy("10 min ± 10 %", "jitter", 10 * MINUTE, AGE_SPREAD),
    Policy("10 min ± 10 %, to the fewest", "fewest", 10 * MINUTE, AGE_SPREAD, least=True),
)


@dataclass
class Instance:
    """``load`` is requests a second, in units of the mean client's."""

    connections: int = 0
    load: float = 0.0


@dataclass(frozen=True)
class Sample:
    """Of one moment: load of the busiest and the idlest instance, as shares of the mean."""

    time: float
    busiest: float
    idlest: float
    reconnects: float
    """A second, since the sample before."""


@dataclass
class Fleet:
    """Clients, each on one of the instances that serve."""

    policy: Policy
    chance: random.Random
    rates: Sequence[float]
    serving: list[Instance] = field(default_factory=list)
    connects: int = 0

    def __post_init__(self) -> None:
        self._places: list[Instance | None] = [None] * len(self.rates)
        self._ends: list[float] = [math.inf] * len(self.rates)
        self._expiries: list[tuple[float, int]] = []

    def connect(self, client: int, now: float) -> None:
        """Leave the instance that the client is on, if any, for one that serves."""
        self._leave(client)
        place = self._choose()
        place.connections += 1
        place.load += self.rates[client]
        self._places[client] = place
        self.connects += 1
        policy = self.policy
        if policy.age < math.inf:
            spread = self.chance.uniform(1 - policy.spread, 1 + policy.spread)
            self._ends[client] = now + policy.age * spread
            heapq.heappush(self._expiries, (self._ends[client], client))

    def _leave(self, client: int) -> None:
        if (place := self._places[client]) is not None:
            place.connections -= 1
            place.load -= self.rates[client]

    def _choose(self) -> Instance:
        if self.policy.least:
            fewest = min(instance.connections for instance in self.serving)
            return self.chance.choice([i for i in self.serving if i.connections == fewest])
        return self.chance.choice(self.serving)

    def replace(self, number: int, now: float) -> None:
        """Start a new instance in the place of one, whose clients get GOAWAY and connect anew."""
        old, self.serving[number] = self.serving[number], Instance()
        for client, place in enumerate(self._places):
            if place is old:
                self.connect(client, now)

    def grow(self, count: int, now: float) -> None:
        """Start as many more; nobody is told."""
        self.serving += [Instance() for _ in range(count)]

    def expire(self, now: float) -> None:
        """End the connections that are old enough by ``now``, each at its own time."""
        while self._expiries and self._expiries[0][0] <= now:
            time, client = heapq.heappop(self._expiries)
            if time == self._ends[client]:  # it has not been replaced since
                self.connect(client, time)


def rates(chance: random.Random, count: int) -> list[float]:
    """Log-normal, with a mean of 1."""
    drawn = [chance.lognormvariate(0, RATE_SIGMA) for _ in range(count)]
    mean = fmean(drawn)
    return [rate / mean for rate in drawn]


def simulate(policy: Policy, seed: int = 1, clients: int = CLIENTS) -> list[Sample]:
    """Go from the first connection to END; the same clients for the same seed."""
    chance = random.Random(seed)
    fleet = Fleet(policy, chance, rates(chance, clients), [Instance() for _ in range(INSTANCES)])
    samples: list[Sample] = []

    def sample(now: float) -> None:
        samples.append(_sample(fleet, now))

    steps: list[tuple[float, Callable[[float], object]]] = [
        *(
            (ARRIVAL * number / clients, partial(fleet.connect, number))
            for number in range(clients)
        ),
        *((SAMPLE * number, sample) for number in range(1, round(END / SAMPLE) + 1)),
        (SCALE_UP, partial(fleet.grow, ADDED)),
    ]
    for number in range(INSTANCES):
        steps.append((DEPLOYMENT + REPLACEMENT * number, partial(fleet.replace, number)))
    for time, step in sorted(steps, key=lambda each: each[0]):
        fleet.expire(time)
        step(time)
    return samples


def _sample(fleet: Fleet, now: float) -> Sample:
    loads = [instance.load for instance in fleet.serving]
    mean = fmean(loads)
    connects, fleet.connects = fleet.connects, 0
    return Sample(now, max(loads) / mean, min(loads) / mean, connects / SAMPLE)


# Stream limits.

GATEWAYS = 200
CONCURRENCY = 50.0
"""Mean of the requests that a gateway has open at once; as uneven as the clients' rates."""


def busiest_share(limit: int, seed: int = 1, gateways: int = GATEWAYS) -> float:
    """Give the load of the busiest instance, as a share of the mean.

    Each gateway opens as many connections as it needs for its requests, if no
    more than ``limit`` fit on one, and each goes to an instance at random.
    """
    chance = random.Random(seed)
    loads = [0.0] * INSTANCES
    for rate in rates(chance, gateways):
        for streams in split(round(rate * CONCURRENCY), limit):
            loads[chance.randrange(INSTANCES)] += streams
    return max(loads) / fmean(loads)


def split(concurrency: int, limit: int) -> list[int]:
    """Give the requests of each connection: all are full but the last."""
    full, rest = divmod(concurrency, limit)
    return [limit] * full + [rest] * (rest > 0)


# The page.

WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900.0, 190.0, 60.0, 20.0, 30.0, 30.0
LINES = """
polyline { fill: none; stroke-width: 1.5; }
.axis { stroke: #8b98a9; stroke-width: 0.5; }
.kept { stroke: #cf222e; } .alike { stroke: #9a6700; }
.jitter { stroke: #1a7f5a; } .fewest { stroke: #0969da; }
@media (prefers-color-scheme: dark) {
  .kept { stroke: #ff7b72; } .alike { stroke: #d29922; }
  .jitter { stroke: #3fb984; } .fewest { stroke: #58a6ff; }
}
"""

Curves = Sequence[tuple[Policy, Sequence[Sample]]]


def svg(curves: Curves) -> str:
    """Three panels above each other: the busiest instance, the idlest one, reconnects."""
    most = max(sample.reconnects for _, samples in curves for sample in samples[1:])
    most = 100 * math.ceil(most / 100)
    panels = [
        ("Load of the busiest instance, mean = 1", lambda s: s.busiest, 4.0),
        ("Load of the idlest instance, mean = 1", lambda s: s.idlest, 1.0),
        ("Connections made in a second", lambda s: s.reconnects, most),
    ]
    height = PANEL_HEIGHT * len(panels) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img">',
        "<title>Load of instances through a rolling deployment and a scale-up</title>",
        f"<style>{STYLE}{LINES}</style>",
    ]
    for number, (title, value, top) in enumerate(panels):
        parts += _panel(title, value, top, PANEL_HEIGHT * number, curves)
    for number, (policy, _) in enumerate(curves):
        x, y = LEFT + 200 * number, height - 12
        parts.append(f'<polyline class="{policy.css}" points="{x:g},{y:g} {x + 24:g},{y:g}"/>')
        parts.append(f'<text x="{x + 30:g}" y="{y + 4:g}">{escape(policy.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    title: str, value: Callable[[Sample], float], most: float, top: float, curves: Curves
) -> list[str]:
    left, right = LEFT, WIDTH - RIGHT
    bottom, upper = top + PANEL_HEIGHT - BOTTOM, top + TOP

    def across(time: float) -> float:
        return left + (right - left) * time / END

    def up(amount: float) -> float:
        return bottom - (bottom - upper) * min(amount / most, 1.0)

    parts = [f'<text class="title" x="{left:g}" y="{top + 20:g}">{escape(title)}</text>']
    for amount in (0.0, most / 2, most):
        y = up(amount)
        parts.append(f'<polyline class="axis" points="{left:g},{y:g} {right:g},{y:g}"/>')
        parts.append(f'<text x="{left - 6:g}" y="{y + 4:g}" text-anchor="end">{amount:g}</text>')
    for time, name in ((0, "start"), (DEPLOYMENT, "deployment"), (SCALE_UP, "50 + 25 instances")):
        x = across(time)
        parts.append(f'<polyline class="axis" points="{x:g},{upper:g} {x:g},{bottom:g}"/>')
        parts.append(f'<text x="{x:g}" y="{bottom + 16:g}">{time / MINUTE:g} min, {name}</text>')
    for policy, samples in curves:
        points = " ".join(f"{across(s.time):.1f},{up(value(s)):.1f}" for s in samples[1:])
        parts.append(f'<polyline class="{policy.css}" points="{points}"/>')
    return parts


def at(samples: Sequence[Sample], time: float) -> Sample:
    """Give the sample of a moment."""
    return samples[round(time / SAMPLE) - 1]


def table(curves: Curves) -> list[str]:
    """Rows of Markdown: idlest and busiest instance a quarter of an hour after, and the peak."""
    rows = [
        "| age of connections | after the deployment | after the scale-up | most connects |",
        "| --- | ---: | ---: | ---: |",
    ]
    for policy, samples in curves:
        deployed = at(samples, DEPLOYMENT + REPLACEMENT * INSTANCES + 15 * MINUTE)
        scaled = at(samples, SCALE_UP + 15 * MINUTE)
        most = max(sample.reconnects for sample in samples[1:])
        spreads = [f"{each.idlest:.2f} to {each.busiest:.2f}" for each in (deployed, scaled)]
        rows.append(f"| {policy.name} | {spreads[0]} | {spreads[1]} | {most:.0f}/s |")
    return rows


def limits_table() -> list[str]:
    """Rows of Markdown: the busiest instance for each limit, as the mean of fifty draws."""
    rows = ["| streams on a connection | busiest instance |", "| ---: | ---: |"]
    for limit in (1000, 256, 128, 64, 32):
        share = fmean(busiest_share(limit, seed) for seed in range(50))
        rows.append(f"| {limit:,} | {share:.2f} |")
    return rows


def main() -> None:
    curves = [(policy, simulate(policy)) for policy in POLICIES]
    print("\n".join([*table(curves), "", *limits_table()]))
    Path("docs/scaling.svg").write_text(svg(curves), "utf-8")


if __name__ == "__main__":
    main()
