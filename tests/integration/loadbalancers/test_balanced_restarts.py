"""Instances that are replaced under constant load, behind load balancers: no request fails."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps.letters import HANG
from balancers import (
    POLL,
    RECIPES,
    Balancer,
    HAProxy,
    Recipe,
    free_ports,
    instance_options,
    with_recipes,
)
from benchmarks.load import parse
from serving import Command

HAPROXY = RECIPES[:2]
OTHERS = [
    recipe
    for recipe in RECIPES
    if (recipe.program, recipe.tls) in (("caddy", True), ("nginx", False), ("envoy", True))
]
RESTARTED = [
    recipe
    for recipe in RECIPES
    if (recipe.program, recipe.tls) in (("haproxy", True), ("envoy", True))
    or (recipe.program != "haproxy" and not recipe.tls)
]
"""One of each program."""

CLIENTS, RATE = 4, 50
"""Connections to the load balancer, and requests of each in a second."""

CHECKS = {
    "inter 2s": "inter 500ms",
    "fall 1": "fall 3",  # or one that a busy machine answers too late would do
    "health_interval 2s": "health_interval 500ms",
    "interval: 2s": "interval: 0.5s",
}
DELAY = 3.0
"""Seconds that an instance waits before it drains: several checks."""

ALONE = {
    "fall 1": "fall 10",  # of a health check that waits in the kernel with the others
    "    server 10.0.0.6:8000 max_fails=1 fail_timeout=2s;\n": "",
    "max_fails=1": "max_fails=0",
    "keepalive_timeout 60s": "keepalive_timeout 900ms",
    "retry=0": "retry=0 disablereuse=on",  # docs/deploy/apache.md
    "connect_timeout: 5s": "connect_timeout: 60s",  # which runs while it is restarted
}
"""What the documents say of a single instance."""

FAIL_TIMEOUT = 2.0
"""Seconds for which nginx leaves out an instance that it could not reach."""

pytestmark = [pytest.mark.tool("h2load"), pytest.mark.timeout(120)]


class Load(threading.Thread):
    """h2load through a load balancer at a constant rate, second after second, until ``finish``."""

    def __init__(self, balancer: Balancer, path: str, *options: str) -> None:
        super().__init__()
        self._command = [
            *("h2load", f"-n{CLIENTS * RATE}", f"-c{CLIENTS}", "-m20", f"--rps={RATE}"),
            *(*options, balancer.url + path),
        ]
        self._over = threading.Event()
        self._outputs: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=HANG)
            self._outputs.append(done.stdout)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def failed(self) -> int:
        """Stop; give how many requests have failed."""
        self.stop()
        outcomes = [parse(output) for output in self._outputs]
        assert all(outcome.requests == CLIENTS * RATE for outcome in outcomes), self._outputs
        return sum(outcome.failed for outcome in outcomes)


def finish(loads: list[Load], balancer: Balancer) -> None:
    """No request may have failed, but for those that the load balancer says it has lost itself."""
    assert sum(load.failed() for load in loads) == balancer.lost_by_itself, balancer.log


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., list[Load]]]:
    """GET and POST at once: a load balancer may not send the latter again by itself."""
    loads: list[Load] = []
    body = tmp_path / "body"
    body.write_bytes(bytes(20_000))

    def start(balancer: Balancer, *, post: bool = True) -> list[Load]:
        loads.append(Load(balancer, "/hello"))
        if post:
            loads.append(Load(balancer, "/digest", f"--data={body}"))
        for load in loads:
            load.start()
        return loads

    yield start
    for load in loads:
        load.stop()


@pytest.fixture
def instance(command: Callable[..., Command], tmp_path: Path) -> Callable[..., Command]:
    """An instance on a port that it takes from the one before: ``instance(recipe, port)``."""

    def start(recipe: Recipe, *options: str, **more: Any) -> Command:
        file = tmp_path / "h2asgi.toml"
        told = instance_options(forwarded=recipe.forwarded)
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in told.items())
        file.write_text("".join(lines))
        arguments = ("--config", str(file), "--no-access-log", *options)
        return command("probe_app:app", *arguments, tls=recipe.tls, **more)

    return start


@with_recipes(*HAPROXY, *OTHERS)
def test_one_of_two_is_drained_and_replaced(
    recipe: Recipe,
    balance: Callable[..., Balancer],
    instance: Callable[..., Command],
    load: Callable[..., list[Load]],
) -> None:
    """Its health check says 503, it goes on for a while, and GOAWAY moves what is left.

    nginx has no health checks. It is told on each connection; where that is too
    late, it sends a GET again, but not a POST.
    """
    checked = recipe.program != "nginx"
    delay = f"--drain-delay={DELAY if checked else 0}"
    ports = free_ports(2)
    running = [instance(recipe, f"--port={port}", delay) for port in ports]
    balancer = balance(recipe, ports, CHECKS)
    loads = load(balancer, post=checked)
    for number, port in enumerate(ports):
        time.sleep(1 if checked else FAIL_TIMEOUT + 1)  # of load
        running[number].terminate()
        assert running[number].wait() == 0
        running[number] = instance(recipe, f"--port={port}", delay)
        if isinstance(balancer, HAProxy):
            balancer.wait_for_checks("L7OK", "L7OK")
    finish(loads, balancer)


@with_recipes(*RESTARTED)
def test_workers_are_replaced_one_after_the_other(
    recipe: Recipe,
    balance: Callable[..., Balancer],
    instance: Callable[..., Command],
    load: Callable[..., list[Load]],
) -> None:
    """By SIGHUP, three times; the instance itself is always there."""
    running = instance(recipe, "--workers=2")
    balancer = balance(recipe, [running.port], ALONE)
    loads = load(balancer)
    for number in range(1, 4):
        time.sleep(1)  # of load
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_lines("the workers have been replaced", number)
    time.sleep(1)
    finish(loads, balancer)


@with_recipes(*RESTARTED)
def test_the_only_one_is_restarted_on_a_socket_that_stays_open(
    recipe: Recipe,
    balance: Callable[..., Balancer],
    instance: Callable[..., Command],
    load: Callable[..., list[Load]],
) -> None:
    """As systemd holds it: new connections wait in the kernel meanwhile.

    There is no delay before it drains, so no health check says that the only one is going.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        running = instance(recipe, f"--bind=fd://{fd}", inherited=[fd])
        balancer = balance(recipe, [port], ALONE)
        loads = load(balancer)
        for _ in range(3):
            time.sleep(1)  # of load
            running.terminate()
            assert running.wait() == 0
            running = instance(recipe, f"--bind=fd://{fd}", inherited=[fd])
        finish(loads, balancer)


@with_recipes(HAPROXY[0])
def test_connections_that_end_by_their_age(
    recipe: Recipe,
    balance: Callable[..., HAProxy],
    instance: Callable[..., Command],
    load: Callable[..., list[Load]],
) -> None:
    """GOAWAY at an age that differs from connection to connection."""
    running = instance(recipe, "--max-connection-age=0.5")
    balancer = balance(recipe, [running.port], ALONE)
    loads = load(balancer)
    deadline = time.monotonic() + HANG
    while sum(int(row["connect"]) for row in balancer.servers().values()) < 100:
        assert time.monotonic() < deadline, balancer.servers()
        time.sleep(POLL)
    finish(loads, balancer)
