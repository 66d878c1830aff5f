"""One harness under atheris: ``python tests/fuzz/instrumented.py TARGET [libFuzzer's options]``."""

from __future__ import annotations

import sys

import atheris
import targets

OBSERVED = ["h2asgi", "h2", "hpack", "h11", "wsproto", "websockets.frames"]

if __name__ == "__main__":
    with atheris.instrument_imports(include=OBSERVED):
        check = targets.load(sys.argv.pop(1))
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
