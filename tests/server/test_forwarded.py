"""X-Forwarded-* and Forwarded: the last that nobody believed said is the client, never a spoof."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.forwarded import MAX_HOPS, MAX_LINE_SIZE, Forwarding, Origin
from h2asgi.protocol.headers import authority_text
from h2asgi.trust import Trusted

PROXIES = Trusted(["10.0.0.0/8", "2001:db8:ffff::/48"])
NOTHING = Origin(None, None, None, None)


def x_forwarded(trusted: Trusted = PROXIES, **fields: str | list[str]) -> Origin:
    """Of fields by their last word; a list is several lines."""
    headers = [
        (b"x-forwarded-" + word.rstrip("_").encode(), line.encode("latin-1"))
        for word, lines in fields.items()
        for line in ([lines] if isinstance(lines, str) else lines)
    ]
    return Forwarding(trusted, "x-forwarded").origin([(b"host", b"origin"), *headers])


def forwarded(*lines: str, trusted: Trusted = PROXIES) -> Origin:
    headers = [(b"forwarded", line.encode("latin-1")) for line in lines]
    return Forwarding(trusted, "forwarded").origin([(b"host", b"origin"), *headers])


CHAINS = [
    # what stands in -For, and who is the client
    (["192.0.2.7"], ("192.0.2.7", 0)),
    (["192.0.2.7, 10.0.0.2"], ("192.0.2.7", 0)),
    (["6.6.6.6, 192.0.2.7"], ("192.0.2.7", 0)),
    (["6.6.6.6, 192.0.2.7, 10.0.0.2, 10.0.0.3"], ("192.0.2.7", 0)),
    (["6.6.6.6", "192.0.2.7"], ("192.0.2.7", 0)),
    (["6.6.6.6,10.9.9.9", "192.0.2.7", "10.0.0.2"], ("192.0.2.7", 0)),
    (["10.0.0.9, 10.0.0.2"], ("10.0.0.9", 0)),  # nobody else: the first
    (["192.0.2.7:4711"], ("192.0.2.7", 4711)),
    (["[2001:db8::7]:4711"], ("2001:db8::7", 4711)),
    (["[2001:db8::7]"], ("2001:db8::7", 0)),
    (["2001:DB8:0::7, 2001:db8:ffff::1"], ("2001:db8::7", 0)),
    (["::ffff:192.0.2.7, ::ffff:10.0.0.2"], ("192.0.2.7", 0)),
    (["  192.0.2.7\t,\t10.0.0.2  "], ("192.0.2.7", 0)),
    # What is no address ends the chain at the last that is known.
    (["6.6.6.6, unknown, 10.0.0.2"], ("10.0.0.2", 0)),
    (["6.6.6.6, , 10.0.0.2"], ("10.0.0.2", 0)),
    (["unknown"], None),
    ([""], None),
    ([","], None),
    (["localhost"], None),
    (["192.0.2.7;6.6.6.6"], None),
    (["192.0.2.7 6.6.6.6"], None),
    (["192.0.2.07"], None),
    (["192.0.2"], None),
    (["3221225991"], None),
    (["192.0.2.7/32"], None),
    (["192.0.2.7:"], None),
    (["192.0.2.7:65536"], None),
    (["192.0.2.7:-1"], None),
    (["[192.0.2.7]"], None),
    (["[2001:db8::7"], None),
    (["[2001:db8::7]4711"], None),
    (["fe80::1%eth0"], None),
    (["fe80::1%\"\n"], None),
    (["'192.0.2.7'"], None),
    (['"192.0.2.7"'], None),
    (["192.0.2.7\0"], None),
    (["\u00b2.0.2.7"], None),
    (["1" * 10_000], None),
    (["6.6.6.6, " * 1000 + "192.0.2.7"], ("192.0.2.7", 0)),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "client"), CHAINS)
def test_the_client_of_x_forwarded_for(lines, client):
    assert x_forwarded(for_=lines).client == client


def test_a_chain_without_end_is_not_followed_for_ever():
    assert x_forwarded(for_="6.6.6.6, " + ", ".join(["10.0.0.1"] * MAX_HOPS)).client == (
        "10.0.0.1",
        0,
    )
    assert forwarded("for=6.6.6.6, " + ", ".join(["for=10.0.0.1"] * MAX_HOPS)).client == (
        "10.0.0.1",
        0,
    )


def test_everybody_is_believed_up_to_the_first():
    everybody = Trusted(["*"])
    assert x_forwarded(everybody, for_="6.6.6.6, 192.0.2.7").client == ("6.6.6.6", 0)
    assert forwarded("for=6.6.6.6, for=192.0.2.7", trusted=everybody).client == ("6.6.6.6", 0)


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ({"proto": "https"}, "https"),
        ({"proto": "HTTP"}, "http"),
        ({"proto": "wss"}, "https"),
        ({"proto": "ws"}, "http"),
        # as many as addresses: the one beside the client's
        ({"for_": "192.0.2.7, 10.0.0.2", "proto": "https, http"}, "https"),
        ({"for_": "6.6.6.6, 192.0.2.7", "proto": "https, http"}, "http"),
        # else what the nearest proxy says
        ({"for_": "6.6.6.6, 192.0.2.7", "proto": "http"}, "http"),
        ({"for_": "192.0.2.7, 10.0.0.2", "proto": "https, https, http"}, "http"),
        ({"for_": "192.0.2.7", "proto": ["https", "http"]}, "http"),
        ({"proto": "javascript"}, None),
        ({"proto": "https://"}, None),
        ({"proto": ""}, None),
        ({"proto": "https,"}, None),
        ({"for_": "192.0.2.7"}, None),
    ],
)
def test_the_scheme_of_x_forwarded_proto(fields, scheme):
    assert x_forwarded(**fields).scheme == scheme


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example", b"a.example"),
        ("a.example:8443", b"a.example:8443"),
        ("[2001:db8::1]:8443", b"[2001:db8::1]:8443"),
        ("evil.example, a.example", b"a.example"),
        ("a b", None),
        ("a/b", None),
        ("u@a", None),
        ("a\0", None),
        ('"a"', None),
        ("", None),
    ],
)
def test_the_host_of_x_forwarded_host_is_what_a_host_field_may_be(host, expected):
    assert x_forwarded(host=host).host == expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        *[("443", 443), ("1, 8443", 8443), ("0", None), ("65536", None), ("", None)],
        *[("-1", None), ("+80", None), ("8_0", None), ("\u00b2", None), ("1" * 5000, None)],
    ],
)
def test_the_port_of_x_forwarded_port(port, expected):
    assert x_forwarded(port=port).port == expected


@pytest.mark.parametrize(
    ("lines", "origin"),
    [
        (["for=192.0.2.7"], Origin(("192.0.2.7", 0), None, None, None)),
        (
            ['For="[2001:db8::7]:4711";PROTO=https;host="a.example:8443";by=10.0.0.1'],
            Origin(("2001:db8::7", 4711), "https", b"a.example:8443", None),
        ),
        (
            ["for=6.6.6.6;proto=http, for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http"],
            Origin(("192.0.2.7", 0), "https", b"a", None),
        ),
        (["for=6.6.6.6", "for=192.0.2.7"], Origin(("192.0.2.7", 0), None, None, None)),
        (["for=192.0.2.7", "for=10.0.0.2"], Origin(("192.0.2.7", 0), None, None, None)),
        (["proto=https"], Origin(None, "https", None, None)),
        (["for=192.0.2.7 ; proto=https"], Origin(("192.0.2.7", 0), "https", None, None)),
        (['for="192.0.2.7"; proto="https"'], Origin(("192.0.2.7", 0), "https", None, None)),
        (['for="192\\.0.2.7"'], Origin(("192.0.2.7", 0), None, None, None)),
        (['for=192.0.2.7;secret="a, b;for=6.6.6.6"'], Origin(("192.0.2.7", 0), None, None, None)),
        (["for=unknown;proto=https"], Origin(None, "https", None, None)),
        (["for=192.0.2.7, for=_hidden, for=10.0.0.2"], Origin(("10.0.0.2", 0), None, None, None)),
        ([""], NOTHING),
        (["for"], NOTHING),
        (["for="], NOTHING),
        (["for=192.0.2.7;"], NOTHING),
        (["for=192.0.2.7,"], NOTHING),
        (["for = 192.0.2.7"], NOTHING),
        (["for=192.0.2.7;for=6.6.6.6"], NOTHING),
        (["for=1;For=1"], NOTHING),
        (["for=[2001:db8::7]"], NOTHING),  # section 6: it has to be quoted
        (['for="192.0.2.7'], NOTHING),
        (["for=192.0.2.7 proto=https"], NOTHING),
        (["192.0.2.7"], NOTHING),
    ],
)
def test_forwarded(lines, origin):
    assert forwarded(*lines) == origin


@pytest.mark.parametrize(
    "sent",
    [
        *['for="', 'for="x', 'for=6.6.6.6;by="', 'by="a', "for=6.6.6.6;", "for=6.6.6.6,", ";", '"'],
        *['for="\\', "=", 'for=6.6.6.6;a=",b=";c="', "for=10.0.0.1;proto=https", ",,", "\\"],
        *["x" * 2 * MAX_LINE_SIZE, "for=6.6.6.6," * 1000, 'a="' + "," * 2 * MAX_LINE_SIZE],
    ],
)
@pytest.mark.parametrize(
    "added",
    [
        "for=192.0.2.7;proto=http",
        'for="192.0.2.7";proto=http',
        'for=192.0.2.7;proto="http";host="a,b;for=6.6.6.6;proto=https"',
        'for=192.0.2.7;host="\\"a\\", for=6.6.6.6;x=\\"";proto=http',
    ],
)
def test_what_a_client_sends_cannot_swallow_what_a_proxy_adds(sent, added):
    origin = forwarded(f"{sent}, {added}")
    assert origin.client == ("192.0.2.7", 0)
    assert origin.scheme == "http"
    assert forwarded(sent, added) == origin


@given(st.lists(st.text('for=;," \\:[]0126.a%\t', max_size=60), max_size=3))
def test_whatever_comes_neither_raises_nor_spoofs(lines):
    """What stands in front of what a believed proxy has added is never looked at."""
    for trusted in (PROXIES, Trusted(["*"])):
        for origin in (
            x_forwarded(trusted, for_=lines, host=lines),
            forwarded(*lines, trusted=trusted),
        ):
            if origin.client is not None:
                host, port = origin.client
                assert str(ipaddress.ip_address(host)) == host
                assert 0 <= port <= 65_535
            assert origin.host is None or authority_text(origin.host)
    sent = ", ".join(lines)
    assert x_forwarded(for_=[sent, "192.0.2.7"]).client == ("192.0.2.7", 0)
    assert x_forwarded(for_=f"{sent}, 192.0.2.7, 10.0.0.1").client == ("192.0.2.7", 0)
    assert forwarded(f"{sent}, for=192.0.2.7").client == ("192.0.2.7", 0)
    assert forwarded(sent, "for=192.0.2.7, for=10.0.0.1").client == ("192.0.2.7", 0)


def test_only_the_chosen_kind_is_read():
    headers = [(b"x-forwarded-for", b"192.0.2.7"), (b"forwarded", b"for=192.0.2.8")]
    assert Forwarding(PROXIES, "x-forwarded").origin(headers).client == ("192.0.2.7", 0)
    assert Forwarding(PROXIES, "forwarded").origin(headers).client == ("192.0.2.8", 0)


def applied(scope: dict[str, Any], *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    given: dict[str, Any] = {
        "type": "http", "scheme": "http", "client": ("10.0.0.1", 5000),
        "server": ("10.0.0.9", 8000), "headers": list(headers), **scope,
    }  # fmt: skip
    before = list(headers)
    Forwarding(PROXIES, "x-forwarded").apply(given, given["headers"])
    assert list(headers) == before
    return given


def test_what_it_changes_in_a_scope():
    fields = [
        (b"host", b"origin"), (b"a", b"1"), (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"a.example"),
        (b"x-forwarded-port", b"443"),
    ]  # fmt: skip
    scope = applied({}, *fields)
    assert (scope["client"], scope["scheme"]) == (("192.0.2.7", 0), "https")
    assert scope["server"] == ("10.0.0.9", 443)
    assert scope["headers"] == [(b"host", b"a.example"), *fields[1:]]


def test_what_is_not_told_stays():
    scope = applied({}, (b"host", b"origin"), (b"x-forwarded-for", b"nonsense"))
    assert (scope["client"], scope["scheme"]) == (("10.0.0.1", 5000), "http")
    assert scope["server"] == ("10.0.0.9", 8000)
    assert scope["headers"][0] == (b"host", b"origin")


def test_a_websocket_has_the_scheme_of_its_kind():
    for proto, scheme in ((b"https", "wss"), (b"wss", "wss"), (b"http", "ws"), (b"x", "ws")):
        scope = applied({"type": "websocket", "scheme": "ws"}, (b"x-forwarded-proto", proto))
        assert scope["scheme"] == scheme


def test_a_unix_socket_has_no_port_to_replace():
    scope = applied({"server": ("/run/a.sock", None)}, (b"x-forwarded-port", b"443"))
    assert scope["server"] == ("/run/a.sock", None)
