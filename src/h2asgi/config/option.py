"""How one setting is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

KIB = 1024
MIB = 1024 * KIB


def option(
    default: Any,
    name: str,
    topic: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    metavar: str | None = None,
    separator: str = ",",
    words: Mapping[str, object] | None = None,
    bare: str | None = None,
) -> Any:
    """Declare one setting. ``name`` is the command-line name without its dashes.

    ``separator`` stands between values of a repeatable setting in the environment,
    ``words`` are texts that stand for a value, and ``bare`` is the one that the name alone,
    without a value, stands for on the command line.
    """
    metadata = {
        "name": name,
        "topic": topic,
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "metavar": metavar,
        "separator": separator,
        "words": words or {},
        "bare": bare,
    }
    return field(default=default, metadata=metadata)
