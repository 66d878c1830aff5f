"""The one observer interface. The access log hangs on it; nothing is called when it is None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class RequestRecord:
    """One finished request, as the access log wants it.

    ``status`` is 0 when no response was begun. ``duration`` is in seconds,
    ``body_size`` in octets of response body, ``client`` as in the ASGI scope.
    """

    client: tuple[str, int] | None
    method: str
    target: bytes
    http_version: str
    status: int
    body_size: int
    duration: float


class Trace(Protocol):
    """What may be observed."""

    def request_finished(self, record: RequestRecord) -> None:
        """Take note of a request whose response ended, or that was abandoned."""
