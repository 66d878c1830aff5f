"""Requests per second over HTTP/2 and TLS, side by side. See README.md beside this file."""

from __future__ import annotations

import argparse
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = "0", "1"
START_TIMEOUT = 20.0


def commands(port: int, cert: str, loop: str) -> dict[str, list[str]]:
    """How each server is started on ``port``: one worker, no access log, the same event loop."""
    python = sys.executable
    address = f"127.0.0.1:{port}"
    return {
        "h2asgi": [
            *(python, "-m", "h2asgi", "--bind", address, "--certfile", cert, "--loop", loop),
            *("--no-access-log", "--log-level", "warning", "hello:app"),
        ],
        "hypercorn": [
            *(python, "-m", "hypercorn", "--bind", address, "--certfile", cert, "--keyfile", cert),
            *("--worker-class", loop, "--log-level", "WARNING", "hello:app"),
        ],
        "gunicorn": [
            *(python, "-m", "gunicorn", "--bind", address, "--certfile", cert, "--keyfile", cert),
            *("--worker-class", "asgi", "--asgi-loop", loop, "--http-protocols", "h2,h1"),
            *("--log-level", "warning", "hello:app"),
        ],
    }


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """Start a server on its core and wait until it takes TLS connections."""
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command], cwd=HERE)
    context = ssl._create_unverified_context()
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                context.wrap_socket(sock).close()
                return process
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise SystemExit(f"did not start: {' '.join(command)}") from None
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, in seconds."""
    ticks = 0
    pids = [pid]
    while pids:
        current = pids.pop()
        fields = Path(f"/proc/{current}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for task in Path(f"/proc/{current}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return ticks / os.sysconf("SC_CLK_TCK")


def load(port: int, requests: int, connections: int, streams: int) -> float:
    """Run h2load once; requests per second, or an error when a request failed."""
    command = ["taskset", "-c", CLIENT_CORE, "h2load", "-n", str(requests)]
    command += ["-c", str(connections), "-m", str(streams), f"https://127.0.0.1:{port}/"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if f"{requests} succeeded" not in output:
        raise SystemExit(output)
    found = re.search(r"([\d.]+) req/s", output)
    assert found is not None
    return float(found[1])


def certificate(folder: str) -> str:
    """A certificate and its key in one file."""
    leaf = trustme.CA().issue_cert("127.0.0.1", "localhost")
    path = Path(folder) / "cert.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default="h2asgi,hypercorn,gunicorn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--streams", type=int, default=10, help="per connection")
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    options = parser.parse_args()
    names = options.servers.split(",")
    rates: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            cert = certificate(folder)
            for number, name in enumerate(names):
                port = 18443 + number
                running[name] = start(commands(port, cert, options.loop)[name], port), port
                load(port, 2_000, options.connections, options.streams)  # warm up
            for _ in range(options.rounds):
                for name, (process, port) in running.items():
                    before = cpu_seconds(process.pid)
                    rate = load(port, options.requests, options.connections, options.streams)
                    rates[name].append(rate)
                    cpu[name].append((cpu_seconds(process.pid) - before) / options.requests * 1e6)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait(30)
    first = statistics.median(rates[names[0]])
    print(f"{'server':12} {'req/s':>9} {'CPU us':>8} {names[0] + ' is':>12}")
    for name in names:
        rate = statistics.median(rates[name])
        print(f"{name:12} {rate:9.0f} {statistics.median(cpu[name]):8.0f} {first / rate:11.2f}x")


if __name__ == "__main__":
    main()
