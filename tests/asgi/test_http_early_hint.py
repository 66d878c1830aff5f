"""``http.response.early_hint`` (RFC 8297)."""

from __future__ import annotations

import pytest
from fake_sink import send_all

from h2asgi.errors import ErrorCode

START = {"type": "http.response.start", "status": 200}
PIECE = {"type": "http.response.body", "body": b"x", "more_body": True}
STYLE = b"</style.css>; rel=preload; as=style"
SCRIPT = b"</script.js>; rel=preload; as=script"


def hint(*links):
    return {"type": "http.response.early_hint", "links": list(links)}


@pytest.mark.parametrize("before", [(), (START,)], ids=["before the start", "after it"])
def test_hints_are_on_their_way_ahead_of_the_head(before):
    sink, _ = send_all(*before, hint(STYLE, SCRIPT))
    fields = [(b"link", STYLE), (b"link", SCRIPT)]
    assert sink.calls == [("informational", 103, fields), ("flush",)]


def test_there_may_be_several_and_the_response_follows():
    sink, _ = send_all(hint(STYLE), START, hint(SCRIPT), PIECE)
    assert sink.kinds == ["informational", "flush", "informational", "flush", "headers", "data"]


def test_hints_without_a_link_are_none():
    sink, _ = send_all(hint())
    assert sink.kinds == ["flush"]


def test_a_hint_behind_the_head_is_refused():
    sink, reason = send_all(START, PIECE, hint(STYLE))
    assert "early_hint" in reason
    assert sink.calls[-1] == ("reset", ErrorCode.INTERNAL_ERROR)


@pytest.mark.parametrize(
    "links", [None, b"</a>", "</a>", ["</a>"], [b"</a>\r\nset-cookie: a=1"], [5]]
)
def test_links_that_are_none_are_refused(links):
    sink, reason = send_all({"type": "http.response.early_hint", "links": links})
    assert reason
    assert sink.calls == []
