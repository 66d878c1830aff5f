"""The ASGI side knows no protocol library, nor the engines."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import h2asgi.asgi.http, h2asgi.asgi.scope
known = {"h2", "hpack", "h11", "wsproto", "ngh2", "httptools"}
print([m for m in sys.modules if m.split(".")[0] in known or m.startswith("h2asgi.protocol")])
"""


def test_asgi_imports_neither_protocol_nor_its_libraries():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
