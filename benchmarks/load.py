"""h2load: one run of it, and what it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .servers import H1, H1_TLS, HOST, Launch

TIMEOUT = 120.0  # seconds after which a run is given up


@dataclass(frozen=True)
class Load:
    """What is asked for: ``streams`` per connection, ``rate`` (requests/s, all connections)."""

    connections: int = 1
    streams: int = 1
    paths: Sequence[str] = ("/",)
    body: str = ""
    rate: int = 0


@dataclass(frozen=True)
class Outcome:
    """``data`` is octets of response bodies. Requests that were not answered well have failed."""

    seconds: float
    requests: int
    succeeded: int
    data: int

    @property
    def failed(self) -> int:
        return self.requests - self.succeeded

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return self.succeeded / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Exchange:
    """A line of the log: microseconds of start and of duration."""

    start: int
    duration: int


_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s|m|h)\b")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_REQUESTS = re.compile(r"requests: (\d+) total, .* (\d+) done, .* (\d+) errored")
_STATUS = re.compile(r"(\d+) 4xx, (\d+) 5xx")
_DATA = re.compile(r"\((\d+)\) data")


def parse(output: str) -> Outcome:
    """The figures in what h2load prints; raises ValueError when they are not there.

    What it calls succeeded is not used: it sees no status where HTTP/1.1 has an
    empty reason phrase, which RFC 9112 section 4 allows and hypercorn sends.
    """
    finished, requests = _FINISHED.search(output), _REQUESTS.search(output)
    status, data = _STATUS.search(output), _DATA.search(output)
    if not (finished and requests and status and data):
        raise ValueError(f"h2load said: {output[-500:]}")
    seconds = float(finished[1]) * _SECONDS[finished[2]]
    total, done, errored = map(int, requests.groups())
    refused = sum(map(int, status.groups()))
    return Outcome(seconds, total, max(0, done - errored - refused), int(data[1]))


def parse_log(text: str) -> list[Exchange]:
    """Start since the epoch, status and duration, separated by tabs; status -1 is a failure."""
    rows = (line.split("\t") for line in text.splitlines())
    return [Exchange(int(row[0]), int(row[2])) for row in rows if row[1] != "-1"]


def run(launch: Launch, load: Load, requests: int, log: Path | None = None) -> Outcome:
    """Send ``requests``; a run that hangs has failed altogether."""
    requests = max(requests, load.connections)
    scheme = "https" if launch.tls else "http"
    command = ["h2load", "-t", "1", "-n", str(requests), "-c", str(load.connections)]
    command += ["-m", str(load.streams)]
    if launch.protocol in (H1, H1_TLS):
        command.append("--h1")
    if load.body:
        command += ["-d", str(launch.folder / load.body)]
    if load.rate:
        command += ["--rps", f"{load.rate / load.connections:g}"]
    if log is not None:
        log.unlink(missing_ok=True)
        command += ["--log-file", str(log)]
    urls = launch.folder / "urls"
    origin = f"{scheme}://{HOST}:{launch.port}"
    urls.write_text("".join(f"{origin}{path}\n" for path in load.paths))
    try:
        output = subprocess.run(
            [*command, "-i", str(urls)],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        ).stdout
    except subprocess.TimeoutExpired:
        return Outcome(TIMEOUT, requests, 0, 0)
    return parse(output)
