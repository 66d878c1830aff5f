"""Scopes: ASGI HTTP spec 2.5, "HTTP Connection Scope"; field notes, "ASGI details"."""

from __future__ import annotations

import pytest
from fake_sink import request, scope
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.asgi.scope import connection_scope, http_scope


def test_scope_carries_every_key_of_the_specification():
    assert scope(b"/a%20b?x=%31&y", extensions={}, state={}) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "2",
        "method": "GET",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"x=%31&y",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8443),
        "state": {},
        "extensions": {},
    }


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        (b"/", "/", b"/", b""),
        (b"/plain", "/plain", b"/plain", b""),
        (b"/?", "/", b"/", b""),
        (b"/?a?b", "/", b"/", b"a?b"),
        (b"/caf%C3%A9", "/café", b"/caf%C3%A9", b""),
        (b"/%2Fetc", "//etc", b"/%2Fetc", b""),
        (b"/%ff/%C3", "/�/�", b"/%ff/%C3", b""),
        (b"/100%", "/100%", b"/100%", b""),
        (b"/%zz?%20", "/%zz", b"/%zz", b"%20"),
        (b"*", "*", b"*", b""),
    ],
)
def test_path_is_decoded_as_utf8_and_raw_path_is_not_field_note_25(
    target, path, raw_path, query_string
):
    built = scope(target)
    assert (built["path"], built["raw_path"]) == (path, raw_path)
    assert built["query_string"] == query_string


@given(st.binary())
def test_any_target_gives_a_scope(target):
    built = scope(target)
    assert isinstance(built["path"], str)
    assert built["raw_path"] == target.partition(b"?")[0]


def test_path_and_raw_path_include_root_path():
    built = scope(b"/x%20y?q", root_path="/api")
    assert built["root_path"] == "/api"
    assert built["path"] == "/api/x y"
    assert built["raw_path"] == b"/api/x%20y"


def test_root_path_is_encoded_in_raw_path():
    built = scope(b"/x", root_path="/é p")
    assert built["path"] == "/é p/x"
    assert built["raw_path"] == b"/%C3%A9%20p/x"


def test_asterisk_form_takes_no_root_path():
    built = scope(b"*", root_path="/api", method="OPTIONS")
    assert (built["path"], built["raw_path"]) == ("*", b"*")


def test_state_is_a_shallow_copy_for_each_request():
    pool = object()
    state = {"pool": pool}
    first = scope(state=state)
    first["state"]["mine"] = 1
    second = scope(state=state)
    assert second["state"] == {"pool": pool}
    assert state == {"pool": pool}


def test_state_is_given_when_a_lifespan_runs_even_if_empty_and_only_then():
    assert scope(state={})["state"] == {}
    assert "state" not in scope(state=None)


def test_what_one_request_writes_into_its_scope_does_not_show_in_the_next():
    extensions = {"tls": {"tls_version": 0x0304}}
    connection = connection_scope("https", None, None, "")

    def scope(**changes):
        return http_scope(connection, request(), None, changes.get("extensions"))

    first = scope(extensions=extensions)
    first["method"] = "MINE"
    first["asgi"]["version"] = "mine"
    first["extensions"]["mine"] = {}
    first["extensions"]["tls"]["mine"] = 1
    second = scope(extensions=extensions)
    assert second["method"] == "GET"
    assert second["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert second["extensions"] == {"tls": {"tls_version": 0x0304}}
    assert "extensions" not in scope()


def test_ports_are_integers_and_unix_sockets_have_none_field_note_25():
    built = scope(client=None, server=("/run/h2asgi.sock", None))
    assert built["client"] is None
    assert built["server"] == ("/run/h2asgi.sock", None)
    assert isinstance(scope()["client"][1], int)
