"""Certificates in memory, their files over time, and how long they are good for."""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from cli_parts import Certificates, handshake

from h2asgi import certificate_watch, key_pairs
from h2asgi.certificate_watch import CertificateWatch
from h2asgi.config import TLSConfig
from h2asgi.errors import ConfigurationError
from h2asgi.tls import certificate_warnings, create_context


@pytest.fixture
def tls(certificates: Certificates) -> TLSConfig:
    pair = certificates.pair(end=timedelta(days=90))
    return TLSConfig(certfile=pair.certfile, keyfile=pair.keyfile)


def test_pairs_reach_another_process_as_they_are(
    certificates: Certificates, tls: TLSConfig
) -> None:
    assert tls.certfile is not None
    with open(tls.certfile, "a", encoding="latin-1") as file:
        file.write("a comment in no particular encoding: \xe9\xff\n")
    other = certificates.pair("other", password=b"secret")
    named = (f"a.example={other.certfile},{other.keyfile}", f"b.example={tls.certfile}")
    pairs = key_pairs.read(replace(tls, named_certificates=named[:1], keyfile_password="secret"))
    assert key_pairs.from_bytes(key_pairs.to_bytes(pairs)) == pairs
    assert [pair.keyfile for pair in pairs] == [tls.keyfile, other.keyfile]
    assert "PRIVATE" not in repr(pairs)
    assert "secret" not in repr(pairs)


@pytest.mark.parametrize("memory", [True, False])
def test_a_context_in_use_gets_another_pair(
    certificates: Certificates, tls: TLSConfig, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    context = create_context(tls, http1=True, http2=True)
    before = context.server_cert
    certificates.pair(end=timedelta(days=90))
    pairs = key_pairs.read(tls)
    key_pairs.replace_all(context, pairs, check_authority=False)
    assert context.server_cert != before
    assert context.server_cert == Path(pairs[0].certfile).read_text()
    client = ssl.create_default_context(cafile=certificates.ca_file)
    handshake(context, client)
    key_pairs.replace_all(context, pairs, check_authority=True)
    assert context.covers is not None
    assert context.covers(b"localhost")


def test_what_a_live_context_cannot_take_is_seen(
    certificates: Certificates, tls: TLSConfig
) -> None:
    before = create_context(tls, http1=True, http2=True)
    certificates.pair(end=timedelta(days=90))
    assert create_context(tls, http1=True, http2=True).fixed == before.fixed
    assert create_context(tls, http1=False, http2=True).fixed != before.fixed
    for kind in (trustme.KeyType.RSA,):
        certificates.pair(key_type=kind)
        assert create_context(tls, http1=True, http2=True).fixed != before.fixed
    asking = replace(tls, cert_reqs="required", ca_certs=certificates.ca_file)
    first = create_context(asking, http1=True, http2=True)
    assert create_context(asking, http1=True, http2=True).fixed == first.fixed
    with open(certificates.ca_file, "ab") as file:
        file.write(trustme.CA().cert_pem.bytes())
    assert create_context(asking, http1=True, http2=True).fixed != first.fixed


@pytest.mark.parametrize(
    ("begin", "end", "warned"),
    [(-80, 15, False), (-80, 13, True), (-1, 5, False), (-5, 2, True), (-5, 0.5, True)],
)
def test_what_expires_soon_is_warned_of(
    certificates: Certificates, begin: float, end: float, warned: bool
) -> None:
    """Two weeks ahead, or with a third of its life left where that is less."""
    pair = certificates.pair(begin=timedelta(days=begin), end=timedelta(days=end, minutes=1))
    found = certificate_warnings(TLSConfig(certfile=pair.certfile, keyfile=pair.keyfile))
    assert len(found) == warned
    for text in found:
        assert f"in {pair.certfile} expires at 20" in text
        assert text.endswith(f", in {int(end)} days")


def test_a_change_is_believed_when_it_has_come_to_rest(
    certificates: Certificates, tls: TLSConfig
) -> None:
    watch = CertificateWatch(tls)
    assert not watch.look()
    certificates.pair()
    assert not watch.look()
    assert tls.keyfile is not None
    os.utime(tls.keyfile, (0, 0))
    assert not watch.look()
    assert watch.look()
    assert not watch.look()
    os.unlink(tls.keyfile)
    assert [watch.look(), watch.look(), watch.look()] == [False, True, False]


@pytest.mark.parametrize("tls_is_on", [True, False])
def test_nothing_is_looked_at_that_is_not_to_be(
    certificates: Certificates, tls: TLSConfig, tls_is_on: bool
) -> None:
    watch = CertificateWatch(replace(tls, watch=False) if tls_is_on else None)
    certificates.pair()
    assert [watch.look(), watch.look()] == [False, False]


def test_expiry_is_warned_of_daily(
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logging.getLogger("h2asgi"), "propagate", True)
    pair = certificates.pair(begin=timedelta(days=-80), end=timedelta(days=3))
    now = 1000.0
    monkeypatch.setattr(certificate_watch.time, "monotonic", lambda: now)
    watch = CertificateWatch(TLSConfig(certfile=pair.certfile, keyfile=pair.keyfile))
    watch.look()
    assert not caplog.records
    now += 24 * 3600
    watch.look()
    watch.look()
    assert len(caplog.records) == 1
    os.unlink(pair.certfile)
    now += 24 * 3600
    watch.look()
    assert "cannot read the certificate file" in caplog.records[1].message


def test_a_file_that_is_gone_is_named(tls: TLSConfig) -> None:
    assert tls.keyfile is not None
    os.unlink(tls.keyfile)
    with pytest.raises(ConfigurationError, match="cannot read the key file"):
        key_pairs.read(tls)
