"""``--log-config``: a file for ``logging.config.dictConfig``, in TOML or JSON."""

from __future__ import annotations

import json
import logging.config
import tomllib
from typing import Any

from ..errors import ConfigurationError
from .escaping import escape


def read_dict_config(path: str) -> dict[str, Any]:
    """Read the file; raises ``ConfigurationError``.

    What it leaves out of ``version`` and ``disable_existing_loggers`` is as one means it: the
    latter would silence every logger that is there already, the server's own among them.
    """
    if not path.endswith((".toml", ".json")):
        raise ConfigurationError(f"--log-config {path!r} must end in .toml or .json")
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file) if path.endswith(".toml") else json.load(file)
    except OSError as error:
        raise ConfigurationError(f"cannot read --log-config {path!r}: {error.strerror}") from None
    except ValueError as error:  # of either, and of octets that are not UTF-8
        kind = "TOML" if path.endswith(".toml") else "JSON"
        raise ConfigurationError(f"--log-config {path!r} is not {kind}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"--log-config {path!r} must be an object with keys")
    return {"version": 1, "disable_existing_loggers": False, **found}


def apply_dict_config(path: str) -> None:
    """Configure ``logging`` by the file; raises ``ConfigurationError``."""
    found = read_dict_config(path)
    try:
        logging.config.dictConfig(found)
    except Exception as error:  # whatever a factory that is named there raises
        said = str(error) if error.__cause__ is None else f"{error}: {error.__cause__}"
        raise ConfigurationError(f"--log-config {path!r}: {escape(said)}") from None
