"""h2asgi: an ASGI server whose first protocol is HTTP/2 over TLS."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
