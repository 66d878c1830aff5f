"""Runs cells: starts the servers of one, measures them in turn, keeps what came out."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .cells import Cell, Plan
from .processes import LOAD_CORE, NotStarted, Process, free_port
from .results import Results
from .servers import Launch, Server

SLOW = 1 / 3
"""Of the fastest server's rate in a cell: below it, three rounds say as much as five."""

SLOW_ROUNDS = 3


@dataclass(frozen=True)
class Contestant:
    """A server that is installed: its interpreter and what to call its version."""

    server: Server
    python: str
    version: str
    python_version: str


class Running:
    """A contestant's process in one cell."""

    def __init__(self, contestant: Contestant, cell: Cell, folder: Path) -> None:
        self.contestant = contestant
        self._launch = Launch(
            contestant.python, 0, cell.protocol, folder, cell.app, workers=cell.workers
        )
        self.process = self._start()

    def _start(self) -> Process:
        return Process(self.contestant.server, replace(self._launch, port=free_port()))

    def restart(self) -> None:
        self.process.stop()
        self.process = self._start()


class Measurement:
    """One cell: plans by server, then rounds in turn."""

    def __init__(self, cell: Cell, results: Results, folder: Path) -> None:
        self.cell = cell
        self.results = results
        self.folder = folder
        self.running: list[Running] = []
        self.plans: dict[str, Plan] = {}
        self.rounds: dict[str, list[dict[str, float]]] = {}

    def run(self, contestants: Sequence[Contestant], rounds: int) -> None:
        print(self.cell.name, flush=True)
        try:
            for contestant in contestants:
                self._enter(contestant)
            for number in range(rounds):
                for running in list(self.running):
                    if number < self._rounds_of(running.contestant.server.name, rounds):
                        self._measure(running)
            for running in self.running:
                self._keep(running)
        finally:
            for running in self.running:
                running.process.stop()
            self.results.save()

    def _enter(self, contestant: Contestant) -> None:
        name = contestant.server.name
        try:
            running = Running(contestant, self.cell, self.folder)
        except NotStarted as error:
            self._leave_out(contestant, f"did not start: {_last_line(str(error))}")
            return
        self.running.append(running)
        try:
            plan = self.cell.prepare(running)
        except (OSError, ValueError, NotStarted) as error:
            self._drop(running, f"failed: {_last_line(str(error))}")
            return
        if plan is None:
            self._drop(running, "too slow for this rate")
            return
        self.plans[name] = plan
        self.rounds[name] = []

    def _rounds_of(self, name: str, rounds: int) -> int:
        capacities = [plan.capacity for plan in self.plans.values()]
        slow = self.plans[name].capacity < SLOW * max(capacities)
        return min(rounds, SLOW_ROUNDS) if slow else rounds

    def _measure(self, running: Running) -> None:
        name = running.contestant.server.name
        try:
            metrics = self.cell.measure(running, self.plans[name])
        except (OSError, ValueError, NotStarted) as error:
            self._drop(running, f"failed: {_last_line(str(error))}")
            return
        self.rounds[name].append(metrics)
        shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        print(f"  {name:18} {shown}", flush=True)

    def _drop(self, running: Running, note: str) -> None:
        running.process.stop()
        self.running.remove(running)
        self._leave_out(running.contestant, note)

    def _leave_out(self, contestant: Contestant, note: str) -> None:
        print(f"  {contestant.server.name:18} {note}", flush=True)
        self._put(contestant, {"note": note})

    def _keep(self, running: Running) -> None:
        peak = running.process.memory_kib("VmHWM") / 1024
        rounds = [
            {key: round(value, 4) for key, value in metrics.items()}
            for metrics in self.rounds[running.contestant.server.name]
        ]
        self._put(running.contestant, {"rounds": rounds, "peak_mib": round(peak, 1)})

    def _put(self, contestant: Contestant, entry: dict[str, Any]) -> None:
        entry |= {
            "version": contestant.version,
            "python": contestant.python_version,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        self.results.put(self.cell.name, contestant.server.name, entry)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:200]


def stay_off_the_servers_core() -> None:
    """For this process and the load generators that it starts."""
    os.sched_setaffinity(0, {LOAD_CORE})


def machine() -> dict[str, str]:
    """What the figures depend on besides the servers."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "h2load": _said("h2load", "--version"),
        "openssl": _said("openssl", "version"),
        "commit": _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
    }


def _said(*command: str) -> str:
    try:
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return output.strip()
