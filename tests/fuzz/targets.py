"""The harnesses, ``fuzz_NAME.py`` with ``check(octets)`` each, and their corpora.

An invariant stands at the top of its harness. A corpus is a file of Python's bytes literals, one
input a line.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("http2", "http1", "headers", "websocket", "handshake", "proxy", "forwarded")

PROTOCOL = FOLDER.parent / "protocol"
PEERS = [PROTOCOL, *(PROTOCOL / name for name in ("http1", "http2", "websocket"))]
sys.path += map(str, [FOLDER, *PEERS])


def load(name: str) -> Callable[[bytes], None]:
    """Give what checks one input; raises ImportError where a native library is missing."""
    check: Callable[[bytes], None] = importlib.import_module(f"fuzz_{name}").check
    return check


def corpus(name: str) -> list[bytes]:
    lines = (FOLDER / "corpus" / f"{name}.txt").read_text("ascii").splitlines()
    return [ast.literal_eval(line) for line in lines]
