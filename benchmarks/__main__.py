"""``python -m benchmarks``: measures, keeps the results, writes the page. See README.md."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from . import plot, report
from .cells import all_cells
from .measure import Contestant, Measurement, machine, stay_off_the_servers_core
from .processes import make_files
from .results import Results
from .servers import SERVERS, installed, is_compiled, missing, nginx_version

ROOT = Path(__file__).parents[1]
TOOLS = ("h2load", "taskset", "openssl")
QUICK_SECONDS, SECONDS = 0.3, 1.1
CORES = 2


def arguments() -> argparse.Namespace:
    works = list(dict.fromkeys(cell.work for cell in all_cells()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--servers", default="all", help=f"of {', '.join(SERVERS)}; with commas")
    parser.add_argument("--work", default="all", help=f"of {', '.join(works)}; with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="that h2asgi runs on")
    parser.add_argument("--rivals-python", help="that the others run on [default: the same]")
    parser.add_argument("--quick", action="store_true", help="short rounds; shown, not kept")
    parser.add_argument("--results", type=Path, help="JSON file to add the results to")
    parser.add_argument("--docs", type=Path, help="folder for benchmarks.md and benchmarks.svg")
    parser.add_argument("--report", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    options.servers = _chosen(parser, options.servers, list(SERVERS))
    options.work = _chosen(parser, options.work, works)
    options.rivals_python = options.rivals_python or options.python
    if not options.quick:
        options.results = options.results or ROOT / "benchmarks" / "results.json"
        options.docs = options.docs or ROOT / "docs"
    return options


def _chosen(parser: argparse.ArgumentParser, text: str, known: list[str]) -> list[str]:
    names = known if text == "all" else text.split(",")
    unknown = ", ".join(name for name in names if name not in known)
    if unknown:
        parser.error(f"unknown: {unknown}; there are {', '.join(known)}")
    return names


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """The chosen servers that are installed; says which are not."""
    names = {name for s in SERVERS.values() for name in (s.distribution, *s.extras) if name}
    found = {
        python: installed(python, sorted(names))
        for python in dict.fromkeys((options.python, options.rivals_python))
    }
    entrants = []
    for name in options.servers:
        server = SERVERS[name]
        if not server.distribution:
            version = nginx_version()
            if version is None:
                print("nginx is left out: it is not installed")
            else:
                entrants.append(Contestant(server, "", f"nginx {version}", ""))
            continue
        python = options.python if server.own else options.rivals_python
        versions = found[python]
        if lacking := missing(server, versions):
            print(f"{name} is left out: {python} has no {', '.join(lacking)}")
            continue
        parts = [f"{part} {versions[part]}" for part in server.extras]
        version = f"{server.distribution} {versions[server.distribution]}"
        if server.own and server.extras and not is_compiled(python):
            print(f"{name} is not compiled: install it with H2ASGI_COMPILE=1, and not with -e")
        version += f" ({', '.join(parts)})" if parts else ""
        entrants.append(Contestant(server, python, version, versions["python"]))
    return entrants


def measure(options: argparse.Namespace, results: Results) -> None:
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise SystemExit(f"not installed: {', '.join(lacking)}")
    if (os.cpu_count() or 1) < CORES:
        raise SystemExit("two cores are needed: one for the servers, one for the load")
    entrants = contestants(options)
    stay_off_the_servers_core()
    results.machine = machine()
    cells = all_cells(QUICK_SECONDS if options.quick else SECONDS)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        make_files(folder)
        for cell in cells:
            able = [
                entrant
                for entrant in entrants
                if cell.protocol in entrant.server.protocols
                and cell.work not in entrant.server.without
            ]
            if cell.work in options.work and able:
                Measurement(cell, results, folder).run(able, options.rounds)
                print(f"  {time.monotonic() - started:.0f} s since the start", flush=True)


def _end(number: int, frame: object) -> NoReturn:
    """The signal becomes an exception: no server is left behind."""
    sys.exit(128 + number)


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    with tempfile.TemporaryDirectory() as scratch:
        results = Results(options.results or Path(scratch) / "results.json")
        if not options.report:
            measure(options, results)
        if options.docs is None:
            print(report.page(results))
            return
        (options.docs / "benchmarks.md").write_text(report.page(results), "utf-8")
        (options.docs / "benchmarks.svg").write_text(plot.svg(results), "utf-8")
        print(f"written: {options.docs / 'benchmarks.md'} and benchmarks.svg")


if __name__ == "__main__":
    main()
