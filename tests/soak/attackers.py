"""Hostile clients in a process of their own, which is told what to do and when to stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from .hostile import ATTACKS
from .target import Target, processes


def run(target: Target, names: Sequence[str], clients: int, stopped: Any) -> int:
    """Attack in turn, so many at once, until ``stopped``; give how many attacks there were."""
    counts = [0] * clients

    def attack(number: int) -> None:
        while not stopped.is_set():
            ATTACKS[names[(number + counts[number]) % len(names)]](target)
            counts[number] += 1

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def serve(target: Target, clients: int, orders: Any, stopped: Any, reports: Any) -> None:
    """In a process of its own: do what ``orders`` name, until they are None."""
    while (names := orders.get()) is not None:
        reports.put("begun")
        reports.put(run(target, names, clients, stopped))


class Attackers:
    """A process for attacks, and what it is told; ``attacks`` is how many there were last."""

    def __init__(self, target: Target, clients: int) -> None:
        self.attacks = 0
        self._orders, self._reports = processes.Queue(), processes.Queue()
        self._stopped = processes.Event()
        arguments = (target, clients, self._orders, self._stopped, self._reports)
        self._process = processes.Process(target=serve, args=arguments, daemon=True)
        self._process.start()

    @contextlib.contextmanager
    def attacking(self, *names: str) -> Iterator[None]:
        """Attack in these ways, in turn, for as long as the context is open."""
        self._stopped.clear()
        self._orders.put(names)
        self._reports.get()
        yield
        self._stopped.set()
        self.attacks = self._reports.get()

    def close(self) -> None:
        self._orders.put(None)
        self._process.join()
