"""An honest crowd beside each attack: ``python -m tests.soak.crowd [--seconds 5] [OPTION...]``.

Twenty clients, half of them in HTTP/1.1, make a small request each 50 ms while one attack after the
other runs from another process. Exits with 1 if a request failed, or 1 % of them took a second.
OPTIONs of h2asgi may set up the server.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

from . import honest
from .attackers import Attackers
from .hostile import ATTACKS
from .target import Target, serving_command

CLIENTS = 20
PAUSE = 0.05
ATTACKERS = 2
MOST = 1.0
"""Seconds that all but 1 % of the requests have to be answered in."""


@dataclass
class Crowd:
    """What a crowd has seen: seconds until each answer, and what failed."""

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds that this share of the requests was answered in."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def holds(self) -> bool:
        return not self.failures and self.percentile(0.99) < MOST


def beside(target: Target, attackers: Attackers, names: Sequence[str], requests: int) -> Crowd:
    """Let each of the clients make so many requests while these attacks go on in turn."""
    crowd = Crowd()
    clients = [
        threading.Thread(target=_visit, args=(target, number, requests, crowd))
        for number in range(CLIENTS)
    ]
    with attackers.attacking(*names) if names else nullcontext():
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    return crowd


def _visit(target: Target, number: int, requests: int, crowd: Crowd) -> None:
    begin: Callable[..., Callable[[], None]] = honest.hello_over_http2
    protocol = "h2"
    if number % 2:
        begin, protocol = honest.hello_over_http1, "http/1.1"
    try:
        with target.connect(protocol) as sock:
            ask = begin(sock)
            for _ in range(requests):
                asked = time.perf_counter()
                ask()
                crowd.latencies.append(time.perf_counter() - asked)
                time.sleep(PAUSE)
    except (OSError, AssertionError) as failure:
        crowd.failures.append(f"{protocol}: {failure!r:.300}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.crowd")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each attack, at least")
    known, options = parser.parse_known_args()
    verdicts = []
    print("| beside | attacks | requests | failed | p50 ms | p99 ms | most ms |")
    print("|---|---|---|---|---|---|---|")
    with (
        serving_command(*options) as (_, target),
        closing(Attackers(target, ATTACKERS)) as attackers,
    ):
        for name in ("", *ATTACKS):
            crowd = beside(target, attackers, [name] if name else [], int(known.seconds / PAUSE))
            figures = [f"{crowd.percentile(share) * 1000:.1f}" for share in (0.5, 0.99, 1.0)]
            cells = [
                name or "nothing",
                attackers.attacks,
                len(crowd.latencies),
                len(crowd.failures),
            ]
            print("|", " | ".join(map(str, [*cells, *figures])), "|", flush=True)
            for failure in crowd.failures:
                print(failure, file=sys.stderr)
            verdicts.append(crowd.holds)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
