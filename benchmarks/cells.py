"""What is measured: every cell is one kind of work over one protocol."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from . import load
from .connections import Handshakes, idle_connections
from .echoes import Echoes
from .load import Exchange, Load
from .processes import FILE, GIB, KIB, MIB, QUICK_FILE, Process
from .servers import H1, H1_TLS, H2, H2C, PROTOCOLS

IDLE_CONNECTIONS = 500
SMALL_REQUESTS = 1500
"""Sent one by one beside a download of 100 MB; those after its end are not counted."""

BIG = 100 * MIB
ENOUGH_SAMPLES = 200
"""Downloads are repeated until there are so many, or the time is over."""

HEADROOM = 1.25
"""What a server must be able to do, in terms of a fixed rate, for its latency to mean something."""

ONE = Load()
Metrics = dict[str, float]
T = TypeVar("T")


class Target(Protocol):
    """A server of one cell; ``restart`` gives a fresh process."""

    process: Process

    def restart(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Requests of one round, and requests per second in warming up; 0 where it is no matter."""

    requests: int = 0
    capacity: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One line of the report, or one figure in it."""

    name: str
    work: str
    protocol: str = H2
    app: str = "plain:app"
    workers: int = 1

    def prepare(self, target: Target) -> Plan | None:
        """Warm up; None if the server cannot do it."""
        return Plan()

    def measure(self, target: Target, plan: Plan) -> Metrics:
        """One round."""
        raise NotImplementedError


@dataclass(frozen=True)
class Throughput(Cell):
    """As many requests as the server answers; ``least`` octets are in every answer."""

    load: Load = ONE
    seconds: float = 1.1
    least: int = 13
    logged: bool = False

    def prepare(self, target: Target) -> Plan:
        first = 2 * self.load.connections * self.load.streams
        rate = load.run(target.process.launch, self.load, first).rate
        enough = int(rate * self.seconds / 5)
        rate = load.run(target.process.launch, self.load, max(first, enough)).rate
        return Plan(max(first, int(rate * self.seconds)), rate)

    def measure(self, target: Target, plan: Plan) -> Metrics:
        log = _log(target) if self.logged else None
        outcome, cpu = _timed(
            target, lambda: load.run(target.process.launch, self.load, plan.requests, log)
        )
        short = outcome.data < outcome.succeeded * self.least
        metrics = {
            "rate": 0.0 if short else outcome.rate,
            "cpu": cpu / plan.requests * 1e6,
            "failed": float(outcome.requests if short else outcome.failed),
            "requests": float(outcome.requests),
        }
        if log is not None:
            metrics |= latencies([one.duration for one in load.parse_log(log.read_text())])
        return metrics


@dataclass(frozen=True)
class FileDownload(Cell):
    """A large file of the folder, ``times`` one after another on one connection."""

    file: str = "file"
    size: int = GIB
    times: int = 2

    def _load(self, target: Target) -> Load:
        # nginx takes the path, and the application what stands behind it.
        return Load(paths=(f"/{self.file}?{target.process.launch.folder / self.file}",))

    def prepare(self, target: Target) -> Plan:
        outcome = load.run(target.process.launch, self._load(target), 1)
        if outcome.data < self.size:
            raise ValueError(f"{outcome.data} octets of {self.size}")
        return Plan(self.times, outcome.rate)

    def measure(self, target: Target, plan: Plan) -> Metrics:
        outcome, cpu = _timed(
            target, lambda: load.run(target.process.launch, self._load(target), plan.requests)
        )
        short = outcome.data < plan.requests * self.size
        return {
            "rate": 0.0 if short else outcome.rate,
            "cpu": cpu / plan.requests * 1e6,
            "failed": float(outcome.requests if short else outcome.failed),
            "requests": float(outcome.requests),
        }


@dataclass(frozen=True)
class FixedRate(Cell):
    """Latency at ``load.rate``, which must be well below what the server can do."""

    load: Load = ONE
    seconds: float = 1.1

    def prepare(self, target: Target) -> Plan | None:
        free = Load(self.load.connections, self.load.streams)
        load.run(target.process.launch, free, 400)
        capacity = load.run(target.process.launch, free, self.load.rate).rate
        return Plan(int(self.load.rate * self.seconds)) if self._bearable(capacity) else None

    def _bearable(self, capacity: float) -> bool:
        return capacity > HEADROOM * self.load.rate

    def measure(self, target: Target, plan: Plan) -> Metrics:
        log = _log(target)
        outcome, cpu = _timed(
            target, lambda: load.run(target.process.launch, self.load, plan.requests, log)
        )
        metrics = {"cpu": cpu / plan.requests * 1e6, "failed": float(outcome.failed)}
        durations = [one.duration for one in load.parse_log(log.read_text())]
        return metrics | {"requests": float(plan.requests)} | latencies(durations)


@dataclass(frozen=True)
class Beside(Cell):
    """Small requests, one after another, on a connection that carries a big download."""

    seconds: float = 2.2

    def prepare(self, target: Target) -> Plan:
        load.run(target.process.launch, Load(1, 1), 300)
        return Plan()

    def measure(self, target: Target, plan: Plan) -> Metrics:
        durations: list[int] = []
        rates: list[float] = []
        failed = 0
        mixed, log = Load(1, 2, ("/big", *["/"] * SMALL_REQUESTS)), _log(target)
        end = time.monotonic() + self.seconds
        while len(durations) < ENOUGH_SAMPLES and time.monotonic() < end:
            outcome = load.run(target.process.launch, mixed, SMALL_REQUESTS, log)
            failed += outcome.failed
            if outcome.data < BIG:
                failed += 1
                continue
            small, big = beside_the_longest(load.parse_log(log.read_text()))
            durations += [one.duration for one in small]
            rates.append(BIG / big.duration)
        metrics = {"failed": float(failed), "samples": float(len(durations))}
        if rates:
            metrics["mb_per_s"] = statistics.median(rates)
        return metrics | latencies(durations)


@dataclass(frozen=True)
class TLSHandshakes(Cell):
    """Connections per second, each with a handshake and one small request."""

    resume: bool = False
    seconds: float = 1.1

    def prepare(self, target: Target) -> Plan:
        Handshakes(target.process.launch.port, resume=self.resume).run(self.seconds / 5)
        return Plan()

    def measure(self, target: Target, plan: Plan) -> Metrics:
        handshakes = Handshakes(target.process.launch.port, resume=self.resume)
        start = time.monotonic()
        _, cpu = _timed(target, lambda: handshakes.run(self.seconds))
        seconds = time.monotonic() - start
        done = max(1, handshakes.done)
        return {
            "rate": handshakes.done / seconds,
            "cpu": cpu / done * 1e6,
            "failed": float(handshakes.failed),
            "requests": float(handshakes.done + handshakes.failed),
            "resumed": handshakes.resumed / done,
        }


@dataclass(frozen=True)
class WebSocketEchoes(Cell):
    """Messages per second that come back, ``messages`` of each connection under way at a time."""

    connections: int = 10
    messages: int = 10
    size: int = 64
    seconds: float = 1.1

    def prepare(self, target: Target) -> Plan | None:
        return Plan() if self._run(target, self.seconds / 5).done else None

    def measure(self, target: Target, plan: Plan) -> Metrics:
        start = time.monotonic()
        echoes, cpu = _timed(target, lambda: self._run(target, self.seconds))
        return {
            "rate": echoes.done / (time.monotonic() - start),
            "cpu": cpu / max(1, echoes.done) * 1e6,
            "failed": float(echoes.failed),
            "requests": float(echoes.done + echoes.failed),
        }

    def _run(self, target: Target, seconds: float) -> Echoes:
        echoes = Echoes(self.connections, self.messages, self.size)
        echoes.run(target.process.launch, seconds)
        return echoes


@dataclass(frozen=True)
class Idle(Cell):
    """Resident memory that connections cost which have exchanged prefaces and then do nothing."""

    def measure(self, target: Target, plan: Plan) -> Metrics:
        target.restart()  # what is freed is kept for later: every round begins anew
        port = target.process.launch.port
        with idle_connections(port, 5):
            load.run(target.process.launch, Load(2, 10), 1000)
        before = target.process.memory_kib("VmRSS")
        with idle_connections(port, IDLE_CONNECTIONS):
            time.sleep(0.2)  # the last answers are behind it
            after = target.process.memory_kib("VmRSS")
        return {"idle_kib": (after - before) / IDLE_CONNECTIONS}


@dataclass(frozen=True)
class Start(Cell):
    """From the command to the first answer, and the memory of a server that did nothing else."""

    def measure(self, target: Target, plan: Plan) -> Metrics:
        target.restart()
        process = target.process
        seconds = process.start_seconds
        time.sleep(0.3)  # what a server still sets up behind its first answer
        return {"start_ms": seconds * 1000, "rss_mib": process.memory_kib("VmRSS") / 1024}


def beside_the_longest(exchanges: list[Exchange]) -> tuple[list[Exchange], Exchange]:
    """Those exchanges that ended before the longest did, and the longest."""
    longest = max(exchanges, key=lambda one: one.duration)
    end = longest.start + longest.duration
    return [one for one in exchanges if one.start + one.duration < end], longest


def latencies(durations: list[int]) -> Metrics:
    """The median and the 99th percentile, in microseconds; nothing of nothing."""
    if not durations:
        return {}
    ordered = sorted(durations)
    return {
        "p50": float(ordered[len(ordered) // 2]),
        "p99": float(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]),
    }


def _timed(target: Target, work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` gives, and the CPU seconds that the server spent meanwhile."""
    before = target.process.cpu_seconds()
    result = work()
    return result, target.process.cpu_seconds() - before


def _log(target: Target) -> Path:
    return target.process.launch.folder / "requests.log"


# HTTP/1.1 has one request at a time on a connection: ten of them, or sixteen for bodies of
# 1 MB, keep a core busy, as 10 x 10 streams and 4 x 4 do.
_SMALL = {H2: (10, 10), H2C: (10, 10), H1_TLS: (10, 1), H1: (10, 1)}
_LARGE = {H2: (4, 4), H2C: (4, 4), H1_TLS: (16, 1), H1: (16, 1)}
_WORKS = {
    "hello": (_SMALL, "/", "", 13),
    "post": (_SMALL, "/post", "10k", 15),
    "download": (_LARGE, "/download", "", MIB),
    "upload": (_LARGE, "/post", "1m", 15),
}
SHAPES = {"1x1": (1, 1), "100x10": (100, 10)}
RATES = (1000, 8000)


def all_cells(seconds: float = 1.1) -> list[Cell]:
    """Every cell, in the order of the report; ``seconds`` is how long one round takes."""
    cells: list[Cell] = []
    for work, (shapes, path, body, least) in _WORKS.items():
        for protocol in PROTOCOLS:
            request = Load(*shapes[protocol], paths=(path,), body=body)
            name = f"{work} {protocol}"
            cells.append(
                Throughput(name, work, protocol, load=request, seconds=seconds, least=least)
            )
    for shape, sizes in SHAPES.items():
        # Its connections are made within the time: the more there are, the longer it runs.
        longer = seconds * (2 if shape == "100x10" else 1)
        logged = shape == "1x1"
        cells.append(
            Throughput(f"{shape} {H2}", shape, load=Load(*sizes), seconds=longer, logged=logged)
        )
    name, size = QUICK_FILE if seconds < 1 else FILE
    file: dict[str, Any] = {"file": name, "size": size}
    item = Load(10, 10, ("/items/7?q=hello",))
    cells += [
        Throughput(f"fastapi {H2}", "fastapi", app="framework:app", load=item, seconds=seconds),
        Throughput(f"workers {H2}", "workers", workers=2, load=Load(10, 10), seconds=seconds),
        WebSocketEchoes(f"ws {H1}", "ws", H1, seconds=seconds),
        WebSocketEchoes(f"ws {H1_TLS}", "ws", H1_TLS, seconds=seconds),
        WebSocketEchoes(
            f"ws large {H1}", "ws", H1, connections=4, messages=4, size=64 * KIB, seconds=seconds
        ),
        TLSHandshakes("handshakes full", "handshakes", H1_TLS, seconds=seconds),
        TLSHandshakes("handshakes resumed", "handshakes", H1_TLS, resume=True, seconds=seconds),
        *(
            FileDownload(f"file {protocol}", "file", protocol, **file)
            for protocol in (H2, H1_TLS, H1)
        ),
        Idle("idle", "idle"),
        Beside("beside", "beside", seconds=2 * seconds),
        Start("start", "start", H1_TLS),
    ]
    for rate in RATES:
        steady = Load(10, 10, rate=rate)
        cells.append(FixedRate(f"latency {rate}", "latency", load=steady, seconds=seconds))
    return cells
