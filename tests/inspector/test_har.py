"""The archive is one that tools read, whatever came of the requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from har_rules import check_har

from h2asgi.inspector.har import archive
from h2asgi.inspector.records import StreamRecord


def stream(**more: Any) -> StreamRecord:
    given: dict[str, Any] = {
        "number": 1, "connection": 3, "stream_id": 5, "protocol": "HTTP/2", "method": "GET",
        "target": "/a?b=c&d", "scheme": "https", "fields": [(":authority", "example.com")],
        "started": 100.0, **more,
    }  # fmt: skip
    return StreamRecord(**given)


def entry(**more: Any) -> dict[str, Any]:
    har = archive([stream(**more)], wall_epoch=1_700_000_000.0, epoch=100.0)
    check_har(json.loads(json.dumps(har)))
    (found,) = har["log"]["entries"]
    return dict(found)


def test_a_finished_request() -> None:
    found = entry(
        request_ended=100.01, responded=100.03, first_octet=100.031, ended=100.1, status=200,
        response_size=7, response_fields=[("content-type", "text/plain"), ("location", "/x")],
    )  # fmt: skip
    assert found["startedDateTime"] == "2023-11-14T22:13:20.000Z"
    assert found["time"] == pytest.approx(100)
    assert found["timings"]["send"] == pytest.approx(10)
    assert found["timings"]["wait"] == pytest.approx(20)
    assert found["timings"]["receive"] == pytest.approx(70)
    assert found["request"]["url"] == "https://example.com/a?b=c&d"
    assert found["request"]["queryString"] == [
        {"name": "b", "value": "c"},
        {"name": "d", "value": ""},
    ]
    assert found["response"]["statusText"] == "OK"
    assert found["response"]["redirectURL"] == "/x"
    assert found["response"]["content"] == {"size": 7, "mimeType": "text/plain"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ended": 100.5, "reset_by": "client", "reset_code": 8},
        {"responded": 100.1, "request_ended": 100.4, "ended": 100.2, "status": 413},
        {"status": 799, "responded": 100.2},
        {"fields": [], "target": "*", "method": "OPTIONS", "protocol": "HTTP/1.1"},
        {"tunnel": "websocket", "status": 200, "responded": 100.1},
    ],
    ids=["in flight", "reset", "answered early", "unknown status", "no host", "websocket"],
)
def test_whatever_came_of_it(more: dict[str, Any]) -> None:
    assert entry(**more)["time"] >= 0


def test_no_requests() -> None:
    check_har(archive([], 0.0, 0.0))
