"""The one observer interface. The access log hangs on it; nothing is called when it is None."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class RequestRecord:
    """One finished request, as the access log wants it.

    ``status`` is 0 when no response was begun. ``duration`` is in seconds,
    ``body_size`` in octets of response body, ``client`` as in the ASGI scope. ``headers`` are
    the request's, empty where it was not understood. ``connection`` counts the connections of
    the process, ``stream_id`` the streams of a connection, over HTTP/1.1 its requests.
    ``request_id`` is empty without ``--request-id-header``.
    """

    client: tuple[str, int] | None
    method: str
    target: bytes
    http_version: str
    status: int
    body_size: int
    duration: float
    headers: Sequence[tuple[bytes, bytes]] = ()
    connection: int = 0
    stream_id: int = 0
    request_id: str = ""


class Trace(Protocol):
    """What may be observed."""

    def request_finished(self, record: RequestRecord) -> None:
        """Take note of a request whose response ended, or that was abandoned."""
