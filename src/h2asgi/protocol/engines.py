"""Which engines there are, and which one a setting chooses.

``auto`` is the best one that is installed. A native engine that is installed
but cannot be used is passed over, and ``engine_notes`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..config import HTTP1Config, HTTP2Config
from ..errors import ConfigurationError
from .http1.h11_engine import H11Engine
from .http2.engine import HTTP2Engine
from .http2.h2_engine import H2Engine

HTTP1_ENGINES: dict[str, type[H11Engine]] = {"h11": H11Engine}


def _load_ngh2() -> type[HTTP2Engine]:
    from .http2.ngh2_engine import NGH2Engine

    return NGH2Engine


HTTP2_ENGINES: dict[str, Callable[[], type[HTTP2Engine]]] = {
    "ngh2": _load_ngh2,
    "h2": lambda: H2Engine,
}
"""The best one first, the one that is always there last."""


def http1_engine(config: HTTP1Config) -> type[H11Engine]:
    """The engine for HTTP/1.1 connections; ``auto`` is the best one that is installed."""
    return HTTP1_ENGINES["h11" if config.engine == "auto" else config.engine]


def http2_engine(config: HTTP2Config) -> type[HTTP2Engine]:
    """The engine for HTTP/2 connections; raises ConfigurationError if it is not to be had."""
    return _choose_http2(config.engine)[0]


def engine_notes(http2: HTTP2Config) -> list[str]:
    """What an operator should know of the choice, a sentence each."""
    return _choose_http2(http2.engine)[1] if http2.enabled else []


@cache
def _choose_http2(choice: str) -> tuple[type[HTTP2Engine], list[str]]:
    notes: list[str] = []
    for name, load in HTTP2_ENGINES.items():
        if choice not in ("auto", name):
            continue
        try:
            return load(), notes
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            if choice == name:
                why = "" if missing else f" ({error})"
                raise ConfigurationError(
                    f"--http2-engine {name} needs {name}{why}: pip install 'h2asgi[fast]'"
                ) from None
            if not missing:
                notes.append(f"the HTTP/2 engine {name} cannot be used: {error}")
    raise AssertionError(choice)
