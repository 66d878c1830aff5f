"""Instances that are replaced under constant load, behind load balancers: no request fails."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps.letters import HANG
from balancers import RECIPES, Balancer, HAProxy, Recipe, free_ports, instance_options, with_recipes
from benchmarks.load import parse
from serving import Command

HAPROXY = RECIPES[:2]
OTHERS = [
    recipe
    for recipe in RECIPES
    if (recipe.program, recipe.tls) in (("caddy", True), ("nginx", False))
]
CLIENTS, RATE = 4, 50
"""Connections to the load balancer, and requests of each in a second."""

CHECKS = {"inter 2s": "inter 200ms", "health_interval 2s": "health_interval 200ms"}
DELAY = 1.0
"""Seconds that an instance waits before it drains: several checks."""

FAIL_TIMEOUT = 2.0
"""Seconds for which nginx leaves out an instance that it could not reach."""

pytestmark = [pytest.mark.tool("h2load"), pytest.mark.timeout(60)]


class Load:
    """h2load through a load balancer at a constant rate, for ``seconds``."""

    def __init__(self, balancer: Balancer, path: str, seconds: float, *options: str) -> None:
        self._requests = int(CLIENTS * RATE * seconds)
        self._process = subprocess.Popen(
            [
                *("h2load", f"-n{self._requests}", f"-c{CLIENTS}", "-m20", f"--rps={RATE}"),
                *(*options, balancer.url + path),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def running(self) -> bool:
        return self._process.poll() is None

    def assert_no_failure(self) -> None:
        output, _ = self._process.communicate(timeout=HANG)
        outcome = parse(output)
        assert (outcome.requests, outcome.failed) == (self._requests, 0), output

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[Balancer, float], list[Load]]]:
    """GET and POST at once: a load balancer may not send the latter again by itself."""
    loads: list[Load] = []
    body = tmp_path / "body"
    body.write_bytes(bytes(20_000))

    def start(balancer: Balancer, seconds: float, *, post: bool = True) -> list[Load]:
        loads.append(Load(balancer, "/hello", seconds))
        if post:
            loads.append(Load(balancer, "/digest", seconds, f"--data={body}"))
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
    loads = load(balancer, 8 if checked else 10, post=checked)
    for number, port in enumerate(ports):
        time.sleep(1 if checked else FAIL_TIMEOUT + 1)  # of load
        running[number].terminate()
        assert running[number].wait() == 0
        running[number] = instance(recipe, f"--port={port}", delay)
        if isinstance(balancer, HAProxy):
            balancer.wait_for_checks("L7OK", "L7OK")
    assert all(load.running() for load in loads)
    for load in loads:
        load.assert_no_failure()


@with_recipes(HAPROXY[0])
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
        balancer = balance(recipe, [port])
        loads = load(balancer, 6)
        for _ in range(3):
            time.sleep(1)  # of load
            running.terminate()
            assert running.wait() == 0
            running = instance(recipe, f"--bind=fd://{fd}", inherited=[fd])
        assert all(load.running() for load in loads)
        for load in loads:
            load.assert_no_failure()


@with_recipes(HAPROXY[0])
def test_connections_that_end_by_their_age(
    recipe: Recipe,
    balance: Callable[..., HAProxy],
    instance: Callable[..., Command],
    load: Callable[..., list[Load]],
) -> None:
    """GOAWAY at an age that differs from connection to connection."""
    age, seconds = 0.5, 5
    running = instance(recipe, f"--max-connection-age={age}")
    balancer = balance(recipe, [running.port])
    for each in load(balancer, seconds):
        each.assert_no_failure()
    made = sum(int(row["connect"]) for row in balancer.servers().values())
    assert made >= 2 * CLIENTS * (seconds / age - 2)
