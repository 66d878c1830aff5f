"""Certificates by name: what ``--cert`` may say, and which authorities a certificate covers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trustme
from cli_parts import Certificates
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.config import TLSConfig
from h2asgi.errors import ConfigurationError
from h2asgi.options import make_config
from h2asgi.server_names import MAX_AUTHORITY_SIZE, NamedPair, coverage, parse_pairs
from h2asgi.tls import certificate_warnings, create_context


def refusal(*texts: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_pairs(texts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_have_one_form() -> None:
    assert parse_pairs(["WWW.Example.com.=c.pem", "*.Bücher.example=d.pem,k.pem"]) == [
        NamedPair("www.example.com", "c.pem", None),
        NamedPair("*.xn--bcher-kva.example", "d.pem", "k.pem"),
    ]


@pytest.mark.parametrize("text", ["c.pem", "name=", "name=c.pem,", "name=,k.pem", ""])
def test_what_is_no_pair_is_said(text: str) -> None:
    assert refusal(text) == (f"--cert {text!r} must be NAME=CERTFILE or NAME=CERTFILE,KEYFILE")


@pytest.mark.parametrize(
    "name", ["", "*", "a.*.example", "*a.example", "192.0.2.1", "[::1]", "a b", "a..b", "ä" * 64]
)
def test_what_is_no_name_is_said(name: str) -> None:
    assert refusal(f"{name}=c.pem").endswith(
        "must begin with a host name, such as example.com or *.example.com"
    )


def test_a_name_is_given_once() -> None:
    assert refusal("a.example=c.pem", "A.example.=d.pem") == "--cert names a.example twice"


def test_names_need_a_certificate_for_all_others() -> None:
    with pytest.raises(ConfigurationError, match=r"^cert is given without a certfile$"):
        make_config("app:app", cert=["a.example=c.pem"])
    with pytest.raises(ConfigurationError, match=r"^check_authority is given without a certfile$"):
        make_config("app:app", check_authority=True)


@pytest.fixture
def tls(certificates: Certificates) -> TLSConfig:
    pair = certificates.pair()
    return TLSConfig(certfile=pair.certfile, keyfile=pair.keyfile)


def test_a_context_is_found_by_name(certificates: Certificates, tls: TLSConfig) -> None:
    a, b = certificates.pair("a"), certificates.pair("b")
    files = f"{a.certfile},{a.keyfile}"
    named = (f"a.example={files}", f"*.example={b.certfile},{b.keyfile}", f"x.example.com={files}")
    default = create_context(replace(tls, named_certificates=named), http1=True, http2=True)
    first, second = default.for_name("a.example"), default.for_name("b.example")
    assert len({id(default), id(first), id(second)}) == 3
    assert default.for_name("x.example.com") is first
    for name in (None, "", "example", "a.b.example", "y.example.com", "*", "localhost"):
        assert default.for_name(name) is default
    for context in (first, second):
        assert context.get_ciphers() == default.get_ciphers()
        assert context.options == default.options
        assert context.minimum_version == default.minimum_version


def test_a_named_pair_is_checked_like_the_default(
    certificates: Certificates, tls: TLSConfig
) -> None:
    pair, other = certificates.pair("a"), certificates.pair("b")
    named = (f"a.example={pair.certfile},{other.keyfile}",)
    with pytest.raises(ConfigurationError) as caught:
        create_context(replace(tls, named_certificates=named), http1=True, http2=True)
    assert str(caught.value) == (
        f"the key in {other.keyfile} does not belong to the certificate in {pair.certfile}"
    )
    old = certificates.pair("old", begin=timedelta(days=-9), end=timedelta(days=-2))
    named = (f"a.example={old.certfile},{old.keyfile}",)
    (warning,) = certificate_warnings(replace(tls, named_certificates=named))
    assert f"in {old.certfile} expired" in warning


@pytest.mark.parametrize(
    ("authority", "covered"),
    [
        (b"a.example", True),
        (b"A.EXAMPLE:8443", True),
        (b"a.example.", True),
        (b"a.example:", True),
        (b"x.wild.example", True),
        (b"wild.example", False),
        (b"y.x.wild.example", False),
        (b"*.wild.example", False),
        (b"b.example", False),
        (b"192.0.2.1:443", True),
        (b"192.0.2.2", False),
        (b"[2001:db8:0::1]", True),
        (b"[2001:DB8::1]:443", True),
        (b"[2001:db8::2]", False),
        (b"2001", False),
        (b"", False),
        (b"[", False),
        (b"%61.example", False),
    ],
)
def test_authorities_are_covered_by_names_and_addresses(authority: bytes, covered: bool) -> None:
    names = frozenset(("a.example", "*.wild.example"))
    covers = coverage(names, frozenset(("192.0.2.1", "2001:db8::1")))
    assert [covers(authority), covers(authority)] == [covered, covered]


@given(st.binary(max_size=MAX_AUTHORITY_SIZE + 10))
def test_no_authority_raises(authority: bytes) -> None:
    assert not coverage(frozenset(("a.example",)), frozenset())(b"x" + authority)


def test_what_a_certificate_covers_stands_in_its_alternative_names(
    certificates: Certificates, tls: TLSConfig
) -> None:
    leaf = certificates.authority.issue_cert("*.Example.com", "a.example", "::1")
    file = certificates.folder / "leaf.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
    settings = TLSConfig(certfile=str(file), check_authority=True)
    covers = create_context(settings, http1=True, http2=True).covers
    assert covers is not None
    assert all(map(covers, (b"x.example.com", b"a.example", b"[::1]")))
    assert not covers(b"example.com")
    assert create_context(tls, http1=True, http2=True).covers is None


def test_a_certificate_without_names_cannot_be_checked(certificates: Certificates) -> None:
    leaf = trustme.CA()
    file = certificates.folder / "nameless.pem"
    file.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_pem.bytes())
    settings = TLSConfig(certfile=str(file), check_authority=True)
    with pytest.raises(ConfigurationError, match="names no host: with --check-authority every"):
        create_context(settings, http1=True, http2=True)
