"""What is logged, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, and where."""

    level: Literal["debug", "info", "warning", "error", "critical"] = option(
        "info", "log-level", "Logging", "Lowest level of server messages to show, on stderr."
    )
    access_log: bool = option(True, "access-log", "Logging", "Log every request.")
    access_log_file: str | None = option(
        None, "access-log-file", "Logging",
        "File for the access log. [default: stdout]", metavar="FILE",
    )  # fmt: skip
    debug_loop: bool = option(
        False, "debug-loop", "Logging",
        "Warn of what blocks the event loop for a quarter of a second or more, and where.",
    )  # fmt: skip
