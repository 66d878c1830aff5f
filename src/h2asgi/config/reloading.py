"""Starting anew when files change, for development."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadConfig:
    """Whether the application is started anew when files change, and which ones."""

    enabled: bool = option(
        False, "reload", "Development",
        "Start the application anew when its files change. For development, with one process.",
    )  # fmt: skip
    folders: tuple[str, ...] = option(
        (), "reload-dir", "Development",
        "Folder to watch, with all that is in it. Repeatable. [default: that of --app-dir]",
        metavar="DIR",
    )  # fmt: skip
    includes: tuple[str, ...] = option(
        (), "reload-include", "Development",
        "Pattern of further files to watch, or of folders, such as *.html or templates; *.py is "
        "watched anyway. Repeatable.",
        metavar="PATTERN",
    )  # fmt: skip
    excludes: tuple[str, ...] = option(
        (), "reload-exclude", "Development",
        "Pattern of files or folders not to watch, besides those that begin with a dot, "
        "__pycache__, node_modules and site-packages. Repeatable.",
        metavar="PATTERN",
    )  # fmt: skip
