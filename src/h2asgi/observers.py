"""Who hears of requests: metrics, the access log or another trace, the log of slow ones."""

from __future__ import annotations

from typing import Final

from .asgi.response import Response
from .forwarded import Forwarding
from .protocol.events import Headers, RequestReceived, RequestRejected
from .slow_requests import SlowRequests
from .state import ApplicationState, Endpoints
from .trace import RequestRecord, Trace

_NO_FIELDS: Final[Headers] = []


class Observers:
    """Those of one connection. ``forwarding`` is None where the client is not believed."""

    __slots__ = ("_endpoints", "_forwarding", "_slow", "_state")

    def __init__(
        self,
        state: ApplicationState,
        endpoints: Endpoints,
        forwarding: Forwarding | None,
        slow: SlowRequests | None,
    ) -> None:
        self._state = state
        self._endpoints = endpoints
        self._forwarding = forwarding
        self._slow = slow

    def finished(self, response: Response) -> None:
        """Tell of a response that ended, or will never end."""
        state = self._state
        duration = state.time() - response.began
        request = response.request
        assert isinstance(request, RequestReceived)  # whose fields are at hand, compiled
        if state.tally is not None:
            state.tally.request_finished(
                request.http_version, request.method, response.status, duration
            )
        if self._slow is not None:
            self._slow.finished(response, duration)
        if state.trace is not None:
            ids = state.request_ids
            id_fields = [] if ids is None else [ids.find(request.headers)]
            self._record(
                state.trace, request, response.status, response.body_size, duration, id_fields
            )

    def rejected(
        self,
        request: RequestReceived | RequestRejected,
        status: int,
        body_size: int,
        id_fields: Headers,
    ) -> None:
        """Tell of a request that never reached the application."""
        state = self._state
        if state.tally is not None:
            state.tally.request_finished(request.http_version, request.method, status, 0.0)
        if state.trace is not None:
            self._record(state.trace, request, status, body_size, 0.0, id_fields)

    def _record(
        self,
        trace: Trace,
        request: RequestReceived | RequestRejected,
        status: int,
        body_size: int,
        duration: float,
        id_fields: Headers,
    ) -> None:
        client, headers = self._endpoints.client, _NO_FIELDS
        if isinstance(request, RequestReceived):
            headers = request.headers
            if self._forwarding is not None:
                client = self._forwarding.origin(headers).client or client
        trace.request_finished(
            RequestRecord(
                client,
                request.method,
                request.target,
                request.http_version,
                status,
                body_size,
                duration,
                headers,
                self._endpoints.connection,
                request.stream_id,
                id_fields[0][1].decode("ascii") if id_fields else "",
            )
        )
