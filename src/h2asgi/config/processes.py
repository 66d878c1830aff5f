"""The processes: as whom they run, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """As whom processes run, and when workers are replaced."""

    max_requests: int | None = option(
        None, "max-requests", "Processes",
        "Requests, give or take a tenth, after which a worker is replaced. [default: no limit]",
        minimum=1,
    )  # fmt: skip
    max_worker_age: float = option(
        0.0, "max-worker-age", "Processes",
        "How old a worker may become, give or take a tenth, before it is replaced; 0 sets no "
        "bound.",
        minimum=0.0,
    )  # fmt: skip
    pid_file: str | None = option(
        None, "pid", "Processes", "File for the number of the process.", metavar="FILE"
    )
    user: str | None = option(
        None, "user", "Processes",
        "User, by name or number, to become once sockets and certificates are open.",
    )  # fmt: skip
    group: str | None = option(
        None, "group", "Processes", "Group to become then. [default: the user's]"
    )
    umask: str | None = option(
        None, "umask", "Processes",
        "Permissions that new files are not to have, in octal, such as 027.",
    )  # fmt: skip
