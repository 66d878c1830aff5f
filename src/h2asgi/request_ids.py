"""The id of a request, which follows it through proxies, application and logs: one header field.

It is taken from a proxy that is believed (``--forwarded-allow-ips``), if it is one word of
harmless characters. Whatever anybody else sends is replaced by an id that is made here, so that
no client chooses what the operator looks for, or the same as somebody else.
"""

from __future__ import annotations

import os
import re

from .asgi.response import DefaultFields
from .errors import ConfigurationError
from .protocol.events import Headers

ID_SIZE = 16
"""Octets of an id that is made here, at random: as many as a UUID or a trace id has."""

_good_id = re.compile(rb"[A-Za-z0-9+/=._:;@~-]{1,128}").fullmatch
"""What UUIDs, base64 and the trace ids of load balancers are made of; AWS's has 75 characters."""

_header_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
"""RFC 9110 section 5.6.2."""

_TAKEN = frozenset(
    (
        *("authorization", "connection", "content-length", "content-type", "cookie", "date"),
        *("expect", "forwarded", "host", "keep-alive", "location", "server", "set-cookie", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    )
)
"""Fields that mean something else, to the protocol or to this server."""


class RequestIDs:
    """Reads and writes the field ``name``; raises ``ConfigurationError`` for one that cannot be."""

    def __init__(self, name: str) -> None:
        if not _header_name(name) or name.lower() in _TAKEN:
            raise ConfigurationError(
                f"--request-id-header must be a header field of its own, such as x-request-id, "
                f"not {name!r}"
            )
        self._name = name.lower().encode("ascii")

    def settle(self, headers: Headers, *, believed: bool) -> Headers:
        """Give the fields of a request with exactly one id, which is last if it is new."""
        name = self._name
        found = [value for field, value in headers if field == name]
        if believed and len(found) == 1 and _good_id(found[0]):
            return headers
        others = [field for field in headers if field[0] != name] if found else headers
        return [*others, self.make()]

    def make(self) -> tuple[bytes, bytes]:
        """Give a field with a new id."""
        return self._name, os.urandom(ID_SIZE).hex().encode("ascii")

    def find(self, headers: Headers) -> tuple[bytes, bytes]:
        """Give the field of a request that was settled, or a new one if it has lost it."""
        for field in reversed(headers):
            if field[0] == self._name:
                return field
        return self.make()

    def once(self, headers: Headers) -> Headers:
        """Give the fields of a response with one id, the application's own if it has set one."""
        name = self._name
        if [field[0] for field in headers].count(name) < 2:
            return headers
        first = next(field for field in headers if field[0] == name)
        return [field for field in headers if field[0] != name or field is first]


class FieldsWithID:
    """Default fields of one response: those of all others, and the id of its request."""

    __slots__ = ("_id", "_of_all")

    def __init__(self, of_all: DefaultFields, id_: tuple[bytes, bytes]) -> None:
        self._of_all = of_all
        self._id = id_

    @property
    def fields(self) -> Headers:
        """See ``asgi.response.DefaultFields``."""
        return [*self._of_all.fields, self._id]

    @fields.setter
    def fields(self, fields: Headers) -> None:
        raise AttributeError("they are made anew for each response")
