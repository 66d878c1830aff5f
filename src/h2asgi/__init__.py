"""h2asgi: an ASGI server whose first protocol is HTTP/2 over TLS.

``run()`` is the command in a function, ``serve()`` and ``Server`` live in an
event loop of yours, ``make_config()`` gives the ``Config`` they take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .config import Config
    from .entry import run
    from .options import make_config
    from .server import Server, serve

__all__ = ["Config", "Server", "__version__", "make_config", "run", "serve"]

_HOMES = {
    "Config": "config",
    "Server": "server",
    "make_config": "options",
    "run": "entry",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use: the import of the package alone is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
