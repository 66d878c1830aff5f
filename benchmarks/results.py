"""Results: kept as JSON after every cell, so that runs can be cut off, repeated and merged."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any


class Results:
    """``cells`` is cell -> server -> entry; what is measured again replaces what was there.

    An entry has ``rounds`` (a list of metrics), ``peak_mib``, the ``version``
    and ``python`` of the server, its ``date``, or a ``note`` why it is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine: dict[str, str] = {}
        self.cells: dict[str, dict[str, dict[str, Any]]] = {}
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            self.machine, self.cells = kept["machine"], kept["cells"]

    def put(self, cell: str, server: str, entry: dict[str, Any]) -> None:
        self.cells.setdefault(cell, {})[server] = entry

    def save(self) -> None:
        """Write beside the file and put in its place: it is whole at any time."""
        kept = {"machine": self.machine, "cells": self.cells}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        partial.replace(self.path)

    def servers(self, cell: str) -> list[str]:
        return list(self.cells.get(cell, {}))

    def rounds(self, cell: str, server: str) -> list[dict[str, float]]:
        entry = self.cells.get(cell, {}).get(server, {})
        rounds: list[dict[str, float]] = entry.get("rounds", [])
        return rounds

    def value(self, cell: str, server: str, metric: str) -> float | None:
        """The median over the rounds; None where there is none."""
        values = [one[metric] for one in self.rounds(cell, server) if metric in one]
        if metric == "peak_mib":
            peak: float | None = self.cells.get(cell, {}).get(server, {}).get(metric)
            return peak
        return statistics.median(values) if values else None

    def total(self, cell: str, server: str, metric: str) -> float:
        return sum(one.get(metric, 0.0) for one in self.rounds(cell, server))
