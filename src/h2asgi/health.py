"""What load balancers are told when they ask whether to send requests here.

The answer is the service's, not one process's: among several workers, one that
starts or is being replaced says what holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol

State = Literal["starting", "serving", "draining"]

HEALTH_FIELDS: Final = [(b"cache-control", b"no-store")]


class Question(Protocol):
    """A request, as far as it matters here."""

    target: bytes
    protocol: str | None


class Health:
    """Answers requests for ``path``. ``of_all`` gives the state of all workers, where there are."""

    def __init__(self, path: str, of_all: Callable[[], State] | None = None) -> None:
        self.state: State = "starting"
        self._of_all = of_all
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
        state = self.state if self._of_all is None else self._of_all()
        return (200, "ok") if state == "serving" else (503, state)
