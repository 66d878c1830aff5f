"""The server's log and the access log.

Both escape every control character: what a peer sends cannot forge a line, or
reach the operator's terminal as a command. While a server runs, threads write them
(``writer.py``), so that its loop waits for no disk and no reader.
"""

from __future__ import annotations

from ..config import LogConfig
from .access_formats import MAX_LOGGED_METHOD, MAX_LOGGED_TARGET, format_request, make_format
from .access_log import ACCESS_LOGGER, AccessLog, access_log, embedded_access_log
from .escaping import escape, word
from .server_log import JSONFormatter, LineFormatter, configure, flush, in_background

__all__ = [
    "ACCESS_LOGGER",
    "MAX_LOGGED_METHOD",
    "MAX_LOGGED_TARGET",
    "AccessLog",
    "JSONFormatter",
    "LineFormatter",
    "access_log",
    "check",
    "configure",
    "embedded_access_log",
    "escape",
    "flush",
    "format_request",
    "in_background",
    "make_format",
    "word",
]


def check(config: LogConfig) -> None:
    """Find mistakes before anything depends on it; raises ``ConfigurationError``."""
    make_format(config.access_format)
    if config.config_file is not None:
        from .dict_config import read_dict_config  # which needs libraries that most do not

        read_dict_config(config.config_file)
