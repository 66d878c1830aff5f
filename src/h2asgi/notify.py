"""The service manager is told how things stand: sd_notify(3) of systemd, one datagram each time."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

logger = logging.getLogger("h2asgi")

PATIENCE = 1.0
"""Seconds for the service manager to make room for what is said once: only some messages wait."""

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def tell(*states: str) -> None:
    """Send the assignments in ``states`` to NOTIFY_SOCKET, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket of Linux
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.settimeout(0.0 if states == (WATCHDOG,) else PATIENCE)
            sock.sendto("\n".join(states).encode(), address)
        except (OSError, ValueError) as error:
            logger.debug("NOTIFY_SOCKET does not take %s: %s", states[0], error)


def reloading() -> None:
    """Say that a reload begins, and when; ``READY`` is its end."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def main_process(pid: int) -> None:
    """Say which process stands for the service from now on."""
    tell(f"MAINPID={pid}")


def watchdog_interval() -> float | None:
    """Give the seconds between signs of life, half of what the service manager waits for."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with contextlib.suppress(KeyError, ValueError):
        microseconds = int(os.environ["WATCHDOG_USEC"])
        if microseconds > 0:
            return microseconds / 2_000_000
    return None
