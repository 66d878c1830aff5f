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
    format: Literal["text", "json"] = option(
        "text", "log-format", "Logging", "What the lines of the server's log look like."
    )
    config_file: str | None = option(
        None, "log-config", "Logging",
        "TOML or JSON file for Python's logging.config.dictConfig.", metavar="FILE",
    )  # fmt: skip
    access_log: bool = option(True, "access-log", "Logging", "Log every request.")
    access_log_file: str | None = option(
        None, "access-log-file", "Logging",
        "File for the access log. [default: stdout]", metavar="FILE",
    )  # fmt: skip
    access_format: str = option(
        "default", "access-log-format", "Logging",
        "What its lines look like: default, combined, json, or text with fields in braces such as "
        "{client} and {status}.",
        metavar="FORMAT",
    )  # fmt: skip
    request_id_header: str | None = option(
        None, "request-id-header", "Logging",
        "Header field that carries the id of a request: taken from proxies that are believed, "
        "otherwise made; for the application, the response and both logs. [default: none]",
        metavar="NAME",
    )  # fmt: skip
    slow_request: float = option(
        0.0, "slow-request", "Logging",
        "Warn of requests that take longer, and say where they wait; 0 does not look.",
        minimum=0.0,
    )  # fmt: skip
    debug_loop: bool = option(
        False, "debug-loop", "Logging",
        "Warn of what blocks the event loop for a quarter of a second or more, and where.",
    )  # fmt: skip
