"""Requests as an HTTP Archive, version 1.2, which browsers and other tools read.

Contents of bodies are not in it, nor what ``masking`` leaves out. What HAR has no word for is in
fields whose names begin with ``_``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from .._version import __version__
from .masking import Fields
from .records import StreamRecord


def archive(streams: Iterable[StreamRecord], wall_epoch: float, epoch: float) -> dict[str, Any]:
    """Give the archive; ``wall_epoch`` is the time of day, in seconds, at ``epoch``."""
    offset = wall_epoch - epoch
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "h2asgi inspector", "version": __version__},
            "entries": [_entry(stream, offset) for stream in streams],
        }
    }


def _entry(stream: StreamRecord, offset: float) -> dict[str, Any]:
    timings = _timings(stream)
    started = datetime.fromtimestamp(stream.started + offset, UTC)
    return {
        "startedDateTime": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "time": round(sum(time for time in timings.values() if time > 0), 3),
        "request": _request(stream),
        "response": _response(stream),
        "cache": {},
        "timings": timings,
        "connection": str(stream.connection),
        "_streamId": stream.stream_id,
        "_resetBy": stream.reset_by or None,
        "_resetCode": stream.reset_code if stream.reset_by else None,
        "_webSocketMessages": [stream.messages_in, stream.messages_out] if stream.tunnel else None,
    }


def _timings(stream: StreamRecord) -> dict[str, float]:
    """Milliseconds; -1 says that a server cannot know, or that it has not come to that."""
    sent = stream.request_ended if stream.request_ended is not None else stream.started
    responded = stream.responded
    if responded is not None:
        sent = min(sent, responded)  # an answer may come ahead of its request's end
    ended = stream.ended
    wait_until = responded if responded is not None else ended
    wait = 0.0 if wait_until is None else max(wait_until - sent, 0.0)
    receive = 0.0
    if responded is not None and ended is not None:
        receive = max(ended - responded, 0.0)
    return {
        "blocked": -1,
        "dns": -1,
        "connect": -1,
        "ssl": -1,
        "send": round((sent - stream.started) * 1000, 3),
        "wait": round(wait * 1000, 3),
        "receive": round(receive * 1000, 3),
    }


def _request(stream: StreamRecord) -> dict[str, Any]:
    fields = dict(stream.fields)
    authority = fields.get(":authority") or fields.get("host") or "unknown.invalid"
    query = stream.target.partition("?")[2]
    return {
        "method": stream.method,
        "url": f"{stream.scheme}://{authority}{stream.target}",
        "httpVersion": stream.protocol,
        "cookies": [],
        "headers": _headers(stream.fields),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(query, keep_blank_values=True)
        ],
        "headersSize": -1,
        "bodySize": stream.request_size,
    }


def _response(stream: StreamRecord) -> dict[str, Any]:
    fields = dict(stream.response_fields)
    known = stream.status in HTTPStatus._value2member_map_
    return {
        "status": stream.status,
        "statusText": HTTPStatus(stream.status).phrase if known else "",
        "httpVersion": stream.protocol,
        "cookies": [],
        "headers": _headers(stream.response_fields),
        "content": {
            "size": stream.response_size,
            "mimeType": fields.get("content-type", "x-unknown"),
        },
        "redirectURL": fields.get("location", ""),
        "headersSize": -1,
        "bodySize": stream.response_size,
    }


def _headers(section: Fields) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in section]
