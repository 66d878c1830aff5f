"""What h2asgi aims at, as ratios to the best rival of the same row, and whether it is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .results import Results
from .servers import SERVERS

BEST = "best rival"
BEST_IN_PYTHON = "best rival in Python"
RIVALS = [server.name for server in SERVERS.values() if server.rival]
IN_RUST = {"granian", "h2corn"}


@dataclass(frozen=True)
class Target:
    """``metric`` of ``server`` in ``cell``, divided by that of ``against``, beside ``bound``.

    A bound on ``rate`` is a least, on anything else a most. ``against`` is a
    server, BEST, BEST_IN_PYTHON, or "" for the figure itself.
    """

    title: str
    cell: str
    metric: str
    bound: float
    goal: float | None = None
    against: str = BEST
    server: str = "h2asgi"

    @property
    def more_is_better(self) -> bool:
        return self.metric == "rate"

    def met(self, figure: float, bound: float) -> bool:
        return figure >= bound if self.more_is_better else figure <= bound


@dataclass(frozen=True)
class Verdict:
    target: Target
    figure: float
    against: str

    @property
    def text(self) -> str:
        """Missed, met, or the goal that is above it."""
        target = self.target
        if not target.met(self.figure, target.bound):
            return "missed"
        if target.goal is not None and target.met(self.figure, target.goal):
            return "goal"
        return "met"


def _targets() -> list[Target]:
    targets = []
    for title, cell in (("10 x 10", "hello h2"), ("100 x 10", "100x10 h2")):
        title = f"HTTP/2 TLS hello {title}"
        targets += [
            Target(f"{title}, requests/s", cell, "rate", 1.3, 1.5),
            Target(f"{title}, CPU per request", cell, "cpu", 0.75),
            Target(f"{title}, requests/s", cell, "rate", 0.55, 0.7, against="nginx"),
        ]
    targets += [
        Target("HTTP/2 TLS 10 KB POST, requests/s", "post h2", "rate", 1.3),
        Target("h2c hello, requests/s", "hello h2c", "rate", 1.4),
        Target("HTTP/1.1 TLS hello, requests/s", "hello h1-tls", "rate", 1.2),
        Target("HTTP/1.1 TLS 10 KB POST, requests/s", "post h1-tls", "rate", 1.2),
        Target("HTTP/1.1 hello, requests/s", "hello h1", "rate", 1.4),
    ]
    names = {"h2": "HTTP/2 TLS", "h1-tls": "HTTP/1.1 TLS", "h2c": "h2c", "h1": "HTTP/1.1"}
    for work in ("download", "upload"):
        for protocol, name in names.items():
            title, cell = f"{name} 1 MB {work}", f"{work} {protocol}"
            targets.append(Target(f"{title}, requests/s", cell, "rate", 1.0, 1.1))
            targets.append(Target(f"{title}, CPU per request", cell, "cpu", 1.5))
    return [
        *targets,
        *(
            Target(f"WebSocket echo, {title}", cell, "rate", 1.0, against=BEST_IN_PYTHON)
            for title, cell in (
                ("64 B", "ws h1"),
                ("64 B over TLS", "ws h1-tls"),
                ("64 KiB", "ws large h1"),
            )
        ),
        Target("HTTP/2 TLS hello 1 x 1, p50", "1x1 h2", "p50", 1.0),
        Target("small requests beside a download, p99", "beside", "p99", 1 / 3),
        Target("idle HTTP/2 TLS connection, KiB", "idle", "idle_kib", 32, against=""),
        *(
            Target(
                "pure, HTTP/2 TLS hello 10 x 10, requests/s",
                "hello h2",
                "rate",
                bound,
                against=rival,
                server="h2asgi pure",
            )
            for rival, bound in (("hypercorn", 4.0), ("gunicorn", 3.0))
        ),
    ]


TARGETS = _targets()


def best_rival(
    results: Results, cell: str, metric: str, rivals: Sequence[str] = RIVALS
) -> str | None:
    """Who of ``rivals`` answers the most requests per second, or has the least of what has no rate.

    CPU per request is compared with that of the rival whose rate is compared.
    """
    ranked_by = "rate" if metric == "cpu" else metric
    found = {
        name: value
        for name in rivals
        if (value := results.value(cell, name, ranked_by)) is not None
    }
    if not found:
        return None
    return (max if ranked_by == "rate" else min)(found, key=lambda name: found[name])


def judge(results: Results, target: Target) -> Verdict | None:
    """The verdict, or None where something was not measured."""
    own = results.value(target.cell, target.server, target.metric)
    if own is None:
        return None
    if not target.against:
        return Verdict(target, own, "")
    against: str | None = target.against
    if against == BEST:
        against = best_rival(results, target.cell, target.metric, RIVALS)
    elif against == BEST_IN_PYTHON:
        in_python = [name for name in RIVALS if name not in IN_RUST]
        against = best_rival(results, target.cell, target.metric, in_python)
    theirs = results.value(target.cell, against, target.metric) if against else None
    if not against or not theirs:
        return None
    return Verdict(target, own / theirs, against)
