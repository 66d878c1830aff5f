"""devcerts.py: one authority for each user, leaves that are reused and renewed in time."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import SubjectAlternativeName

from h2asgi import devcerts
from h2asgi.config import TLSConfig
from h2asgi.devcerts import (
    LEAF_LIFE,
    RENEWAL,
    authority,
    development_pair,
    resolve,
    trust,
    write_pair,
)
from h2asgi.devcerts import __main__ as command
from h2asgi.errors import ConfigurationError
from h2asgi.tls import certificate_warnings, create_context


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def names(file: Path) -> set[str]:
    extension = certificate(file).extensions.get_extension_for_class(SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Append a timedelta to move the clock of devcerts.py."""
    moved: list[timedelta] = []

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return sum(moved, datetime.now(UTC))

    monkeypatch.setattr(devcerts, "datetime", Clock)
    monkeypatch.setattr(authority, "datetime", Clock)
    return moved


def test_a_pair_serves_and_its_authority_is_what_a_client_trusts() -> None:
    tls = resolve(TLSConfig(dev_cert=True, min_version="1.3"))
    assert (tls.dev_cert, tls.min_version, tls.enabled) == (False, "1.3", True)
    assert create_context(tls, http1=True, http2=True)
    assert certificate_warnings(tls) == []
    assert tls.certfile is not None
    certificate(Path(tls.certfile)).verify_directly_issued_by(certificate(devcerts.ca_file()))


def test_resolve_leaves_other_certificates_alone() -> None:
    tls = TLSConfig(certfile="c", keyfile="k")
    assert resolve(tls) is tls
    assert not devcerts.ca_file().exists()


def test_the_leaf_is_for_the_loopback_the_machine_and_the_given_names() -> None:
    pair = development_pair(
        ["App.Test.", "*.app.test", "192.168.1.20", "2001:db8::0", "bücher.test"]
    )
    assert names(pair.certfile) == {
        "localhost",
        "127.0.0.1",
        "::1",
        socket.gethostname().lower(),
        "app.test",
        "*.app.test",
        "192.168.1.20",
        "2001:db8::",
        "xn--bcher-kva.test",
    }
    extension = certificate(pair.certfile).extensions.get_extension_for_class(
        SubjectAlternativeName
    )
    assert ip_address("::1") in extension.value.get_values_for_type(x509.IPAddress)


def test_a_machine_name_that_no_certificate_can_hold_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "My_Machine")
    assert names(development_pair().certfile) == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "name", ["", "a b", "app.test:8443", "me@app.test", "10.0.0.0/8", "a_b.test", "-", "x" * 64]
)
def test_a_name_that_no_certificate_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be"):
        development_pair([name])


def constraints(pair: devcerts.DevCert) -> x509.NameConstraints:
    found = certificate(pair.ca_file).extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    return found.value


def test_the_authority_can_vouch_for_nothing_on_the_internet_but_what_was_asked_for() -> None:
    pair = development_pair(["shop.example.com", "203.0.113.9", "app.test", "192.168.1.20"])
    permitted = {str(name.value) for name in constraints(pair).permitted_subtrees or []}
    machine = {socket.gethostname().lower()}
    assert permitted - machine == {
        *("home.arpa", "internal", "local", "localhost", "test", "shop.example.com"),
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10", "203.0.113.9/32"),
    }


@pytest.mark.parametrize("name", ["a.test", "*.b.localhost", "box.local", "10.1.2.3", "fe80::1"])
def test_names_that_are_private_need_no_other_authority(name: str) -> None:
    before = development_pair().ca_file.read_bytes()
    assert development_pair([name]).ca_file.read_bytes() == before


def test_a_name_of_the_internet_needs_another_authority_which_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = development_pair(["one.example"])
    before = first.ca_file.read_bytes()
    assert development_pair(["*.deep.one.example"]).ca_file.read_bytes() == before
    assert not caplog.records
    second = development_pair(["two.example", "*.three.example"])
    assert second.ca_file.read_bytes() != before
    (record,) = caplog.records
    assert "may not vouch for *.three.example, two.example: there is a new one" in record.message
    after = second.ca_file.read_bytes()
    assert development_pair(["one.example"]).ca_file.read_bytes() == after  # it can do so, too
    certificate(first.certfile).verify_directly_issued_by(certificate(second.ca_file))


def test_an_authority_that_may_do_anything_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    import trustme

    pair = development_pair()
    unbound = trustme.CA()
    file = pair.ca_file.parent / "authority.pem"
    file.write_bytes(unbound.private_key_pem.bytes() + unbound.cert_pem.bytes())
    assert constraints(development_pair())
    assert "there is a new one" in caplog.text


def test_a_machine_name_that_came_later_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "one.example")
    pair = development_pair()
    assert "one.example" in names(pair.certfile)
    before = pair.ca_file.read_bytes()
    monkeypatch.setattr(socket, "gethostname", lambda: "two.example")
    later = development_pair()
    assert later.ca_file.read_bytes() == before
    assert names(later.certfile) == {"localhost", "127.0.0.1", "::1"}


def verified(leaf: devcerts.DevCert, name: str) -> None:
    """Shake hands as a client of ``name`` that trusts the authority; raises SSLError."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(leaf.certfile, leaf.keyfile)
    client = ssl.create_default_context(cafile=str(leaf.ca_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(one, other, server_hostname=name),
        server.wrap_bio(other, one, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def test_python_accepts_what_is_permitted_and_nothing_else(tmp_path: Path) -> None:
    pair = development_pair(["a.test", "*.b.example"])
    for name in ("localhost", "127.0.0.1", "::1", "a.test", "x.b.example"):
        verified(pair, name)
    stolen = (pair.ca_file.parent / "authority.pem").read_bytes()
    for name in ("bank.example", "203.0.113.9"):
        forged = tmp_path / "forged.pem"
        leaf = authority.trustme_ca().from_pem(stolen, stolen).issue_cert(name)
        forged.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            verified(devcerts.DevCert(pair.ca_file, forged, forged), name)


def test_the_leaf_lives_no_longer_than_browsers_accept() -> None:
    leaf = certificate(development_pair().certfile)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=397)


def test_keys_are_readable_by_their_owner_only() -> None:
    pair = development_pair()
    folder = pair.ca_file.parent
    assert mode(folder) == 0o700
    with_key = [file for file in folder.iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    assert sorted(with_key) == sorted([folder / "authority.pem", pair.keyfile])
    assert {mode(file) for file in with_key} == {0o600}
    assert pair.ca_file not in with_key


def test_modes_that_were_loosened_are_put_right() -> None:
    folder = development_pair().ca_file.parent
    folder.chmod(0o755)
    (folder / "authority.pem").chmod(0o644)
    development_pair()
    assert (mode(folder), mode(folder / "authority.pem")) == (0o700, 0o600)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_authority_and_leaf_are_reused() -> None:
    pair = development_pair(["b.test", "a.test"])
    before = contents(pair.ca_file.parent)
    assert development_pair(["a.test", "b.test"]) == pair
    assert contents(pair.ca_file.parent) == before


def test_further_names_get_a_leaf_of_the_same_authority_beside_the_first() -> None:
    first = development_pair()
    before, authority = first.certfile.read_bytes(), first.ca_file.read_bytes()
    second = development_pair(["app.test"])
    assert "app.test" in names(second.certfile)
    assert first.certfile.read_bytes() == before
    assert second.ca_file.read_bytes() == authority


def test_the_leaf_is_renewed_before_it_expires(later: list[timedelta]) -> None:
    pair = development_pair()
    before = pair.certfile.read_bytes()
    later.append(LEAF_LIFE - RENEWAL - timedelta(days=1))
    assert development_pair().certfile.read_bytes() == before
    later.append(timedelta(days=2))
    development_pair()
    renewed = certificate(pair.certfile)
    assert renewed.not_valid_after_utc > datetime.now(UTC) + LEAF_LIFE
    renewed.verify_directly_issued_by(certificate(pair.ca_file))


def test_a_leaf_from_the_future_is_replaced(later: list[timedelta]) -> None:
    later.append(timedelta(days=30))
    before = development_pair().certfile.read_bytes()
    later.append(timedelta(days=-30))
    assert development_pair().certfile.read_bytes() != before


def test_a_leaf_of_another_authority_is_replaced() -> None:
    pair = development_pair()
    (pair.ca_file.parent / "authority.pem").unlink()
    development_pair()
    certificate(pair.certfile).verify_directly_issued_by(certificate(pair.ca_file))


def test_an_authority_that_expires_before_its_leaves_is_replaced(later: list[timedelta]) -> None:
    pair = development_pair()
    before = pair.ca_file.read_bytes()
    later.append(certificate(pair.ca_file).not_valid_after_utc - datetime.now(UTC) - LEAF_LIFE)
    development_pair()
    assert pair.ca_file.read_bytes() != before


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_damaged_file_is_made_anew(damage: bytes) -> None:
    pair = development_pair()
    for file in pair.ca_file.parent.iterdir():
        file.write_bytes(damage)
    tls = resolve(TLSConfig(dev_cert=True))
    assert create_context(tls, http1=True, http2=True)
    certificate(pair.certfile).verify_directly_issued_by(certificate(pair.ca_file))


def test_a_key_that_does_not_belong_to_its_certificate_is_not_served(tmp_path: Path) -> None:
    pair, other = development_pair(), development_pair(["other.test"])
    blocks = devcerts._blocks
    mixed = blocks(pair.certfile.read_bytes(), key=False) + blocks(
        other.keyfile.read_bytes(), key=True
    )
    pair.certfile.write_bytes(mixed)
    development_pair()
    assert pair.certfile.read_bytes() != mixed
    file, before = pair.ca_file.parent / "authority.pem", pair.ca_file.read_bytes()
    file.write_bytes(before + blocks(mixed, key=True))
    development_pair()
    assert pair.ca_file.read_bytes() != before


def test_processes_that_start_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    script = "from h2asgi.devcerts import *; print(development_pair().certfile.read_text())"
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)
    ]
    leaves = {process.communicate(timeout=60)[0].strip() for process in started}
    assert {process.returncode for process in started} == {0}
    assert len(leaves) == 1
    x509.load_pem_x509_certificate(leaves.pop()).verify_directly_issued_by(
        certificate(devcerts.ca_file())
    )


def test_without_trustme_the_operator_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigurationError, match=r'need trustme: pip install "h2asgi\[dev\]"'):
        development_pair()


def test_a_folder_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("H2ASGI_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(
        ConfigurationError, match=r"keep development certificates in .*name another folder with H2A"
    ):
        development_pair()


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        development_pair()


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        development_pair()
    assert [file.name for file in devcerts.ca_file().parent.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/h2asgi/devcerts"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "/home/me/.local/share/h2asgi/devcerts"),
        ("linux", {}, "/home/me/.local/share/h2asgi/devcerts"),
        ("darwin", {}, "/home/me/Library/Application Support/h2asgi/devcerts"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/h2asgi/devcerts"),
        ("win32", {}, "/home/me/AppData/Local/h2asgi/devcerts"),
    ],
)
def test_the_data_folder_is_the_platforms(
    platform: str, variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("H2ASGI_DATA_DIR", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert devcerts.ca_file() == Path(folder) / "ca.pem"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError

    monkeypatch.delenv("H2ASGI_DATA_DIR")
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(ConfigurationError, match="set H2ASGI_DATA_DIR"):
        development_pair()


def test_the_instructions_name_the_authority() -> None:
    text = trust.trust_instructions("/x y/ca.pem")
    assert "curl --cacert '/x y/ca.pem' https://localhost:8443/" in text
    for place in ("update-ca-certificates", "trust anchor", "macOS", "Windows", "Firefox"):
        assert place in text


@pytest.mark.parametrize(
    ("platform", "browsers"),
    [
        ("linux", "h2asgi --dev-cert-install"),
        ("darwin", "security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain"),
        ("win32", 'certutil -user -addstore Root "/x/ca.pem"'),
    ],
)
def test_the_start_up_lines_say_what_to_do_here(
    platform: str, browsers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    lines = trust.trust_hint("/x/ca.pem", "https://localhost:9443")
    assert browsers in lines[1]
    assert lines[2].endswith("curl --cacert /x/ca.pem https://localhost:9443")
    assert "SSL_CERT_FILE=/x/ca.pem REQUESTS_CA_BUNDLE=/x/ca.pem" in lines[3]
    assert all(len(line) < 200 for line in lines)


def run_devcerts(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h2asgi.devcerts", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_module_writes_a_pair_for_other_programs(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    done = run_devcerts(str(folder), "app.test")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert f"wrote {folder / name}\n" in done.stdout
    assert "curl --cacert" in done.stdout
    assert mode(folder / "key.pem") == 0o600
    assert {"app.test", "localhost"} < names(folder / "cert.pem")
    assert "PRIVATE" not in (folder / "cert.pem").read_text() + (folder / "ca.pem").read_text()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    assert (folder / "ca.pem").read_bytes() == devcerts.ca_file().read_bytes()


def test_a_pair_written_again_is_the_same_until_it_is_renewed(tmp_path: Path) -> None:
    copies = write_pair(tmp_path / "certs")
    before = contents(tmp_path / "certs")
    assert write_pair(tmp_path / "certs") == copies
    assert contents(tmp_path / "certs") == before


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_somebody_elses_files_are_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigurationError, match="were not made here"):
        write_pair(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_somebody_elses_certificate_is_not_written_over(tmp_path: Path) -> None:
    import trustme

    foreign = tmp_path / "cert.pem"
    trustme.CA().cert_pem.write_to_path(foreign)
    with pytest.raises(ConfigurationError, match="were not made here"):
        write_pair(tmp_path)


def test_the_modules_errors_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert command.main([str(tmp_path / "file")]) == 2
    assert re.fullmatch(r"h2asgi: cannot write to .*file: .*\n", capsys.readouterr().err)


def test_the_module_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: python -m h2asgi.devcerts DIR [NAMES...]")
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_where_browsers_ask_the_system_the_command_is_printed(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    pair = development_pair()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("LOCALAPPDATA", "/nowhere")
    monkeypatch.setattr(trust, "development_pair", lambda names: pair)
    assert trust.install((), said.append) == 0
    add = {"win32": "certutil -user -addstore Root", "darwin": "security add-trusted-cert"}
    assert any(add[platform] in line and str(pair.ca_file) in line for line in said)
    said.clear()
    assert trust.uninstall(pair.ca_file, said.append) == 0
    take = {"win32": "certutil -user -delstore Root", "darwin": "security delete-certificate -c"}
    name = authority.common_name(certificate(pair.ca_file))
    assert any(take[platform] in line and name in line for line in said)
    said.clear()
    assert trust.uninstall(Path("/nowhere/ca.pem"), said.append) == 0
    assert any(take[platform] in line for line in said)
