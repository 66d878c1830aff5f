"""The page of metrics and the dashboard name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from h2asgi.metrics import FAMILIES, Family

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "h2asgi.json").read_text("utf-8"))

SAMPLES: dict[str, Family] = {}
for family in FAMILIES:
    suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
    SAMPLES |= {family.name + suffix: family for suffix in suffixes}

FROM_PROMETHEUS = {"job", "instance"}


def test_the_page_has_a_row_for_each_metric() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `h2asgi_")]
    assert rows == [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)}"
        f" | {family.help} |"
        for family in FAMILIES
    ]


def test_the_page_names_every_label_and_every_value() -> None:
    labels = PAGE.partition("| Label | Values |")[2].partition("\n\n")[0]
    for family in FAMILIES:
        for label in family.labels:
            assert f"\n| `{label}`" in labels
        if family.name not in ("h2asgi_build_info", "h2asgi_stream_resets_total"):
            for value in (value for values in family.values for value in values):
                if not value.isupper():  # codes of RFC 9113
                    assert value in labels


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _expressions() -> Iterator[str]:
    for panel in _panels():
        for target in panel["targets"]:
            yield target["expr"]


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not() -> None:
    names = {name for query in _expressions() for name in re.findall(r"\bh2asgi_\w+", query)}
    assert names <= set(SAMPLES)
    assert {SAMPLES[name].name for name in names} == {family.name for family in FAMILIES}


@pytest.mark.parametrize("query", list(_expressions()))
def test_queries_of_the_dashboard_name_labels_that_exist(query: str) -> None:
    families = [SAMPLES[name] for name in re.findall(r"\bh2asgi_\w+", query)]
    known = FROM_PROMETHEUS.union(*(family.labels for family in families))
    if "_bucket" in query:
        known.add("le")
    named = {
        label.strip()
        for group in re.findall(r"\bby \(([^)]*)\)", query)
        for label in group.split(",")
    }
    named |= set(re.findall(r"(\w+)=~?\"", query))
    assert named <= known
    assert query.count("(") == query.count(")")
    # Whatever is counted is looked at as a rate.
    for name in re.findall(r"\bh2asgi_\w+(?:_total|_bucket|_sum|_count)\b", query):
        assert re.search(rf"\b(rate|increase)\({name}\{{", query)


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Whole panels, of which none lies upon another; legends of labels that the query leaves."""
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        cells |= own
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in _panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"])
