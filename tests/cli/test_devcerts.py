"""devcerts.py: one authority for each user, leaves that are reused and renewed in time."""

from __future__ import annotations

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
from h2asgi.devcerts import LEAF_LIFE, RENEWAL, development_pair, resolve, write_pair
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
    authority = pair.ca_file.parent / "authority.pem"
    authority.write_bytes(pair.ca_file.read_bytes() + blocks(mixed, key=True))
    assert devcerts._load_authority(authority) is None


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
    text = devcerts.trust_instructions("/x/ca.pem")
    assert "curl --cacert '/x/ca.pem' https://localhost:8443/" in text
    for place in ("update-ca-certificates", "trust anchor", "macOS", "Windows", "Firefox"):
        assert place in text
    hint = devcerts.trust_hint("/x/ca.pem")
    assert "--cacert '/x/ca.pem'" in hint
    assert "\n" not in hint


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
    assert devcerts.main([str(tmp_path / "file")]) == 2
    assert re.fullmatch(r"h2asgi: cannot write to .*file: .*\n", capsys.readouterr().err)


def test_the_module_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert devcerts.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: python -m h2asgi.devcerts DIR [NAMES...]")
    assert devcerts.main([]) == 2
    assert capsys.readouterr().err.startswith("Usage: ")
