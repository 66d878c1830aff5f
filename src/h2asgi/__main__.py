"""``python -m h2asgi`` is ``h2asgi``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
