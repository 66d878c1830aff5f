"""Each harness for a while: ``python -m tests.fuzz [--target NAME]... [--seconds 10] [--keep TO]``.

Needs atheris beside h2asgi with all its native parts. Exits with 1 if an input was found that
breaks an invariant; it is in TO then, and its octets are shown.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from . import targets

LARGEST_INPUT = 1024
"""Octets; what a peer decides fits many times, and small inputs are many a second."""

LARGEST_MEMORY = 512
"""MiB; a harness has 150 with all that it imports."""

SLOWEST_INPUT = 5
"""Seconds; a thousand octets take milliseconds, or something grows faster than its input."""


def fuzz(name: str, seconds: int, folder: Path) -> tuple[str, bool]:
    """Run one harness; give its row for the table, and whether all held."""
    seeds, found = folder / f"{name}-seeds", folder / f"{name}-found"
    for made in (seeds, found):
        made.mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(targets.corpus(name)):
        (seeds / str(number)).write_bytes(octets)
    options = {
        "max_total_time": seconds,
        "max_len": LARGEST_INPUT,
        "rss_limit_mb": LARGEST_MEMORY,
        "timeout": SLOWEST_INPUT,
        "artifact_prefix": f"{folder}/{name}-broken-",
        "print_final_stats": 1,
    }
    command = [sys.executable, str(targets.FOLDER / "instrumented.py"), name]
    command += [f"-{option}={value}" for option, value in options.items()]
    done = subprocess.run([*command, str(found), str(seeds)], capture_output=True, text=True)
    executions = _number(r"number_of_executed_units: (\d+)", done.stderr)
    covered = _number(r"cov: (\d+)", done.stderr)
    if done.returncode:
        explain(name, sorted(folder.glob(f"{name}-broken-*")), done.stderr)
    verdict = "broken" if done.returncode else "holds"
    return f"{name:10} {executions:>10} {covered:>8}  {verdict}", not done.returncode


def explain(name: str, broken: list[Path], output: str) -> None:
    """Show what was found, as a line for the corpus, and its traceback."""
    if not broken:
        print(output[-2000:])
    check = targets.load(name)
    for path in broken:
        octets = path.read_bytes()
        print(f"{path.name}: {octets!r}")
        try:
            check(octets)
        except Exception:
            print(traceback.format_exc())


def _number(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "-"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--target", action="append", choices=targets.NAMES)
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--keep", type=Path, help="folder for what is found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        print(f"{'target':10} {'executions':>10} {'branches':>8}", flush=True)
        held = []
        for name in options.target or targets.NAMES:
            row, holds = fuzz(name, options.seconds, folder)
            print(row, flush=True)
            held.append(holds)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
