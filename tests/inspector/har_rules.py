"""What a HAR 1.2 file has to have, as its specification says."""

from __future__ import annotations

import re
from typing import Any

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z").fullmatch
TIMINGS = ("blocked", "dns", "connect", "send", "wait", "receive", "ssl")


def check_har(archive: dict[str, Any]) -> None:
    log = archive["log"]
    assert log["version"] == "1.2"
    assert set(log["creator"]) == {"name", "version"}
    for entry in log["entries"]:
        check_entry(entry)


def check_entry(entry: dict[str, Any]) -> None:
    assert TIME(entry["startedDateTime"])
    assert isinstance(entry["cache"], dict)
    assert isinstance(entry["connection"], str)
    timings = entry["timings"]
    assert set(timings) == set(TIMINGS)
    for name in ("send", "wait", "receive"):
        assert timings[name] >= 0, "these three have no -1"
    known = sum(timings[name] for name in TIMINGS if name != "ssl" and timings[name] >= 0)
    assert abs(entry["time"] - known) < 0.01
    request, response = entry["request"], entry["response"]
    for name in ("method", "url", "httpVersion"):
        assert isinstance(request[name], str)
        assert request[name]
    for message in (request, response):
        assert isinstance(message["cookies"], list)
        assert isinstance(message["headersSize"], int)
        assert isinstance(message["bodySize"], int)
        for field in message["headers"]:
            assert set(field) == {"name", "value"}
    for parameter in request["queryString"]:
        assert set(parameter) == {"name", "value"}
    assert isinstance(response["status"], int)
    assert isinstance(response["statusText"], str)
    assert isinstance(response["redirectURL"], str)
    assert isinstance(response["content"]["size"], int)
    assert isinstance(response["content"]["mimeType"], str)
