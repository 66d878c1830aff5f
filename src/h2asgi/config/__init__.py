"""Settings as frozen dataclasses, one per slice; no I/O happens here.

Each field is declared once, by ``option()``: its default, its name on the
command line, its topic and its explanation. The command line, the environment
(``H2ASGI_`` and the name in capitals), the TOML file and the keyword arguments
of ``h2asgi.run()`` are all read off these declarations; see ``options.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .bounds import MAX_HEADER_FIELDS, Limits, Timeouts
from .inspecting import InspectConfig
from .listening import BindConfig, TLSConfig
from .logging import LogConfig
from .metrics import MetricsConfig
from .option import KIB, MIB, option
from .processes import ProcessConfig
from .protocols import HTTP1Config, HTTP2Config, WebSocketConfig
from .proxies import ProxyConfig
from .reloading import ReloadConfig

__all__ = [
    "KIB",
    "MAX_HEADER_FIELDS",
    "MIB",
    "BindConfig",
    "Config",
    "HTTP1Config",
    "HTTP2Config",
    "InspectConfig",
    "Limits",
    "LogConfig",
    "MetricsConfig",
    "ProcessConfig",
    "ProxyConfig",
    "ReloadConfig",
    "TLSConfig",
    "Timeouts",
    "WebSocketConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings as a frozen dataclass, with one dataclass for each slice."""

    # Below server.py a part is handed only the slice it needs.

    app: str | Callable[..., Any] = ""
    factory: bool = option(
        False, "factory", "Application", "APP is a function that returns the application."
    )
    interface: Literal["asgi", "wsgi"] = option(
        "asgi", "interface", "Application",
        "What APP is; wsgi needs a2wsgi and runs each request in a thread.",
    )  # fmt: skip
    wsgi_threads: int = option(
        40, "wsgi-threads", "Application",
        "Requests that a WSGI application works on at a time, in each process.", minimum=1,
    )  # fmt: skip
    app_dir: str = option(
        ".", "app-dir", "Application", "Folder to import APP from.", metavar="DIR"
    )
    root_path: str = option(
        "", "root-path", "Application", "Prefix that a proxy in front serves the application under."
    )
    lifespan: Literal["auto", "on", "off"] = option(
        "auto", "lifespan", "Application",
        "Whether to run the application's lifespan; auto goes on when it has none.",
    )  # fmt: skip
    gc_tuning: bool = option(
        True, "gc-tuning", "Application",
        "Make garbage collection rare, and leave out what lives when the application has started.",
    )  # fmt: skip
    loop: Literal["auto", "asyncio", "uvloop"] = option(
        "auto", "loop", "Protocols", "Event loop; auto takes uvloop when it is installed."
    )
    workers: int = option(
        1, "workers", "Processes",
        "Processes that share the listening sockets, each with an application of its own; "
        "auto is one for each usable core.",
        minimum=0, words={"auto": 0},
    )  # fmt: skip
    server_header: bool = option(
        True, "server-header", "Protocols", "Send a server field with responses."
    )
    date_header: bool = option(
        True, "date-header", "Protocols", "Send a date field with responses."
    )
    processes: ProcessConfig = field(default_factory=ProcessConfig)
    reload: ReloadConfig = field(default_factory=ReloadConfig)
    bind: BindConfig = field(default_factory=BindConfig)
    tls: TLSConfig = field(default_factory=TLSConfig)
    proxies: ProxyConfig = field(default_factory=ProxyConfig)
    http1: HTTP1Config = field(default_factory=HTTP1Config)
    http2: HTTP2Config = field(default_factory=HTTP2Config)
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    log: LogConfig = field(default_factory=LogConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
