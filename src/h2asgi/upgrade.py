"""The program is replaced by itself, as it is now on the disk (SIGUSR2).

The new one gets the listening sockets, and says when it serves; only then this
one ends. Between the two nobody is refused, and a new one that fails changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os

from . import notify
from .endpoint import Endpoint
from .inheritance import start_successor

logger = logging.getLogger("h2asgi")


class Upgrade:
    """A new program that is coming up; when ``fd`` is readable, ``finish`` says how it went."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.fd, told = os.pipe()
        try:
            sockets = [(found.sock, found.file is not None) for found in endpoint.every_socket()]
            self.pid = start_successor(sockets, told)
        except BaseException:
            os.close(self.fd)
            raise
        finally:
            os.close(told)
        logger.info("upgrading: process %d is coming up", self.pid)

    def give_up(self, number: int) -> None:
        """End the new program by a signal, since this one is asked to end, for good."""
        logger.info("the upgrade is given up: process %d is to end, too", self.pid)
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def finish(self) -> bool:
        """Take note of the outcome; True if this program is to end, its sockets being another's."""
        serves = bool(os.read(self.fd, 1))
        os.close(self.fd)
        if serves:
            logger.info("process %d has taken over", self.pid)
            notify.main_process(self.pid)
            self._endpoint.leave_to_successor()
        else:
            logger.error("the new process %d did not come up: this one goes on", self.pid)
        return serves


def begin(endpoint: Endpoint) -> Upgrade | None:
    """Begin an upgrade, where there can be one."""
    if os.getpid() == 1:
        logger.error("process 1 of a container cannot be replaced: start a new container")
        return None
    try:
        return Upgrade(endpoint)
    except OSError as error:
        logger.error("the program cannot be started anew: %s", error.strerror)
        return None
