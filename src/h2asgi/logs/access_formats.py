"""What a line of the access log looks like: the default, ``combined``, ``json`` or an own format.

An own format is text with fields in braces, such as ``{client} "{method} {target}" {status}``.
``FIELDS`` has them all; it becomes a list of functions at the start, and an unknown name an
operator's mistake. Whatever a peer sends comes out as visible ASCII.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NoReturn, Protocol

from ..errors import ConfigurationError
from ..trace import RequestRecord
from .escaping import quotable, word

MAX_LOGGED_TARGET = 8000
"""Octets of a target that a line shows: as much as RFC 9112 section 3 asks every server to take.
Longer ones are cut, since a client that sends nothing else would fill the disk."""

MAX_LOGGED_METHOD = 32
"""Octets of a method: the longest that is registered has 17 (RFC 9110 section 16.1.1)."""

MAX_LOGGED_HEADER = 1000
"""Octets of a header field: five times what browsers say of themselves."""

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"
COMMON_TIME_FORMAT = "%d/%b/%Y:%H:%M:%S %z"

COMBINED = (
    '{client_host} - - [{time_common}] "{method} {target} {protocol}" {status} {size}'
    ' "{header:referer}" "{header:user-agent}"'
)
"""As Apache writes it, but for what a peer sends: it is escaped by the rules of this server."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"))

Field = Callable[[RequestRecord], str]


class Format(Protocol):
    """Writes the requests of one turn of the loop, each as a line of ASCII."""

    def lines(self, records: list[RequestRecord]) -> list[str]:
        """Give the lines, without their ends."""


def make_format(text: str, *, timestamps: bool = True) -> Format:
    """Give the format that ``--access-log-format`` names; raises ``ConfigurationError``.

    Without ``timestamps`` the default has none, since ``logging`` adds its own.
    """
    if text == "default":
        return DefaultFormat(timestamps=timestamps)
    if text == "json":
        return JSONFormat()
    return FieldsFormat(COMBINED if text == "combined" else text)


class _Clock:
    """The local time as text, made once a second."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._second = 0
        self._text = ""

    def text(self) -> str:
        """Give the time."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            local = time.localtime(now)
            # The month is English whatever the locale of the application is.
            pattern = self._pattern.replace("%b", _MONTHS[local.tm_mon - 1])
            self._text = time.strftime(pattern, local)
        return self._text


class DefaultFormat:
    """For instance::

    2026-01-31T12:00:00+0000 192.0.2.7:50123 "GET /?q=1 HTTP/2" 200 5120 1.4ms
    """

    def __init__(self, *, timestamps: bool) -> None:
        self._clock = _Clock(TIME_FORMAT + " ") if timestamps else None

    def lines(self, records: list[RequestRecord]) -> list[str]:
        """See ``Format``."""
        now = "" if self._clock is None else self._clock.text()
        return [now + format_request(record) for record in records]


def format_request(record: RequestRecord) -> str:
    """Write client, request line, status, octets of body and milliseconds, in ASCII."""
    method, target = record.method, word(record.target, MAX_LOGGED_TARGET)
    if method not in _KNOWN_METHODS:
        method = _method(record)
    return (
        f'{_address(record.client)} "{method} {target} HTTP/{record.http_version}" '
        f"{record.status or '-'} {record.body_size} {record.duration * 1000:.1f}ms"
    )


@lru_cache(maxsize=1024)  # a client sends many requests; some hundred octets each
def _address(client: tuple[str, int] | None) -> str:
    if client is None:
        return "-"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _method(record: RequestRecord) -> str:
    return word(record.method.encode("utf-8", "surrogatepass"), MAX_LOGGED_METHOD)


def _path(record: RequestRecord) -> bytes:
    return record.target.partition(b"?")[0]


def _header(record: RequestRecord, name: bytes) -> bytes | None:
    """Give the value of a field of the request; of several the last, behind which nobody wrote."""
    for found, value in reversed(record.headers):
        if found == name:
            return value
    return None


# JSON.

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def utc_time(now: float) -> str:
    """Write a time as RFC 3339 does, with milliseconds."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


class JSONFormat:
    """An object for each request, always with the same keys; null is what is not known."""

    def lines(self, records: list[RequestRecord]) -> list[str]:
        """See ``Format``."""
        now = utc_time(time.time())
        return [_encode(_request_object(record, now)) for record in records]


def _request_object(record: RequestRecord, now: str) -> dict[str, object]:
    method = record.method.encode("utf-8", "backslashreplace")
    return {
        "time": now,
        "client": None if record.client is None else _address(record.client),
        "method": _text(method, MAX_LOGGED_METHOD),
        "target": _text(record.target, MAX_LOGGED_TARGET),
        "protocol": f"HTTP/{record.http_version}",
        "status": record.status or None,
        "size": record.body_size,
        "milliseconds": round(record.duration * 1000, 3),
        "host": _text(_header(record, b"host"), MAX_LOGGED_HEADER),
        "referer": _text(_header(record, b"referer"), MAX_LOGGED_HEADER),
        "user_agent": _text(_header(record, b"user-agent"), MAX_LOGGED_HEADER),
        "connection": record.connection,
        "stream": record.stream_id,
        "request_id": record.request_id or None,
        "process": os.getpid(),
    }


def _text(octets: bytes | None, limit: int) -> str | None:
    if octets is None:
        return None
    if len(octets) > limit:
        octets = octets[:limit] + b"..."
    return octets.decode("utf-8", "backslashreplace")


# Own formats.

FIELDS: dict[str, Field] = {
    "client": lambda record: _address(record.client),
    "client_host": lambda record: "-" if record.client is None else record.client[0],
    "client_port": lambda record: "-" if record.client is None else str(record.client[1]),
    "method": _method,
    "target": lambda record: word(record.target, MAX_LOGGED_TARGET),
    "path": lambda record: word(_path(record), MAX_LOGGED_TARGET),
    "query": lambda record: word(record.target.partition(b"?")[2], MAX_LOGGED_TARGET) or "-",
    "protocol": lambda record: f"HTTP/{record.http_version}",
    "status": lambda record: str(record.status or "-"),
    "size": lambda record: str(record.body_size),
    "milliseconds": lambda record: f"{record.duration * 1000:.1f}",
    "seconds": lambda record: f"{record.duration:.6f}",
    "connection": lambda record: str(record.connection),
    "stream": lambda record: str(record.stream_id),
    "request_id": lambda record: record.request_id or "-",
    "process": lambda record: str(os.getpid()),
}
"""Fields by name. Besides there are ``time``, ``time_common``, ``time_utc`` and ``header:NAME``."""

_TIMES = ("time", "time_common", "time_utc")
_part = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_header_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


class FieldsFormat:
    """An own format; raises ``ConfigurationError`` for one that makes no sense.

    Between double quotes spaces in a header field stay as they are, elsewhere they are
    escaped: so a client can add no fields to a line.
    """

    def __init__(self, text: str) -> None:
        self._now = 0.0
        self._fields: list[Field] = []
        if not text.replace("\t", "").isprintable():
            raise ConfigurationError("--access-log-format must be one line, without control codes")
        pattern, quoted = "", False
        for found in _part.finditer(text):
            part, name = found[0], found[1]
            if name is not None:
                self._fields.append(self._field(name, quoted=quoted))
                pattern += "%s"
            elif part in ("{", "}"):
                raise ConfigurationError(
                    f"--access-log-format has a single {part}: write {part * 2} for the brace "
                    "itself, or {name} for a field"
                )
            else:
                quoted ^= bool(part.count('"') % 2)
                pattern += {"{{": "{", "}}": "}"}.get(part, part).replace("%", "%%")
        if not self._fields:
            raise ConfigurationError(
                f"--access-log-format {text!r} has no field: choose default, combined or json, or "
                "write fields such as {client} and {status}"
            )
        self._pattern = pattern

    def _field(self, name: str, *, quoted: bool) -> Field:
        kind, _, rest = name.partition(":")
        if kind == "header" and _header_name(rest):
            return _header_field(rest.lower().encode("ascii"), quotable if quoted else word)
        if name == "time_utc":
            return lambda _: utc_time(self._now)
        if name in _TIMES:
            clock = _Clock(TIME_FORMAT if name == "time" else COMMON_TIME_FORMAT)
            return lambda _: clock.text()
        if name not in FIELDS:
            _unknown_field(name)
        return FIELDS[name]

    def lines(self, records: list[RequestRecord]) -> list[str]:
        """See ``Format``."""
        self._now = time.time()
        pattern, fields = self._pattern, self._fields
        return [pattern % tuple([field(record) for field in fields]) for record in records]


def _header_field(name: bytes, write: Callable[[bytes, int], str]) -> Field:
    def field(record: RequestRecord) -> str:
        value = _header(record, name)
        return "-" if value is None else write(value, MAX_LOGGED_HEADER)

    return field


def _unknown_field(name: str) -> NoReturn:
    known = ", ".join((*_TIMES, *FIELDS, "header:NAME"))
    raise ConfigurationError(f"--access-log-format has no field {{{name}}}: there are {known}")
