"""Compiles what each request goes through, when a wheel is built: see docs/architecture.md.

The modules stay ordinary Python, which an editable install, and a build without a C compiler,
run as they are. ``H2ASGI_COMPILE=0`` leaves them as they are in any case, and with
``H2ASGI_COMPILE=1`` a build fails rather than go without.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILERS = ["mypy[mypyc]>=2.4,<2.5", "setuptools>=70"]
"""What ``build_backend.py`` asks for. mypyc is young: a new minor version is tried before it is
allowed."""


WITHIN_ITSELF = {
    "compile": ["-fno-semantic-interposition", "-fno-plt"],
    "link": ["-Wl,-Bsymbolic-functions"],
}
"""On Linux: functions of the library call each other directly, as nobody replaces any of them."""


def wanted() -> bool:
    """Whether to try."""
    return os.environ.get("H2ASGI_COMPILE") != "0" and (demanded() or has_compiler())


def demanded() -> bool:
    """Whether a build without compiled modules is of no use."""
    return os.environ.get("H2ASGI_COMPILE") == "1"


def has_compiler() -> bool:
    """Whether there is what extensions of this interpreter are compiled with."""
    compiler = (sysconfig.get_config_var("CC") or "").split()
    header = Path(sysconfig.get_path("include"), "Python.h")
    return (
        sys.implementation.name == "cpython"
        and bool(compiler)
        and shutil.which(compiler[0]) is not None
        and header.exists()
    )


def compile_modules(paths: list[str], folder: str) -> list[Path]:
    """Compile modules, named from the root of the project; gives the libraries in ``folder``."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    sources = ["--config-file=", "--ignore-missing-imports", "--python-version=3.11", *paths]
    extensions = mypycify(sources, opt_level="3", debug_level="0", target_dir=f"{folder}/c")
    for extension in extensions:  # a compiler that warns of more than mypyc's own is no failure
        extension.extra_compile_args = [
            option for option in extension.extra_compile_args if option != "-Werror"
        ]
        if sys.platform == "linux":
            extension.extra_compile_args += WITHIN_ITSELF["compile"]
            extension.extra_link_args += WITHIN_ITSELF["link"]
    distribution = Distribution(
        {"name": "h2asgi", "package_dir": {"": "src"}, "ext_modules": extensions}
    )
    command: Any = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = f"{folder}/lib", f"{folder}/temp"
    command.ensure_finalized()
    command.run()
    return [Path(path) for path in command.get_outputs()]


class CompiledModules(BuildHookInterface[Any]):
    """``modules`` in pyproject.toml says which: files, or folders of which all are."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the libraries beside their sources."""
        if version == "editable" or not wanted():
            return
        self._folder = tempfile.mkdtemp()
        try:
            libraries = compile_modules(self._modules(), self._folder)
        except (Exception, SystemExit) as error:
            if demanded():
                raise
            self.app.display_warning(f"h2asgi is installed without compiled modules: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for library in libraries:
            path = library.relative_to(Path(self._folder, "lib"))
            build_data["force_include"][str(library)] = str(path)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Drop what was compiled: it is in the wheel."""
        if folder := getattr(self, "_folder", None):
            shutil.rmtree(folder)

    def _modules(self) -> list[str]:
        excluded = set(self.config["interpreted"])
        return sorted(
            str(path)
            for name in self.config["compiled"]
            for path in sorted(Path(name).rglob("*.py") if Path(name).is_dir() else [Path(name)])
            if str(path) not in excluded and path.name != "__init__.py"
        )
