"""Requests that take long: a line in the server's log for each, with ``--slow-request``."""

from __future__ import annotations

import asyncio
import logging

from .asgi.http import HTTPCycle
from .asgi.response import Response
from .logs import MAX_LOGGED_METHOD, MAX_LOGGED_TARGET, word
from .places import awaits, describe
from .timer import Timer

logger = logging.getLogger("h2asgi")


class SlowRequests:
    """Tells of those in ``cycles``, by stream, that go on for more than ``seconds``, each once.

    The timer is set for the one that began first; requests that end in time cost nothing.
    """

    def __init__(
        self,
        cycles: dict[int, HTTPCycle],
        seconds: float,
        timer: Timer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._cycles = cycles  # in the order in which they began
        self._seconds = seconds
        self._timer = timer
        self._loop = loop
        self._told: set[int] = set()  # streams whose line is written

    def expect(self, began: float) -> None:
        """See that it is looked, now that there is something to look at."""
        if not self._timer.is_set(self._look):
            self._timer.set(self._look, began + self._seconds)

    def _look(self) -> None:
        self._told &= self._cycles.keys()
        now = self._loop.time()
        for stream_id, cycle in self._cycles.items():
            if stream_id in self._told:
                continue
            if now < cycle.began + self._seconds:
                self.expect(cycle.began)
                return
            self._told.add(stream_id)
            self._tell(cycle)

    def _tell(self, cycle: HTTPCycle) -> None:
        said = f"response {cycle.status} begun" if cycle.status else "no response begun"
        frames = awaits(cycle.task) if cycle.task is not None else []
        logger.warning(
            "%s takes longer than %g s, %s%s",
            *(_request(cycle), self._seconds, said),
            f", waits {describe(frames)}" if frames else "",
            extra=cycle.log_ids(),
        )

    def finished(self, response: Response, duration: float) -> None:
        """Tell of a request that was slow while nobody could look: the loop was blocked."""
        told = response.stream_id in self._told
        self._told.discard(response.stream_id)
        if duration >= self._seconds and not told and isinstance(response, HTTPCycle):
            logger.warning("%s took %.2f s", _request(response), duration, extra=response.log_ids())


def _request(cycle: HTTPCycle) -> str:
    request = cycle.request
    return f"{request.method[:MAX_LOGGED_METHOD]} {word(request.target, MAX_LOGGED_TARGET)}"
