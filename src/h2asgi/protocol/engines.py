"""Which engines there are, and which one a setting chooses.

``auto`` is the best one that is installed. A native engine that is installed
but cannot be used is passed over, and ``engine_notes`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

from ..config import HTTP1Config, HTTP2Config, WebSocketConfig
from ..errors import ConfigurationError
from .http1.engine import HTTP1Engine
from .http2.engine import HTTP2Engine
from .websocket.codec import Codec


def _load_httptools() -> type[HTTP1Engine]:
    from .http1.httptools_engine import HttptoolsEngine

    return HttptoolsEngine


def _load_h11() -> type[HTTP1Engine]:
    from .http1.h11_engine import H11Engine

    return H11Engine


def _load_ngh2() -> type[HTTP2Engine]:
    from .http2.ngh2_engine import NGH2Engine

    return NGH2Engine


def _load_h2() -> type[HTTP2Engine]:
    from .http2.h2_engine import H2Engine

    return H2Engine


def _load_websockets() -> type[Codec]:
    from .websocket.websockets_codec import WebsocketsCodec

    return WebsocketsCodec


def _load_wsproto() -> type[Codec]:
    from .websocket.wsproto_codec import WsprotoCodec

    return WsprotoCodec


ENGINES: dict[str, dict[str, Callable[[], type[Any]]]] = {
    "http1": {"httptools": _load_httptools, "h11": _load_h11},
    "http2": {"ngh2": _load_ngh2, "h2": _load_h2},
    "ws": {"websockets": _load_websockets, "wsproto": _load_wsproto},
}
"""By protocol: the best one first, the one that is always there last."""


def http1_engine(config: HTTP1Config) -> type[HTTP1Engine]:
    """The engine for HTTP/1.1 connections; raises ConfigurationError if it is not to be had."""
    return cast(type[HTTP1Engine], _choose("http1", config.engine)[0])


def http2_engine(config: HTTP2Config) -> type[HTTP2Engine]:
    """The engine for HTTP/2 connections; raises ConfigurationError if it is not to be had."""
    return cast(type[HTTP2Engine], _choose("http2", config.engine)[0])


def websocket_codec(config: WebSocketConfig) -> type[Codec]:
    """The codec of WebSockets; raises ConfigurationError if it is not to be had."""
    return cast(type[Codec], _choose("ws", config.engine)[0])


def engine_notes(http1: HTTP1Config, http2: HTTP2Config, websocket: WebSocketConfig) -> list[str]:
    """What an operator should know of the choices, a sentence each; raises as they do."""
    notes: list[str] = []
    if http1.enabled:
        notes += _choose("http1", http1.engine)[1]
    if http2.enabled:
        notes += _choose("http2", http2.engine)[1]
    if websocket.enabled:
        notes += _choose("ws", websocket.engine)[1]
    return notes


@cache  # one look for the process: this is asked for every connection
def _choose(protocol: str, choice: str) -> tuple[type[Any], list[str]]:
    notes: list[str] = []
    for name, load in ENGINES[protocol].items():
        if choice not in ("auto", name):
            continue
        try:
            return load(), notes
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            if choice == name:
                why = "" if missing else f" ({error})"
                raise ConfigurationError(
                    f"--{protocol}-engine {name} needs {name}{why}: pip install 'h2asgi[fast]'"
                ) from None
            if not missing:
                notes.append(f"the engine {name} cannot be used: {error}")
    raise AssertionError(choice)
