"""What load balancers are told when they ask whether to send requests here.

The answer is the service's, not one process's: among several workers, one that
starts or is being replaced says what holds for all of them.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

State = Literal["starting", "serving", "draining"]

HEALTH_FIELDS: Final = [(b"cache-control", b"no-store")]


class Question(Protocol):
    """A request, as far as it matters here."""

    target: bytes
    protocol: str | None


class Service(Protocol):
    """Several workers that are one to those who ask."""

    def state(self, own: State) -> State:
        """Give the state of all, given that of one."""

    def ends(self) -> bool:
        """Whether all are about to stop, and not one of them alone."""


class Health:
    """Answers requests for ``path``, where there are several workers for the whole ``service``."""

    def __init__(self, path: str, service: Service | None = None) -> None:
        self.state: State = "starting"
        self._service = service
        self._path = path.encode("ascii")
        self._with_query = self._path + b"?"

    def is_asked_by(self, request: Question) -> bool:
        """Whether a request is for the path, by whatever method."""
        target = request.target
        if target != self._path and not target.startswith(self._with_query):
            return False
        return request.protocol is None

    def answer(self) -> tuple[int, str]:
        """Give status and text."""
        state = self.state if self._service is None else self._service.state(self.state)
        return (200, "ok") if state == "serving" else (503, state)
