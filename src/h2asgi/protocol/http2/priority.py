"""The priority of a response (RFC 9218): what the field says, and what follows from it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

URGENCIES: Final = 8
"""From 0, the most urgent, to 7 (section 4.1)."""


MAX_VALUE = 256
"""Octets of a field value that is read: forty times what browsers write. A longer one says nothing,
as a server may ignore any. Reading takes half a microsecond for each member, and a PRIORITY_UPDATE
frame that is full of them would take as long as thousands of other control frames."""


class Priority(NamedTuple):
    """When a response is to be sent. Sorts as its streams go."""

    urgency: int
    incremental: bool


DEFAULT: Final = Priority(3, False)
"""Of a client that speaks of priorities, for what it does not say (sections 4.1 and 4.2)."""

UNSAID: Final = Priority(3, True)
"""Of a request without the field. Section 4 would have it be ``DEFAULT``, and its small answer wait
for every download asked for earlier. Clients that know nothing of priorities expect fair shares."""


class PriorityField(NamedTuple):
    """A ``priority`` field value: what it says, None for what it does not."""

    urgency: int | None
    incremental: bool | None

    def over(self, base: Priority) -> Priority:
        """Give ``base`` with what is said here in its place."""
        urgency, incremental = self
        return Priority(
            base.urgency if urgency is None else urgency,
            base.incremental if incremental is None else incremental,
        )


# RFC 8941 section 3: nothing that is matched is ever given back, so time is linear.
_KEY: Final = rb"[a-z*][a-z0-9_.*-]*+"
_BARE_ITEM: Final = (
    rb"(?>-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"  # decimal, integer
    rb'|"(?>[ !#-\[\]-~]|\\["\\])*+"'  # string
    rb"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"  # token
    rb"|:[A-Za-z0-9+/=]*+:|\?[01])"  # byte sequence, boolean
)
_PARAMETERS: Final = rb"(?>; *+" + _KEY + rb"(?>=" + _BARE_ITEM + rb")?)*+"
_ITEM: Final = _BARE_ITEM + _PARAMETERS
_INNER_LIST: Final = rb"\( *+(?>" + _ITEM + rb"(?> ++|(?=\))))*+\)" + _PARAMETERS
_match_member = re.compile(
    rb"(" + _KEY + rb")(?>=(?>(" + _BARE_ITEM + rb")" + _PARAMETERS + rb"|" + _INNER_LIST + rb")"
    rb"|(" + _PARAMETERS + rb"))"
).match
_match_comma = re.compile(rb"[ \t]*+,[ \t]*+").match
_is_integer = re.compile(rb"-?[0-9]+").fullmatch

_BOOLEANS: Final = {b"?0": False, b"?1": True}
_USUAL: Final = {
    b"u=%d%s" % (urgency, b", i" if incremental else b""): PriorityField(urgency, incremental)
    for urgency in range(URGENCIES)
    for incremental in (None, True)
}
"""As browsers write it, so that it need not be parsed."""


def parse(value: bytes) -> PriorityField | None:
    """Read a field value, a Dictionary; None when it is none (RFC 8941 section 4.2.2), or long.

    What is unknown, out of range or of another type is ignored (RFC 9218 section 4).
    """
    usual = _USUAL.get(value)
    if usual is not None:
        return usual
    if len(value) > MAX_VALUE:
        return None
    members = _members(value.strip(b" "))
    if members is None:
        return None
    urgency = members.get(b"u", b"")
    number = int(urgency) if _is_integer(urgency) else -1
    return PriorityField(
        number if 0 <= number < URGENCIES else None,
        _BOOLEANS.get(members.get(b"i", b"")),
    )


def _members(value: bytes) -> dict[bytes, bytes] | None:
    """The members of a Dictionary as they are written; an empty value for an inner list."""
    members: dict[bytes, bytes] = {}
    position = 0
    while position < len(value):
        member = _match_member(value, position)
        if member is None:
            return None
        key, item, flag = member.groups()
        members[key] = b"?1" if flag is not None else item or b""
        position = member.end()
        if position == len(value):
            return members
        comma = _match_comma(value, position)
        if comma is None or comma.end() == len(value):
            return None
        position = comma.end()
    return members
