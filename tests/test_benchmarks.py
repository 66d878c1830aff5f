"""The benchmarks' own arithmetic: what h2load says, and what the page makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import codecs, engines, plot, report
from benchmarks.cells import all_cells, beside_the_longest, latencies
from benchmarks.load import Exchange, parse, parse_log
from benchmarks.results import Results
from benchmarks.targets import TARGETS, Target, best_rival, judge

OUTPUT = """
finished in 429.50ms, 3493.39 req/s, 233.15MB/s
requests: 20 total, 20 started, 19 done, 17 succeeded, 3 failed, 1 errored, 0 timeout
status codes: 17 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 2.66KB (2720) total, 1.76KB (1800) headers (space savings 0.00%), 260B (260) data
"""


def test_what_h2load_says() -> None:
    outcome = parse(OUTPUT)
    assert (outcome.requests, outcome.succeeded, outcome.failed) == (20, 17, 3)
    assert outcome.data == 260
    assert outcome.rate == pytest.approx(17 / 0.4295)


def test_an_answer_without_reason_phrase_is_not_a_failure() -> None:
    output = OUTPUT.replace("17 2xx, 0 3xx, 1 4xx", "0 2xx, 0 3xx, 0 4xx")
    output = output.replace("17 succeeded", "0 succeeded").replace("1 errored", "0 errored")
    assert parse(output).succeeded == 19


def test_h2load_that_could_not_run() -> None:
    with pytest.raises(ValueError, match="no such file"):
        parse("no such file")


def test_failed_requests_have_no_latency() -> None:
    assert parse_log("10\t200\t5\n20\t-1\t7\n") == [Exchange(10, 5)]


def test_percentiles() -> None:
    assert latencies(list(range(200))) == {"p50": 100.0, "p99": 198.0}
    assert latencies([]) == {}


def test_only_what_ended_before_the_download_is_beside_it() -> None:
    big = Exchange(0, 100)
    early, late = Exchange(10, 20), Exchange(95, 10)
    assert beside_the_longest([big, early, late]) == ([early], big)


def results_of(path: Path, **cells: dict[str, list[dict[str, float]]]) -> Results:
    results = Results(path / "results.json")
    entry: dict[str, Any] = {"version": "1", "python": "", "date": "2000-01-01", "peak_mib": 1.0}
    for cell, servers in cells.items():
        for server, rounds in servers.items():
            results.put(cell.replace("_", " "), server, entry | {"rounds": rounds})
    return results


HELLO = {
    "h2asgi": [{"rate": 90.0, "cpu": 5.0}, {"rate": 300.0, "cpu": 9.0}, {"rate": 260.0, "cpu": 8}],
    "granian": [{"rate": 200.0, "cpu": 16.0, "failed": 3.0, "requests": 9.0}],
    "h2corn": [{"rate": 190.0, "cpu": 2.0}],
    "nginx": [{"rate": 1000.0, "cpu": 1.0}],
}


def test_a_rate_is_compared_with_the_best_rival_and_cpu_with_the_same_rival(tmp_path: Path) -> None:
    results = results_of(tmp_path, hello_h2=HELLO)
    assert best_rival(results, "hello h2", "cpu") == "granian"
    rate = judge(results, Target("", "hello h2", "rate", 1.3, 1.5))
    cpu = judge(results, Target("", "hello h2", "cpu", 0.4))
    limit = judge(results, Target("", "hello h2", "rate", 0.2, 0.25, against="nginx"))
    assert rate is not None
    assert cpu is not None
    assert limit is not None
    assert (rate.figure, rate.text) == (1.3, "met")
    assert (cpu.figure, cpu.text) == (0.5, "missed")
    assert limit.text == "goal"


def test_what_was_not_measured_has_no_verdict(tmp_path: Path) -> None:
    results = results_of(tmp_path, hello_h2={"h2asgi": [{"rate": 1.0}]})
    assert judge(results, Target("", "hello h2", "rate", 1.3)) is None
    assert judge(results, Target("", "idle", "idle_kib", 32, against="")) is None


def test_the_page_has_medians_targets_and_failures(tmp_path: Path) -> None:
    results = results_of(tmp_path, hello_h2=HELLO)
    results.put("1x1 h2", "daphne", {"note": "no | answer", "version": "", "date": "2000-01-02"})
    results.cells["1x1 h2"]["daphne"]["python"] = ""
    page = report.page(results)
    assert "| hello, HTTP/2 over TLS | **260** | 200 | 190 | 1,000 |" in page
    assert "granian: 3 of 9 requests failed" in page
    assert "daphne: no / answer" in page
    assert "| granian | ≥ 1.3 | 1.5 | 1.30 | met |" in page


def test_the_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    assert report.page(Results(tmp_path / "none.json")).startswith("# Benchmarks")


def test_the_plot_is_xml_and_has_a_bar_for_each_server(tmp_path: Path) -> None:
    tree = ElementTree.fromstring(plot.svg(results_of(tmp_path, hello_h2=HELLO)))
    assert len(tree.findall("{http://www.w3.org/2000/svg}rect")) == len(HELLO)


def test_results_are_merged_by_cell_and_server(tmp_path: Path) -> None:
    results = results_of(tmp_path, hello_h2=HELLO)
    results.save()
    again = Results(results.path)
    again.put("hello h2", "granian", {"rounds": [{"rate": 1.0}]})
    again.save()
    cells = json.loads(results.path.read_text())["cells"]
    assert cells["hello h2"]["granian"]["rounds"] == [{"rate": 1.0}]
    assert cells["hello h2"]["h2asgi"]["rounds"] == HELLO["h2asgi"]


def test_every_cell_is_in_the_page_and_every_target_is_measured() -> None:
    names = {cell.name for cell in all_cells()}
    assert {target.cell for target in TARGETS} <= names
    assert set(plot.CELLS) <= set(report.ROWS)
    assert names == {*report.ROWS, *report.LATENCY_ROWS, "start", "idle"}


@pytest.mark.parametrize("work", engines.WORKS, ids=lambda work: work.name)
def test_every_engine_answers_what_the_benchmark_sends(work: engines.Work) -> None:
    for _, make, client in engines.engines():
        server = engines.Server(make(), work)
        for request in client(work, 2):
            server.receive(memoryview(request))
        assert server.answered == 2
        assert server.sent > 2 * work.answered


@pytest.mark.parametrize("compress", [False, True])
def test_every_codec_echoes_what_the_benchmark_sends(compress: bool) -> None:
    for kind in codecs.codecs():
        assert codecs.microseconds(kind, 70_000, 2, compress, 1) > 0
