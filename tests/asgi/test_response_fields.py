"""What header fields an application may send."""

from __future__ import annotations

import pytest

from h2asgi.asgi import fields
from h2asgi.asgi.fields import response_fields
from h2asgi.errors import IllegalMessage

DEFAULTS = [(b"server", b"h2asgi"), (b"date", b"now")]


def checked(*headers, defaults=(), http_version="2"):
    return response_fields(headers, list(defaults), http_version)[0]


def test_names_are_lower_cased_and_values_stripped():
    assert checked((b"Content-Type", b" text/plain\t"), [b"X-Empty", b""]) == [
        (b"content-type", b"text/plain"),
        (b"x-empty", b""),
    ]


def test_repeated_fields_keep_their_order():
    cookies = [(b"set-cookie", b"a=1"), (b"vary", b"*"), (b"set-cookie", b"b=2")]
    assert checked(*cookies) == cookies


def test_a_generator_of_headers_is_read_once():
    made, _ = response_fields(((b"a", b"1") for _ in range(2)), DEFAULTS, "2")
    assert made == [(b"a", b"1"), (b"a", b"1"), *DEFAULTS]


def test_bytearray_and_memoryview_become_bytes():
    [(name, value)] = checked((bytearray(b"A"), memoryview(b"1")))
    assert (name, value) == (b"a", b"1")
    assert type(name) is type(value) is bytes


@pytest.mark.parametrize(
    "name",
    [b"", b" a", b"a b", b"a:", b":status", b"a\n", b"a\0", b"caf\xe9", b"(x)", b"x" * 99 + b"\r"],
)
def test_a_name_that_is_no_token_is_illegal(name):
    for _ in range(2):  # not remembered as legal the first time
        with pytest.raises(IllegalMessage, match="illegal header name"):
            checked((name, b"v"))


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_a_control_character_in_a_value_is_illegal(octet):
    """RFC 9110 section 5.5; CR, LF and NUL would split or cut the message."""
    with pytest.raises(IllegalMessage, match="control character"):
        checked((b"x", b"a" + bytes([octet]) + b"b"))


def test_a_line_break_at_the_end_of_a_value_is_not_taken_for_white_space():
    with pytest.raises(IllegalMessage):
        checked((b"x", b"value\r\n"))


def test_tabs_and_octets_above_ascii_are_legal_in_a_value():
    assert checked((b"x", b"a\tb \xc3\xa9")) == [(b"x", b"a\tb \xc3\xa9")]


@pytest.mark.parametrize("header", [("Name", b"v"), (b"name", "v")])
def test_text_is_refused_with_a_hint(header):
    with pytest.raises(IllegalMessage, match=r"must be bytes, not str.*encode it first"):
        checked(header)


@pytest.mark.parametrize("header", [(b"n", 1), (None, b"v"), ([], b"v")])
def test_other_types_are_refused(header):
    with pytest.raises(IllegalMessage, match="must be bytes"):
        checked(header)


@pytest.mark.parametrize("headers", [None, 5, [b"abc"], [(b"a",)], [1], [(b"a", b"b", b"c")]])
def test_headers_that_are_not_pairs_are_refused(headers):
    with pytest.raises(IllegalMessage, match="pairs"):
        response_fields(headers, [], "2")


CONNECTION_FIELDS = [
    (b"Connection", b"keep-alive"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Connection", b"close"),
    (b"Upgrade", b"h2c"),
]


def test_connection_fields_are_dropped_on_http2_without_an_error():
    """RFC 9113 section 8.2.2; server-sent-events libraries set ``connection``."""
    assert checked((b"a", b"1"), *CONNECTION_FIELDS, defaults=DEFAULTS) == [(b"a", b"1"), *DEFAULTS]


def test_connection_fields_are_kept_on_http1():
    kept = checked(*CONNECTION_FIELDS, http_version="1.1")
    assert kept == [(name.lower(), value) for name, value in CONNECTION_FIELDS]


@pytest.mark.parametrize("http_version", ["1.0", "1.1", "2"])
def test_transfer_encoding_is_always_dropped(http_version):
    assert checked((b"Transfer-Encoding", b"chunked"), http_version=http_version) == []


def test_defaults_are_added_unless_the_application_gave_its_own():
    assert checked(defaults=DEFAULTS) == DEFAULTS
    own = checked((b"Server", b"mine"), defaults=DEFAULTS)
    assert own == [(b"server", b"mine"), (b"date", b"now")]
    both = checked((b"date", b"then"), (b"server", b"mine"), defaults=DEFAULTS)
    assert both == [(b"date", b"then"), (b"server", b"mine")]
    assert DEFAULTS == [(b"server", b"h2asgi"), (b"date", b"now")]


def test_content_length_is_read():
    assert response_fields([(b"Content-Length", b" 12 ")], [], "2") == (
        [(b"content-length", b"12")],
        12,
    )


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1.0", b"5, 5", b"0x5", b"\xb2", b"1" * 19])
def test_an_illegal_content_length_is_refused(value):
    with pytest.raises(IllegalMessage, match="content-length"):
        checked((b"content-length", value))


def test_a_second_content_length_is_refused_even_when_equal():
    with pytest.raises(IllegalMessage, match="more than one"):
        checked((b"content-length", b"5"), (b"Content-Length", b"5"))


@pytest.fixture
def known():
    """What is remembered: nothing at first. Compiled, no other dict could take its place."""
    fields._known_fields.clear()
    return lambda: fields._known_fields


def test_memory_of_legal_fields_is_bounded_in_number_and_size(known):
    for number in range(fields.MAX_KNOWN_FIELDS + 100):
        assert checked((b"X", b"%d" % number)) == [(b"x", b"%d" % number)]
        assert len(known()) <= fields.MAX_KNOWN_FIELDS
    before = len(known())
    large = (b"x", b"y" * fields.MAX_KNOWN_FIELD_SIZE)
    assert checked(large) == [large]
    assert len(known()) == before


def test_field_that_comes_again_after_many_others_is_remembered_again(known):
    for number in range(3 * fields.MAX_KNOWN_FIELDS):
        checked((b"x", b"%d" % number))
    checked((b"often", b"v"))
    assert (b"often", b"v") in known()


def test_remembered_field_is_the_same_for_every_kind_of_octets(known):
    kinds = [
        (b"Name", b" v"),
        [b"Name", b" v"],
        (memoryview(b"Name"), memoryview(b" v")),
        (bytearray(b"Name"), bytearray(b" v")),
        (memoryview(bytearray(b"Name")), b" v"),
    ]
    for pair in kinds * 2:
        [(name, value)] = checked(pair)
        assert (name, value) == (b"name", b"v")
        assert type(name) is type(value) is bytes
    assert list(known()) == [(b"Name", b" v")]  # nothing that holds on to somebody's buffer


@pytest.mark.parametrize("pair", [(b"a b", b"v"), (b"a", b"\n"), (b"content-length", b"x")])
def test_illegal_field_is_not_remembered(known, pair):
    with pytest.raises(IllegalMessage):
        checked(pair)
    assert not known()


def test_what_one_response_does_to_its_fields_does_not_show_in_the_next(known):
    first = checked((b"a", b"1"), defaults=DEFAULTS)
    first.clear()
    assert checked((b"a", b"1"), defaults=DEFAULTS) == [(b"a", b"1"), *DEFAULTS]
