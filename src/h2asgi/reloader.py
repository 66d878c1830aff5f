"""The process above one worker that is started anew when files change (``--reload``).

It holds the listening sockets and has no application, so a connection that is made
while there is no worker waits, and is not refused. The old application ends before the new
one is imported: two of them at once would be in each other's way, and whoever asks
after a change gets the new one's answer.

An application that does not start, or whose process ends, is replaced by an answer that
says so, until the next change. SIGHUP is as good as a change.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from . import banner, line, process
from .certificate_watch import LOOK_INTERVAL, CertificateWatch
from .changes import Changes, Watched
from .config import Config
from .crew import Crew, Slot, Worker, how
from .endpoint import Endpoint, open_endpoint
from .errors import ApplicationError, ConfigurationError
from .identity import Identity, PIDFile, set_umask
from .inheritance import take
from .noted_signals import NUMBERS, NotedSignals
from .worker import Ties, serve

logger = logging.getLogger("h2asgi")

GRACEFUL_TIMEOUT = 0.5
"""Seconds for requests in flight, whatever the option allows: server-sent events have no end, and
somebody waits for the reload."""

SHUTDOWN_TIMEOUT = 3.0
"""The same for the application's shutdown."""

STOP_TIME = 6.0
"""Seconds after which a worker is killed: both of the above, and the steps from a reset to a
cancellation. An application that blocks its loop needs no more of them."""

MAX_REASON = 4096
"""Octets that are kept of why an application did not start: a sentence."""


def serve_reloading(config: Config) -> int:
    """Serve until a signal, in ever new processes; in each of them this ends when it does.

    Raises ``ConfigurationError``, and in a worker ``ApplicationError`` too.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("--reload needs fork(), which this system does not have")
    if callable(config.app):
        raise ConfigurationError(
            "reload needs the application by its name, as in run('module:attribute', reload=True)"
        )
    loop = process.loop_choice(config.loop)
    identity = Identity(config.processes)
    set_umask(config.processes)
    watched = Watched(config)
    changes = Changes(watched)
    endpoint = Endpoint()
    try:
        endpoint = open_endpoint(config, take())
        changes.wait_until_watched()
        banner.announce(config, endpoint.addresses, endpoint.notes, loop)
        logger.info("watching %s for changes", ", ".join(map(str, watched.folders)))
        reloader = Reloader(config, endpoint, changes)
        placed = reloader.run()
    except BaseException:
        endpoint.close()
        changes.close()
        raise
    if placed is None:
        endpoint.close()
        changes.close()
        return reloader.exit_code
    changes.close()
    identity.become()
    _forget_modules(watched)
    reloader.serve(placed)
    return 0


def _forget_modules(watched: Watched) -> None:
    """Have them imported anew: a program that calls ``run()`` may have imported some before."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and file in watched and name.partition(".")[0] not in ("__main__", __package__):
            del sys.modules[name]


class Reloader:
    """Keeps one worker running, and replaces it; ``run`` gives None in the parent, in the end."""

    def __init__(self, config: Config, endpoint: Endpoint, changes: Changes) -> None:
        self.exit_code = 0
        timeouts = config.timeouts
        timeouts = replace(
            timeouts,
            graceful=min(timeouts.graceful, GRACEFUL_TIMEOUT),
            lifespan_shutdown=min(timeouts.lifespan_shutdown, SHUTDOWN_TIMEOUT),
        )
        self._config = replace(config, timeouts=timeouts)
        self._endpoint = endpoint
        self._changes = changes
        self._crew = Crew(1, self)
        self._crew.stop_time = STOP_TIME
        self._crew.hang_timeout = math.inf  # whoever sits in a debugger
        self._slot = self._crew.slots[0]
        self._slot.spawn_at = 0.0
        self._watch = CertificateWatch(endpoint.tls)
        self._pid_file = PIDFile(config.processes.pid_file)
        self._terminal = process.Terminal()
        self._failed = False  # so that who is forked next says so, in the application's place
        self._reason = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by run)
        self._stopping = False

    def run(self) -> Ties | None:
        """Start the worker whenever that is due; returns in each of them, and in the end."""
        self._pid_file.write()
        with NotedSignals(NUMBERS) as self._signals:
            while True:
                placed = None if self._stopping else self._crew.spawn_due(self._signals)
                if placed is not None:
                    return placed[1]
                if self._stopping and not self._crew.workers:
                    self._pid_file.remove()
                    self._reason.close()
                    return None
                self._wait()
                for number in self._signals.take():
                    self._on_signal(number)
                self._crew.reap()
                self._crew.look()
                self._look_at_certificate()

    def serve(self, ties: Ties) -> None:
        """Serve, in a worker."""
        config = self._config
        if self._failed:
            config = replace(config, app=_say(self._why()), factory=False, lifespan="off")
        self._reason.truncate(0)
        part = self._endpoint.of_worker(0, 1, ties, ties)
        try:
            serve(config, part, ties)
        except (ApplicationError, ConfigurationError) as error:
            os.pwrite(self._reason.fileno(), str(error).encode()[:MAX_REASON], 0)
            raise

    def _why(self) -> str:
        return os.pread(self._reason.fileno(), MAX_REASON, 0).decode(errors="replace")

    # What happens.

    def _wait(self) -> None:
        awaited: list[int | socket.socket] = [self._signals.fd, *self._crew.lines()]
        if not self._stopping:
            awaited.append(self._changes.fd)
        readable, _, _ = select.select(awaited, [], [], LOOK_INTERVAL)
        self._crew.listen(readable)
        if self._changes.fd not in readable:
            return
        names = self._changes.take()
        if names is None:
            logger.error("the process that watches files has ended: stopping")
            self.exit_code = 1
            self._begin_stop()
        elif names:
            self._restart(f"{', '.join(names)} changed")

    def on_up(self, slot: Slot, worker: Worker) -> None:
        """See ``crew.Foreman``."""
        if self._failed:
            logger.info("answering every request with 500, until a file changes")

    def on_ended(self, slot: Slot, worker: Worker, code: int) -> None:
        """See ``crew.Foreman``."""
        slot.worker = None
        if self._stopping:
            return
        if worker.stopping:
            self._failed = False
            slot.spawn_at = 0.0
        elif self._failed:
            logger.error("waiting for a file to change")
        else:
            if not self._why():
                text = f"the process of the application {how(code)}"
                logger.error("%s", text)
                os.pwrite(self._reason.fileno(), text.encode(), 0)
            self._failed = True
            slot.spawn_at = 0.0

    def _on_signal(self, number: int) -> None:
        stops = number in process.STOP_SIGNALS
        if number == signal.SIGQUIT or (stops and self._stopping):
            self._begin_stop()
            self.exit_code = 128 + number
            for worker in self._crew.workers:
                worker.kill(signal.SIGKILL)
        elif stops or (number == signal.SIGHUP and self._terminal.is_gone()):
            logger.info("stopping")
            self._begin_stop()
        elif number == signal.SIGHUP and not self._stopping:
            self._renew_certificate()
            self._restart("SIGHUP")
        elif number == signal.SIGUSR1:
            for end in self._crew.lines():
                line.say(end, line.REOPEN)
        elif number == signal.SIGUSR2:
            logger.info("with --reload there is no upgrade: stop the program and start it")

    # What is done.

    def _restart(self, why: str) -> None:
        logger.info("%s: starting anew", why)
        if self._slot.worker is not None:
            self._crew.tell_to_stop(self._slot.worker)
        else:
            self._failed = False
            self._slot.spawn_at = 0.0

    def _look_at_certificate(self) -> None:
        if not self._stopping and self._watch.look() and self._renew_certificate():
            self._restart("there is a new certificate")

    def _renew_certificate(self) -> bool:
        self._watch.note()
        try:
            self._endpoint.renew_certificate(self._config)
        except ConfigurationError as error:
            logger.error("%s: the certificate in use stays", error)
            return False
        return True

    def _begin_stop(self) -> None:
        self._stopping = True
        for worker in self._crew.workers:
            self._crew.tell_to_stop(worker)


_Send = Callable[[dict[str, Any]], Awaitable[None]]


def _say(reason: str) -> Callable[..., Awaitable[None]]:
    """Make an application that says why the real one does not answer."""
    text = (
        f"The application is not running: {reason}.\n\n"
        "The log says more. Save a file to try again.\n"
    )

    async def application(scope: dict[str, Any], receive: object, send: _Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 500, "headers": fields})
        await send({"type": "http.response.body", "body": text.encode()})

    return application
