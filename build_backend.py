"""Hatchling, asked for a compiler of Python only where something is compiled: for wheels.

A build hook cannot say so, since it is not told what it is asked for: an editable install
would fetch mypyc, which it does not use.
"""

from __future__ import annotations

from typing import Any

from build_hook import COMPILERS, wanted
from hatchling import build
from hatchling.build import *  # noqa: F403  all that a backend has: PEP 517 and PEP 660


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Give what building a wheel needs besides hatchling (PEP 517)."""
    return [*build.get_requires_for_build_wheel(config_settings), *(COMPILERS if wanted() else [])]
