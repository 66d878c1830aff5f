"""The results as a page of Markdown: tables, targets, and how all of it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .results import Results
from .servers import PROTOCOLS, SERVERS
from .targets import RIVALS, TARGETS, Verdict, judge

DASH = "–"
OWN_AND_RIVALS = [name for name in SERVERS if name != "nginx"]

ROWS = {
    **{
        f"{work} {protocol}": f"{title}, {spoken}"
        for work, title in {
            "hello": "hello",
            "post": "10 KB POST → JSON",
            "download": "1 MB download",
            "upload": "1 MB upload",
        }.items()
        for protocol, spoken in PROTOCOLS.items()
    },
    "1x1 h2": "hello 1 × 1, HTTP/2 over TLS",
    "100x10 h2": "hello 100 × 10, HTTP/2 over TLS",
    "fastapi h2": "FastAPI JSON, HTTP/2 over TLS",
    "workers h2": "hello, HTTP/2 over TLS, 2 workers on both cores",
    "ws h1": "WebSocket echo of 64 B, HTTP/1.1, cleartext",
    "ws h1-tls": "WebSocket echo of 64 B, HTTP/1.1 over TLS",
    "ws large h1": "WebSocket echo of 64 KiB, HTTP/1.1, cleartext",
    "file h2": "1 GiB file by pathsend, HTTP/2 over TLS",
    "file h1-tls": "1 GiB file by pathsend, HTTP/1.1 over TLS",
    "file h1": "1 GiB file by pathsend, HTTP/1.1, cleartext",
    "handshakes full": "TLS connections, full handshake",
    "handshakes resumed": "TLS connections, resumed",
}
"""Cells with requests per second, by name."""

LATENCY_ROWS = {
    "1x1 h2": "hello 1 × 1, one after another",
    "latency 1000": "hello at 1,000 requests/s",
    "latency 8000": "hello at 8,000 requests/s",
    "beside": "hello beside a 100 MB download, same connection",
}

RESUMED = 0.9
"""Share of connections that must have been resumed before their figure says so."""


def page(results: Results) -> str:
    """The whole document."""
    parts = [
        "# Benchmarks",
        _introduction(results),
        "![Requests per second of each server](benchmarks.svg)",
        "## Targets",
        "Each is a ratio of medians. A rate is to be at least the target, CPU time, latency and "
        "memory at most.",
        _target_table(results),
        "## Requests per second",
        "The highest of each row, nginx apart, is bold.",
        _table(results, ROWS, "rate"),
        "## Server CPU, microseconds per request",
        "User and system time of all the server's processes.",
        _table(results, ROWS, "cpu"),
        "## Latency",
        "HTTP/2 over TLS, median / 99th percentile in milliseconds.",
        _latency_table(results),
        "## Start and memory",
        _memory_table(results),
        "## Peak memory, MiB",
        "The most that was resident in the cell, summed over the server's processes.",
        _table(results, ROWS, "peak_mib", best=False),
        *_troubles(results),
        "## What was measured, and how",
        _method(results),
    ]
    return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """Three figures or more, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _measured(results: Results, cells: Iterable[str], servers: Sequence[str]) -> list[str]:
    """Those of the servers that have figures in any of the cells."""
    cells = list(cells)
    return [name for name in servers if any(results.rounds(cell, name) for cell in cells)]


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(results: Results, cells: dict[str, str], metric: str, best: bool = True) -> str:
    servers = _measured(results, cells, list(SERVERS))
    rows = []
    for cell, title in cells.items():
        if not results.servers(cell):
            continue
        values = {name: results.value(cell, name, metric) for name in servers}
        if cell == "handshakes resumed":
            for name in servers:
                if (results.value(cell, name, "resumed") or 0) < RESUMED:
                    values[name] = None
        ranked = [value for name, value in values.items() if value and name != "nginx"]
        first = (max if metric == "rate" else min)(ranked, default=0.0)
        row = [title]
        for value in values.values():
            text = DASH if value is None else number(value)
            row.append(f"**{text}**" if best and value and value == first else text)
        rows.append(row)
    return _markdown(["", *servers], rows)


def _latency_table(results: Results) -> str:
    servers = _measured(results, LATENCY_ROWS, list(SERVERS))
    rows = []
    for cell, title in LATENCY_ROWS.items():
        row = [title]
        for name in servers:
            p50, p99 = (results.value(cell, name, metric) for metric in ("p50", "p99"))
            if p50 is None or p99 is None:
                row.append(DASH)
            else:
                row.append(f"{number(p50 / 1000)} / {number(p99 / 1000)}")
        rows.append(row)
    row = ["the download meanwhile, MB/s"]
    for name in servers:
        speed = results.value("beside", name, "mb_per_s")
        row.append(DASH if speed is None else number(speed))
    return _markdown(["", *servers], [*rows, row])


def _memory_table(results: Results) -> str:
    columns = {
        "start": ("start_ms", "start to first answer, ms"),
        "rss": ("rss_mib", "resident when idle, MiB"),
        "idle": ("idle_kib", "idle HTTP/2 TLS connection, KiB"),
    }
    servers = _measured(results, ("start", "idle"), list(SERVERS))
    rows = []
    for cell, (metric, title) in columns.items():
        values = [results.value("idle" if cell == "idle" else "start", s, metric) for s in servers]
        rows.append([title, *(DASH if value is None else number(value) for value in values)])
    return _markdown(["", *servers], rows)


def _target_table(results: Results) -> str:
    verdicts = [verdict for target in TARGETS if (verdict := judge(results, target))]
    header = ["", "against", "target", "goal", "measured", ""]
    return _markdown(header, [_target_row(verdict) for verdict in verdicts])


def _target_row(verdict: Verdict) -> list[str]:
    target = verdict.target
    return [
        target.title,
        verdict.against or DASH,
        f"{'≥' if target.more_is_better else '≤'} {target.bound:.3g}",
        DASH if target.goal is None else f"{target.goal:.3g}",
        f"{verdict.figure:.2f}",
        "**missed**" if verdict.text == "missed" else verdict.text,
    ]


def _troubles(results: Results) -> list[str]:
    """Failed requests, and servers that could not take part, if there are any."""
    lines = []
    for cell, servers in results.cells.items():
        title = ROWS.get(cell) or LATENCY_ROWS.get(cell) or cell
        for name, entry in servers.items():
            if note := entry.get("note"):
                lines.append(f"- {title}: {name}: {note.replace('|', '/')}")
            elif failed := results.total(cell, name, "failed"):
                total = results.total(cell, name, "requests")
                of = f" of {total:,.0f}" if total else ""
                lines.append(f"- {title}: {name}: {failed:,.0f}{of} requests failed")
    return ["## Failures and absences", "\n".join(lines)] if lines else []


def _introduction(results: Results) -> str:
    rivals = len(_measured(results, results.cells, RIVALS))
    dates = sorted({e["date"] for cell in results.cells.values() for e in cell.values()})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    return (
        f"h2asgi beside {rivals} configurations of other servers, measured on {when} by "
        "`python -m benchmarks`, one worker on one core. `h2asgi` is the compiled "
        "build on uvloop, ngh2, httptools and pyOpenSSL, `h2asgi pure` runs interpreted on "
        "asyncio, h2, h11 and Python's ssl. nginx, which runs no application, shows the limit of "
        "the machine. Figures depend on the machine; compare the ratios."
    )


def _method(results: Results) -> str:
    machine = results.machine
    versions = _versions(results)
    counts = [len(e["rounds"]) for c in results.cells.values() for e in c.values() if "rounds" in e]
    rounds = max(counts, default=0)
    return f"""\
- Machine: {machine.get("processor")}, {machine.get("cores")} cores, {machine.get("memory")},
  {machine.get("kernel")}, {machine.get("openssl")}.
- Load: {machine.get("h2load")}, one thread. h2asgi at commit {machine.get("commit")}.
- Versions: {"; ".join(versions)}.
- Client and server are on the same machine and speak over loopback. A server with one worker is
  pinned to one core, the load generator to another. With two workers the server has both cores
  and shares one of them with the load generator, so that row says little on a machine of two
  cores.
- Access logs are off everywhere. Settings that would close a busy connection are raised
  (hypercorn's `keep_alive_max_requests`, nginx's `keepalive_requests`, keep-alive times). Where a
  server has a choice of event loop, it is uvloop. uvicorn speaks WebSocket by websockets-sansio
  with httptools, by wsproto with zttp. All other settings are the servers' own.
- All servers of a cell run at once and are measured in turn, round after round, so that a machine
  that drifts drifts for all of them. A figure is the median of up to {rounds} rounds, each of
  about the same time; a server that is less than a third as fast as the fastest of its cell is
  measured in 3 rounds. Before that each is warmed up. Connections are made within the time that
  is measured.
- Small requests: 10 connections of 10 streams over HTTP/2, 10 connections over HTTP/1.1, where
  one request follows the answer to the one before. Bodies of 1 MB: 4 of 4, and 16. The
  application sends downloads in pieces of 64 KiB, with `content-length`. Certificates have P-256
  keys.
- File: one at a time, one after another on one connection, by `http.response.pathsend` where the
  server offers that and else in pieces of 64 KiB. It has no blocks on a disk, so that no disk is
  measured. Servers that send a file as any other body take no part.
- WebSocket: 10 connections with 10 messages of 64 B each under way, or 4 with 4 of 64 KiB, from a
  client in Python, without compression. The next messages of a connection are sent in one piece
  when all have come back.
- nginx answers hello by `return 200` and downloads from a file. It takes no part in what has a
  request body, which `return` does not wait for.
- Latency at a fixed rate: 10 connections of 10 streams, whose requests h2load sends in little
  bursts, which is most of the latency of fast servers. A server that cannot do 1.25 times the
  rate is left out.
- Beside a download: requests follow one another on a connection that carries a download of 100
  MiB with as large a window as there is; those that ended before it count, 200 of them where time
  allows.
- TLS connections: a Python client of four threads; a connection has a handshake, one HTTP/1.1
  request with its answer, and the end. Resumed means TLS 1.3 with a new ticket each time; a dash
  means that less than 90 % of the connections were resumed. The client is slower than the faster
  servers: compare the CPU time.
- An idle connection has exchanged HTTP/2 prefaces and done nothing else; it costs the growth of
  resident memory over 500 of them. Memory that processes share counts for each of them.
- {DASH} is what a server cannot do, or was not measured."""


def _versions(results: Results) -> list[str]:
    found = {
        (entry["version"], entry["python"])
        for servers in results.cells.values()
        for entry in servers.values()
    }
    return [f"{version} on {python}" if python else version for version, python in sorted(found)]
