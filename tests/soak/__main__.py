"""Hours by hand, a minute in CI: ``python -m tests.soak [--seconds 60] [OPTION...]``.

Honest and hostile clients at once against one server, which OPTIONs of h2asgi may set up. Then all
leave, and the server must hold what it held at the start. Exits with 1 if it holds more, if an
honest request failed, or if it complained.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from . import honest, hostile
from .attackers import Attackers
from .soak_app import DEAF, Ledger
from .target import Target, Watcher, processes, serving_command

HONEST, HOSTILE = 6, 8
"""Clients at a time, so that two cores are busy but not beyond."""

LEFT_WITHIN = 45.0
"""Seconds in which all has to be given back; who never reads is waited for the longest."""

MORE_MEMORY = 32 * 1024 * 1024
"""Octets that the process may have grown by, without what malloc keeps though it is free: heaps and
Python's arenas are given back only where they are empty, and after a peak few are."""

SAMPLE = 1.0


@dataclass
class Outcome:
    """What was held at the start, at most, and at the end; what was done in between."""

    start: Ledger
    peak: Ledger
    end: Ledger
    answered: int
    attacks: int
    failures: list[str]

    @property
    def grown(self) -> list[str]:
        """What is held at the end and was not at the start."""
        start, end = dataclasses.asdict(self.start), dataclasses.asdict(self.end)
        start["memory"] += MORE_MEMORY
        return [name for name in end if end[name] > start[name]]


def soak(seconds: float, *options: str) -> Outcome:
    with serving_command(*options) as (command, target):
        watcher = Watcher(target)
        start = _warm_up(target, watcher)
        answered, attacks, failures, peak = _busy(target, watcher, seconds)
        end = _until_left(watcher, start)
        watcher.close()
        assert command.process.poll() is None
    return Outcome(start, _peak(peak, end), end, answered, attacks, failures)


def _warm_up(target: Target, watcher: Watcher) -> Ledger:
    """Have everything happen once, so that what is made once is there; give what is held then."""
    for errand in honest.ERRANDS:
        errand(target)
    with ThreadPoolExecutor(HOSTILE) as attackers:
        for done in [attackers.submit(attack, target) for attack in hostile.ATTACKS.values()]:
            done.result()
    time.sleep(DEAF)
    for _ in range(3):  # the head of either request is remembered when it is seen again
        watcher.read()
        watcher.read(collect=True)
    return _until_left(watcher, None)


def _busy(target: Target, watcher: Watcher, seconds: float) -> tuple[int, int, list[str], Ledger]:
    stopped, results = processes.Event(), processes.Queue()
    arguments = (target, HONEST, stopped, results)
    clients = processes.Process(target=honest.run, args=arguments, daemon=True)
    clients.start()
    peak = watcher.read()
    until = time.monotonic() + seconds
    attackers = Attackers(target, HOSTILE)
    with closing(attackers), attackers.attacking(*hostile.ATTACKS):
        while time.monotonic() < until:
            time.sleep(SAMPLE)
            peak = _peak(peak, watcher.read())
        stopped.set()
    answered, failures = results.get()
    clients.join()
    return answered, attackers.attacks, failures, peak


def _peak(one: Ledger, other: Ledger) -> Ledger:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return Ledger(*map(max, pairs))


def _until_left(watcher: Watcher, start: Ledger | None) -> Ledger:
    """Wait until all clients are gone, and what they had; or until it is clear that it stays."""
    until = time.monotonic() + LEFT_WITHIN
    while True:
        ledger = watcher.read(collect=True)
        left = ledger.connections == ledger.requests == 1
        if start is not None:
            left = left and ledger.objects <= start.objects and ledger.tasks <= start.tasks
        if left or time.monotonic() > until:
            return ledger
        time.sleep(SAMPLE)


def table(outcome: Outcome) -> str:
    lines = ["| | start | peak | end |", "|---|---|---|---|"]
    for field in dataclasses.fields(Ledger):
        values = [
            getattr(ledger, field.name) for ledger in (outcome.start, outcome.peak, outcome.end)
        ]
        cells = [f"{v / 2**20:.1f} MiB" if field.name == "memory" else f"{v:,}" for v in values]
        lines.append(f"| {field.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=60.0)
    known, options = parser.parse_known_args()
    outcome = soak(known.seconds, *options)
    print(table(outcome))
    print(f"{outcome.answered:,} honest requests and messages, {len(outcome.failures)} failures")
    print(f"{outcome.attacks:,} attacks")
    for failure in outcome.failures[:20]:
        print(failure)
    if outcome.grown:
        print(f"more at the end than at the start: {', '.join(outcome.grown)}")
    return 1 if outcome.failures or outcome.grown else 0


if __name__ == "__main__":
    sys.exit(main())
