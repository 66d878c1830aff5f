"""Which engines there are, and which one a setting chooses."""

from __future__ import annotations

from ..config import HTTP1Config, HTTP2Config
from .http1.h11_engine import H11Engine
from .http2.h2_engine import H2Engine

HTTP1_ENGINES: dict[str, type[H11Engine]] = {"h11": H11Engine}
HTTP2_ENGINES: dict[str, type[H2Engine]] = {"h2": H2Engine}


def http1_engine(config: HTTP1Config) -> type[H11Engine]:
    """The engine for HTTP/1.1 connections; ``auto`` is the best one that is installed."""
    return HTTP1_ENGINES["h11" if config.engine == "auto" else config.engine]


def http2_engine(config: HTTP2Config) -> type[H2Engine]:
    """The engine for HTTP/2 connections; ``auto`` is the best one that is installed."""
    return HTTP2_ENGINES["h2" if config.engine == "auto" else config.engine]
