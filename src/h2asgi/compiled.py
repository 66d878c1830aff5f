"""What the compiled build is told of classes; to the interpreter it means nothing.

``build_hook.py`` compiles the modules that each request goes through, with mypyc, where a C
compiler is to be had. ``mypyc_attr`` is mypyc's own mark, without a dependency on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_):
        """Leave the class as it is."""
        return lambda kind: kind


__all__ = ["mypyc_attr"]
