"""The page that shows what connections do."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option

INSPECTOR_ADDRESS = "127.0.0.1:8943"


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectConfig:
    """The inspector."""

    address: str | None = option(
        None, "inspect", "Development",
        "Show connections, requests and frames on a page at this address, in the clear; "
        f"without one it is {INSPECTOR_ADDRESS}. For one process.",
        metavar="[ADDRESS]", words={"on": INSPECTOR_ADDRESS}, bare="on",
    )  # fmt: skip
