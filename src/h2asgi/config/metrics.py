"""What those who watch are told."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Metrics."""

    address: str | None = option(
        None, "metrics", "Metrics",
        "A further address, in the clear, that answers /metrics in the format of Prometheus; it "
        "may be that of --health-bind.",
        metavar="ADDRESS",
    )  # fmt: skip
