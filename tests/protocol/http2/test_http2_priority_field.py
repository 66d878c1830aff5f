"""RFC 9218 section 4: what a priority field value says, and what it does not."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.protocol.http2.priority import (
    DEFAULT,
    MAX_VALUE,
    UNSAID,
    Priority,
    PriorityField,
    _members,
    parse,
)

SAID = {
    b"u=0": (0, None),
    b"u=7": (7, None),
    b"i": (None, True),
    b"u=5, i": (5, True),
    b"i,u=5": (5, True),
    b"u=1 \t,\t i": (1, True),
    b"  u=2  ": (2, None),
    b'u=1;why="news, a=(b";x, i;y=1.5': (1, True),
    b"i=?0": (None, False),
    b"i=?1": (None, True),
    b"u=007": (7, None),
    b"u=1, u=2": (2, None),
    b"u=1, visible, u=3": (3, None),
    b'new=(1 "two" :AAA=:;p), u=4, *other.thing-1="\\"quoted\\""': (4, None),
    b"new=(), u=4": (4, None),
    b"new=( a  b ), u=4": (4, None),
}
"""Dictionaries, with what they say of urgency and incremental."""

IGNORED = [
    *[b"u=8", b"u=-1", b"u=99999", b"u=1.0", b"u=high", b'u="1"', b"u", b"u=?1", b"u=(1)"],
    *[b"i=1", b"i=true", b'i="?1"', b"i=(?1)", b"i=:AQ==:", b"", b"  ", b"U1=2".lower()],
    *[b"u=1, u=8", b"i, i=1"],
]
"""Dictionaries in which these two are out of range, of another type or missing."""

BROKEN = [
    *[b"U=1", b"u=", b"u =1", b"u= 1", b"u=1,", b",u=1", b"u=1 i", b"u=1;", b"u=1, ,i", b"u=1;I"],
    *[
        b'x="open',
        b"x=(1 2",
        b"x=(1,2)",
        b"x=:A-:",
        b"x=?2",
        b"u=1\x00",
        b"u=1\xff",
        b"=1",
        b"u==1",
    ],
    *[
        b"x=1234567890123456",
        b"x=1.2345",
        b"x=-",
        b'x="\t"',
        b"u=1\n",
        b"\tu=1",
        b"x=((1))",
        b"x=1.",
    ],
]


@pytest.mark.parametrize("value", SAID)
def test_what_is_said(value: bytes) -> None:
    assert parse(value) == PriorityField(*SAID[value])


@pytest.mark.parametrize("value", IGNORED)
def test_values_that_do_not_fit_are_ignored(value: bytes) -> None:
    assert parse(value) == PriorityField(None, None)


@pytest.mark.parametrize("value", BROKEN)
def test_what_is_no_dictionary_says_nothing(value: bytes) -> None:
    assert parse(value) is None


def test_a_bad_value_leaves_the_other_alone() -> None:
    assert parse(b"u=9, i") == PriorityField(None, True)
    assert parse(b"u=1, i=2") == PriorityField(1, None)


def test_what_is_not_said_stays() -> None:
    assert PriorityField(None, None).over(DEFAULT) == Priority(3, False)
    assert PriorityField(None, None).over(UNSAID) == Priority(3, True)
    assert PriorityField(1, None).over(Priority(5, True)) == Priority(1, True)
    assert PriorityField(None, False).over(Priority(5, True)) == Priority(5, False)


def test_long_values_take_no_longer_than_their_length() -> None:
    """Nothing is tried twice: these would never end otherwise."""
    for start, piece in [(b"x=(", b"a "), (b"x=(", b'"" '), (b"x", b";a=1"), (b"", b"a=(b c);d,")]:
        assert _members(start + piece * 6_000 + b"\x00") is None


def test_values_that_are_too_long_to_be_honest_say_nothing() -> None:
    """They are not even read: that would take a microsecond for each member."""
    shortest = b"u=1, " + b"a," * (MAX_VALUE // 2)
    assert parse(shortest[:MAX_VALUE].rstrip(b",")) == PriorityField(1, None)
    assert parse(b"u=1" + b" " * (MAX_VALUE - 2)) is None
    calls = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        assert parse(b"u=1, " + b"a," * 8_000 + b"a") is None
    finally:
        sys.setprofile(None)
    assert calls < 10


@given(st.binary(max_size=40) | st.text('ui=?01,; ()"\\:.a9-*', max_size=20).map(str.encode))
def test_noise_is_read_or_refused(value: bytes) -> None:
    said = parse(value)
    if said is not None:
        assert said.urgency is None or 0 <= said.urgency <= 7
        assert said.incremental in (None, False, True)
