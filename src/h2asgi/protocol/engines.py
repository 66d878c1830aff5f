"""Which engines there are, and which one a setting chooses."""

from __future__ import annotations

from functools import cache

from ..config import HTTP1Config, HTTP2Config
from ..errors import ConfigurationError
from .http1.engine import HTTP1Engine
from .http1.h11_engine import H11Engine
from .http2.h2_engine import H2Engine

HTTP2_ENGINES: dict[str, type[H2Engine]] = {"h2": H2Engine}


def http1_engine(config: HTTP1Config) -> type[HTTP1Engine]:
    """The engine for HTTP/1.1 connections; ``auto`` is the best one that is installed.

    Raises ``ConfigurationError`` when the one that was asked for is not installed.
    """
    if config.engine == "h11":
        return H11Engine
    native = _httptools_engine()
    if native is not None:
        return native
    if config.engine == "httptools":
        raise ConfigurationError(
            "--http1-engine httptools needs httptools: pip install 'h2asgi[fast]'"
        )
    return H11Engine


@cache  # one look for the process: this is asked for every connection
def _httptools_engine() -> type[HTTP1Engine] | None:
    try:
        from .http1.httptools_engine import HttptoolsEngine
    except ImportError:
        return None
    return HttptoolsEngine


def http2_engine(config: HTTP2Config) -> type[H2Engine]:
    """The engine for HTTP/2 connections; ``auto`` is the best one that is installed."""
    return HTTP2_ENGINES["h2" if config.engine == "auto" else config.engine]
