"""tls.py: certificates and keys are checked, and what TLS negotiates is what RFC 9113 wants."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_parts import Certificates, Pair, handshake
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trustme import KeyType

from h2asgi import key_pairs, tls
from h2asgi.banner import COMPILED
from h2asgi.config import TLSConfig
from h2asgi.errors import ConfigurationError
from h2asgi.tls import certificate_warnings, create_context
from h2asgi.tls_context import ServerContext


def settings(pair: Pair, **options: Any) -> TLSConfig:
    return TLSConfig(certfile=pair.certfile, keyfile=pair.keyfile, **options)


@pytest.fixture(params=["ssl", "pyopenssl"], autouse=True)
def tls_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything holds for each engine."""
    engine: str = request.param
    if engine == "pyopenssl":
        pytest.importorskip("OpenSSL")
    monkeypatch.setattr(tls, "engine_name", lambda _: engine)
    return engine


def context(tls: TLSConfig) -> ServerContext:
    return create_context(tls, http1=True, http2=True)


def client(certificates: Certificates, *alpn: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=certificates.ca_file)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


@pytest.mark.parametrize("key_type", list(KeyType))
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_rsa_and_ecdsa_pairs_serve_both_versions(
    certificates: Certificates, key_type: KeyType, version: ssl.TLSVersion
) -> None:
    peer = client(certificates, "h2")
    peer.minimum_version = peer.maximum_version = version
    end, _ = handshake(context(settings(certificates.pair(key_type=key_type))), peer)
    assert end.alpn() == "h2"
    assert end.version() == version.name.replace("v1_", "v1.")


@pytest.mark.parametrize(
    ("http1", "http2", "offered", "selected"),
    [
        (True, True, ["http/1.1", "h2"], "h2"),
        (True, True, ["http/1.1"], "http/1.1"),
        (False, True, ["http/1.1", "h2"], "h2"),
        (True, False, ["h2", "http/1.1"], "http/1.1"),
        (False, True, ["http/1.1"], None),
        (True, True, [], None),
    ],
)
def test_alpn_prefers_h2_and_offers_what_is_enabled(
    certificates: Certificates,
    http1: bool,
    http2: bool,
    offered: list[str],
    selected: str | None,
) -> None:
    server = create_context(settings(certificates.pair()), http1=http1, http2=http2)
    end, _ = handshake(server, client(certificates, *offered))
    assert end.alpn() == selected


def test_no_compression_and_no_renegotiation(certificates: Certificates) -> None:
    """RFC 9113 section 9.2.1."""
    options = context(settings(certificates.pair())).options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION


def test_the_lowest_version_is_1_2_unless_told_otherwise(certificates: Certificates) -> None:
    tls = settings(certificates.pair())
    assert context(tls).minimum_version is ssl.TLSVersion.TLSv1_2
    strict = context(replace(tls, min_version="1.3"))
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_3
    old = client(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(strict, old)


def test_default_suites_are_ephemeral_and_authenticated(certificates: Certificates) -> None:
    """RFC 9113 section 9.2.2, with the suite that it makes mandatory."""
    suites = context(settings(certificates.pair())).get_ciphers()
    assert "ECDHE-RSA-AES128-GCM-SHA256" in {suite["name"] for suite in suites}
    older = [suite for suite in suites if suite["protocol"] != "TLSv1.3"]
    assert {(suite["aead"], suite["kea"]) for suite in older} == {(True, "kx-ecdhe")}


TLS_1_3 = {"pyopenssl": "TLS_AES_128_GCM_SHA256", "ssl": "TLS_AES_256_GCM_SHA384"}
"""The suite that is chosen by the server, where it has a choice, or by OpenSSL."""


def test_tls_1_3_prefers_128_bits_where_it_can(certificates: Certificates, tls_engine: str) -> None:
    """OpenSSL's clients name 256 first."""
    end, _ = handshake(context(settings(certificates.pair())), client(certificates))
    assert end.cipher() == TLS_1_3[tls_engine]


@pytest.mark.parametrize("key_type", list(KeyType))
def test_a_client_with_prohibited_suites_only_is_refused(
    certificates: Certificates, key_type: KeyType
) -> None:
    old = client(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(context(settings(certificates.pair(key_type=key_type))), old)


def test_suites_can_be_chosen(certificates: Certificates) -> None:
    tls = settings(certificates.pair(), ciphers="ECDHE+CHACHA20:DHE+AESGCM:!aNULL")
    names = {suite["name"] for suite in context(tls).get_ciphers()}
    assert {"ECDHE-ECDSA-CHACHA20-POLY1305", "DHE-RSA-AES256-GCM-SHA384"} < names
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in names


@pytest.mark.parametrize(
    "suite",
    [
        "AES128-GCM-SHA256",  # no ephemeral keys
        "ECDHE-RSA-AES256-SHA384",  # not an AEAD
        "ADH-AES128-GCM-SHA256:@SECLEVEL=0",  # anonymous
        "PSK-AES128-GCM-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "ALL:@SECLEVEL=0",
        "DEFAULT",
    ],
)
def test_suites_that_http2_prohibits_are_refused(certificates: Certificates, suite: str) -> None:
    """RFC 9113 Appendix A."""
    with pytest.raises(ConfigurationError, match=r"allows .*, which RFC 9113 .* prohibits: only"):
        context(settings(certificates.pair(), ciphers=suite))


@pytest.mark.parametrize("suite", ["nonsense", "TLSv1.3"])
def test_ciphers_that_leave_nothing_are_refused(certificates: Certificates, suite: str) -> None:
    with pytest.raises(ConfigurationError, match="no cipher suite"):
        context(settings(certificates.pair(), ciphers=suite))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_key_for_pss_alone_serves(version: ssl.TLSVersion) -> None:
    """RFC 4055. cryptography makes none: ``openssl req -x509 -newkey rsa-pss`` did."""
    file = str(Path(__file__).parent / "pss.pem")
    peer = ssl.create_default_context(cafile=file)
    peer.minimum_version = peer.maximum_version = version
    ours, _ = handshake(context(TLSConfig(certfile=file)), peer)
    assert ours.version() == version.name.replace("v1_", "v1.")


def both_in_one(certificates: Certificates, order: Callable[[str, str], str]) -> TLSConfig:
    pair = certificates.pair()
    together = certificates.folder / "both.pem"
    together.write_text(order(Path(pair.certfile).read_text(), Path(pair.keyfile).read_text()))
    return TLSConfig(certfile=str(together))


@pytest.mark.parametrize(
    "order",
    [
        lambda cert, key: cert + key,
        lambda cert, key: key + cert,
        lambda cert, key: "A remark\n" + key + "\n" + cert + cert,
    ],
)
def test_certificate_and_key_may_be_in_one_file(
    certificates: Certificates, order: Callable[[str, str], str]
) -> None:
    handshake(context(both_in_one(certificates, order)), client(certificates))


def test_an_elliptic_key_behind_its_parameters_is_found(certificates: Certificates) -> None:
    pair = certificates.pair()
    key = Path(pair.keyfile)
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key.write_text(parameters + key.read_text())
    handshake(context(settings(pair)), client(certificates))


@pytest.mark.parametrize("end_of_line", ["", "\n", "\r\n", "\nsecond line\n"])
def test_an_encrypted_key_is_opened_by_a_password_from_a_file(
    certificates: Certificates, tmp_path: Path, end_of_line: str
) -> None:
    pair = certificates.pair(password="pässword ".encode())
    file = tmp_path / "password"
    file.write_bytes(("pässword " + end_of_line).encode())
    assert context(settings(pair, keyfile_password_file=str(file)))


def test_an_encrypted_key_is_opened_by_a_password(certificates: Certificates) -> None:
    pair = certificates.pair(password=b"secret")
    assert context(settings(pair, keyfile_password="secret"))


def test_a_password_for_an_open_key_does_no_harm(certificates: Certificates) -> None:
    assert context(settings(certificates.pair(), keyfile_password="secret"))


def refusal(tls: TLSConfig) -> str:
    with pytest.raises(ConfigurationError) as caught:
        context(tls)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_file_that_is_not_there_is_named(certificates: Certificates) -> None:
    pair = certificates.pair()
    no = "No such file or directory"
    assert refusal(settings(Pair("/no/c.pem", pair.keyfile))) == (
        f"cannot read the certificate file /no/c.pem: {no}"
    )
    assert refusal(settings(Pair(pair.certfile, "/no/k.pem"))) == (
        f"cannot read the key file /no/k.pem: {no}"
    )
    assert refusal(settings(pair, keyfile_password_file="/no/p")) == (
        f"cannot read the password file /no/p: {no}"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(certificates: Certificates) -> None:
    pair = certificates.pair()
    os.chmod(pair.keyfile, 0)
    assert refusal(settings(pair)).endswith(f"{pair.keyfile}: Permission denied")


def test_a_folder_is_not_a_certificate(certificates: Certificates) -> None:
    pair = certificates.pair()
    assert refusal(settings(Pair("/", pair.keyfile))).endswith("/: Is a directory")


@pytest.mark.parametrize("contents", ["", "hello", "-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_file_without_a_certificate_is_named(certificates: Certificates, contents: str) -> None:
    pair = certificates.pair()
    Path(pair.certfile).write_text(contents)
    assert refusal(settings(pair)) == f"{pair.certfile} holds no certificate in PEM format"


def test_a_file_without_a_key_is_named(certificates: Certificates) -> None:
    pair = certificates.pair()
    assert refusal(TLSConfig(certfile=pair.certfile)) == (
        f"{pair.certfile} holds no private key in PEM format:"
        " add it there, or name its file with --keyfile"
    )
    assert refusal(settings(Pair(pair.certfile, pair.certfile))) == (
        f"{pair.certfile} holds no private key in PEM format"
    )


def test_a_broken_key_is_named(certificates: Certificates) -> None:
    pair = certificates.pair()
    Path(pair.keyfile).write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert refusal(settings(pair)) == f"the private key in {pair.keyfile} cannot be read"


@pytest.mark.parametrize("other", list(KeyType))
def test_a_key_of_another_certificate_is_refused(
    certificates: Certificates, other: KeyType
) -> None:
    pair = certificates.pair()
    keyfile = certificates.pair("other", other).keyfile
    assert refusal(settings(Pair(pair.certfile, keyfile))) == (
        f"the key in {keyfile} does not belong to the certificate in {pair.certfile}"
    )


def test_an_encrypted_key_asks_for_its_password_by_a_sentence(certificates: Certificates) -> None:
    pair = certificates.pair(password=b"secret")
    assert refusal(settings(pair)) == (
        f"the private key in {pair.keyfile} is encrypted: give its password with"
        " --keyfile-password-file or --keyfile-password"
    )
    assert refusal(settings(pair, keyfile_password="guess")) == (
        f"the password does not open the private key in {pair.keyfile}"
    )


def test_an_empty_or_unreadable_password_file_is_said(
    certificates: Certificates, tmp_path: Path
) -> None:
    pair = certificates.pair(password=b"secret")
    file = tmp_path / "password"
    file.write_bytes(b"")
    assert "is encrypted" in refusal(settings(pair, keyfile_password_file=str(file)))
    file.write_bytes(b"\xff\n")
    assert refusal(settings(pair, keyfile_password_file=str(file))) == (
        f"the password in {file} is not UTF-8"
    )


def test_a_key_that_openssl_finds_too_weak_is_refused_by_a_sentence(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    monkeypatch.setattr(KeyType, "_generate_key", lambda self: weak)
    pair = certificates.pair(key_type=KeyType.RSA)
    pem = weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path(pair.keyfile).write_bytes(pem)
    sentence = refusal(settings(pair))
    assert sentence == f"OpenSSL refuses the certificate {pair.certfile}: ee key too small"


def test_keys_are_logged_where_sslkeylogfile_says(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    server = context(settings(certificates.pair()))
    monkeypatch.delenv("SSLKEYLOGFILE")
    handshake(server, client(certificates))
    assert "SERVER_HANDSHAKE_TRAFFIC_SECRET" in log.read_text()


def test_a_key_log_that_cannot_be_written_is_named(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/no/keys.log")
    assert refusal(settings(certificates.pair())) == (
        "cannot write SSLKEYLOGFILE /no/keys.log: No such file or directory"
    )


def test_a_certificate_outside_its_validity_is_a_warning(certificates: Certificates) -> None:
    good = certificates.pair("good")
    assert certificate_warnings(settings(good)) == []
    expired = certificates.pair("old", begin=timedelta(days=-9), end=timedelta(days=-2))
    (warning,) = certificate_warnings(settings(expired))
    assert f"in {expired.certfile} expired at 20" in warning
    early = certificates.pair("new", begin=timedelta(days=2), end=timedelta(days=9))
    (warning,) = certificate_warnings(settings(early))
    assert f"in {early.certfile} is not valid before 20" in warning


def test_every_certificate_of_the_chain_is_looked_at(certificates: Certificates) -> None:
    good = certificates.pair("good")
    expired = certificates.pair("old", begin=timedelta(days=-9), end=timedelta(days=-2))
    with open(good.certfile, "a") as chain:
        chain.write(Path(expired.certfile).read_text())
    assert len(certificate_warnings(settings(good))) == 1


@pytest.mark.parametrize("years", [1, 20, 30, 2000])
def test_a_certificate_of_any_length_of_life_is_valid(
    certificates: Certificates, years: int
) -> None:
    """RFC 5280 section 4.1.2.5: from 2050 on times are written in another form."""
    long = certificates.pair(begin=timedelta(days=-3), end=timedelta(days=365 * years))
    assert certificate_warnings(settings(long)) == []
    future = certificates.pair(begin=timedelta(days=360 * years), end=timedelta(days=365 * years))
    assert len(certificate_warnings(settings(future))) == 1


def test_a_certificate_that_was_cut_off_is_never_a_traceback(certificates: Certificates) -> None:
    pair = certificates.pair()
    whole = ssl.PEM_cert_to_DER_cert(Path(pair.certfile).read_text())
    for size in range(len(whole)):
        Path(pair.certfile).write_text(ssl.DER_cert_to_PEM_cert(whole[:size]))
        with contextlib.suppress(ConfigurationError):
            certificate_warnings(settings(pair))
        with pytest.raises(ConfigurationError):
            context(settings(pair))


def test_a_start_loads_no_library_that_it_does_not_need(certificates: Certificates) -> None:
    """What reads certificates costs 30 ms and 10 MiB; the engines that are not chosen, 15 ms."""
    pair = certificates.pair()
    script = (
        "import sys, h2asgi\n"
        "async def app(scope, receive, send): pass\n"
        f"files = {{'certfile': {pair.certfile!r}, 'keyfile': {pair.keyfile!r}}}\n"
        "config = h2asgi.make_config(app, port=0, http2=False, http1_engine='h11',"
        " tls_engine='ssl', **files)\n"
        "server = h2asgi.Server(app, config)\n"
        "server.prepare()\n"
        "server.close_sockets()\n"
        "print(*sorted(sys.modules))"
    )
    # Without what measures coverage in processes that are started: it reads TOML.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    command = [sys.executable, "-c", script]
    loaded = subprocess.check_output(command, env=environment, text=True).split()
    assert "h11" in loaded
    assert not {"cryptography", "trustme", "h2", "hpack", "ngh2", "tomllib"} & set(loaded)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """The choice of an engine, made anew."""
    monkeypatch.undo()
    tls._find_engine.cache_clear()
    yield lambda choice: tls.engine_name(TLSConfig(engine=choice))
    tls._find_engine.cache_clear()


@pytest.mark.parametrize("version", [(3, 4, 9), (3, 5, 0)])
def test_auto_is_the_newer_openssl(
    choose: Callable[[str], str],
    tls_engine: str,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
) -> None:
    pytest.importorskip("OpenSSL")
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", version)
    assert choose("auto") == ("pyopenssl" if version < (3, 5) else "ssl")
    assert choose(tls_engine) == tls_engine


@pytest.mark.skipif(COMPILED, reason="a compiled module is not imported twice")
def test_an_engine_that_is_missing_is_named(
    choose: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    monkeypatch.delitem(sys.modules, "h2asgi.tls_pyopenssl", raising=False)
    monkeypatch.delattr("h2asgi.tls_pyopenssl", raising=False)
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (3, 0, 0))
    assert choose("auto") == "ssl"
    with pytest.raises(ConfigurationError) as caught:
        choose("pyopenssl")
    assert str(caught.value) == (
        "--tls-engine pyopenssl needs pyOpenSSL: pip install 'h2asgi[fast]'"
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_renewed_pair_is_shown_and_sessions_go_on(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    pair = settings(certificates.pair())
    server, peer = context(pair), client(certificates, "h2")
    peer.minimum_version = peer.maximum_version = version
    ours, theirs = handshake(server, peer)
    assert not ours.resumed
    certificates.pair(end=timedelta(days=90))
    renewed = key_pairs.read(pair)
    key_pairs.replace_all(server, renewed, check_authority=False)
    resumed, _ = handshake(server, peer, theirs.session)
    assert resumed.resumed
    assert resumed.alpn() == "h2"
    anew, seen = handshake(server, peer)
    assert not anew.resumed
    assert seen.getpeercert(True) == renewed[0].leaf != theirs.getpeercert(True)
    assert anew.server_cert != ours.server_cert


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_data_goes_both_ways_and_ends(
    certificates: Certificates, version: ssl.TLSVersion, tls_engine: str
) -> None:
    peer = client(certificates)
    peer.minimum_version = peer.maximum_version = version
    ours, _ = handshake(context(settings(certificates.pair())), peer)
    assert (ours.pending, ours.unsent) == (0, 0)
    assert ours.version() == version.name.replace("v1_", "v1.")
    older = version == ssl.TLSVersion.TLSv1_2
    assert ours.cipher().endswith("GCM-SHA384" if older else TLS_1_3[tls_engine])
    buffer = memoryview(bytearray(100))
    assert ours.read(buffer, 0) == 0
    assert ours.write(memoryview(bytes(100_000))) == 100_000
    assert ours.unsent > 100_000
    first = bytes(ours.data_to_send(memoryview(bytearray(60_000))))
    assert len(first) + ours.unsent > 100_000
    ours.receive(memoryview(b"no record at all"), 16)
    with pytest.raises(ssl.SSLError):
        ours.read(buffer, 50)
    ours.close_notify()


def test_an_error_has_no_hold_on_buffers(certificates: Certificates) -> None:
    """Or Python 3.11 may crash when it collects the traceback, see ``tls_pyopenssl._pointer``."""
    ours, _ = handshake(context(settings(certificates.pair())), client(certificates))
    given, taken = memoryview(b"no record at all"), memoryview(bytearray(100))
    ours.receive(given, 16)
    with pytest.raises(ssl.SSLError) as reading:
        ours.read(taken, 0)
    sent = memoryview(b"never")
    with pytest.raises(ssl.SSLError) as writing:
        ours.write(sent)
    assert reading.tb
    assert writing.tb
    for view in (given, taken, sent):
        view.release()
