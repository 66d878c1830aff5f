"""``python -m h2asgi.devcerts``: a pair for other programs, and how to have it trusted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigurationError
from . import ca_file, write_pair
from .trust import trust_instructions

_USAGE = """\
Usage: python -m h2asgi.devcerts DIR [NAMES...]

Write ca.pem, cert.pem and key.pem into DIR: a certificate for localhost, 127.0.0.1, ::1,
this machine's name and NAMES.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m h2asgi.devcerts``; give its exit code."""
    try:
        if not arguments or arguments[0].startswith("-"):
            asked = arguments[:1] in (["-h"], ["--help"])
            print(_USAGE + "\n" + trust_instructions(ca_file()), file=None if asked else sys.stderr)
            return 0 if asked else 2
        copies = write_pair(Path(arguments[0]), arguments[1:])
    except ConfigurationError as error:
        print(f"h2asgi: {error}", file=sys.stderr)
        return error.exit_code
    for file in (copies.ca_file, copies.certfile, copies.keyfile):
        print(f"wrote {file}")
    print("\n" + trust_instructions(ca_file()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
