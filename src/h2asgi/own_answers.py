"""Answers that the server gives itself, to requests that an application does not answer."""

from __future__ import annotations

import logging
from typing import Final

from .health import HEALTH_FIELDS, Health
from .observers import Observers
from .protocol.engine import Engine
from .protocol.events import Headers, RequestReceived, RequestRejected
from .request import Request
from .state import ApplicationState, Endpoints
from .turns import Driver

logger = logging.getLogger("h2asgi")

RETRY_AFTER: Final = (b"retry-after", b"1")
"""Seconds (RFC 9110 section 10.2.3): the fewest there are, and more than most requests take."""

_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class OwnAnswers:
    """Those of one connection, by ``engine``."""

    __slots__ = ("_driver", "_endpoints", "_observers", "_state", "engine")

    def __init__(
        self,
        state: ApplicationState,
        endpoints: Endpoints,
        engine: Engine,
        observers: Observers | None,
        driver: Driver,
    ) -> None:
        self._state = state
        self._endpoints = endpoints
        self.engine = engine
        self._observers = observers
        self._driver = driver

    def report(self, request: RequestReceived, health: Health) -> None:
        """Say how the service is. Such requests come every second: nobody is told of them."""
        status, text = health.answer()
        self._respond(request, status, text, HEALTH_FIELDS)

    def reject(
        self, request: RequestReceived | RequestRejected, status: int, reason: str, headers: Headers
    ) -> None:
        """Answer what never reaches the application."""
        id_fields = self._id_fields(request)
        size = self._respond(request, status, reason, headers + id_fields)
        if self._observers is not None:
            self._observers.rejected(request, status, size, id_fields)

    def answer(self, request: Request, status: int, reason: str) -> int:
        """Answer in the place of the application; gives the size of the body."""
        return self._respond(request, status, reason, self._id_fields(request))

    def _id_fields(self, request: Request | RequestRejected) -> Headers:
        """Give the field with the id of a request; none if it has none."""
        ids = self._state.request_ids
        if ids is None:
            return []
        return [ids.make() if isinstance(request, RequestRejected) else ids.find(request.headers)]

    def _respond(
        self, request: Request | RequestRejected, status: int, reason: str, headers: Headers
    ) -> int:
        """Give the response; returns the size of its body."""
        stream_id = request.stream_id
        logger.debug("%s: stream %d: %d %s", self._endpoints, stream_id, status, reason)
        body = f"{reason}\n".encode("latin-1", "replace")
        length = (b"content-length", b"%d" % len(body))
        fields = [_TEXT, length, *headers, *self._state.default_headers.fields]
        no_content = request.method == "HEAD"
        self.engine.send_headers(stream_id, status, fields, no_content)
        if not no_content:
            self.engine.send_data(stream_id, body, True)
        self._driver.schedule_flush()  # a pipelined request turns up while the flush is under way
        return 0 if no_content else len(body)
