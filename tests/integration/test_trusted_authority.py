"""The authority of development certificates in the stores of browsers, put there by the command."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from apps.letters import HANG
from browser import document
from serving import Command, without_options

from h2asgi.devcerts import development_pair
from h2asgi.devcerts.authority import trustme_ca

PAGE = "test_browser:app"

pytestmark = [pytest.mark.tool("certutil")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that has nothing in it."""
    for name in ("H2ASGI_DATA_DIR", "XDG_DATA_HOME", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def h2asgi(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h2asgi", *arguments],
        env=without_options(),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def listed(store: Path) -> list[str]:
    """The nicknames of our authorities in a store, and what they are trusted for."""
    command = ["certutil", "-d", f"sql:{store}", "-L"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True)
    return re.findall(r"^h2asgi development authority .*", done.stdout, re.MULTILINE)


def make_store(folder: Path, *options: str) -> Path:
    folder.mkdir(parents=True)
    command = ["certutil", "-d", f"sql:{folder}", "-N", *(options or ("--empty-password",))]
    subprocess.run(command, timeout=HANG, check=True, capture_output=True)
    return folder


@pytest.mark.tool("chromium")
def test_chromium_opens_the_page_once_the_authority_is_installed(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    server = command(PAGE, "--dev-cert", tls=False)
    url = f"https://localhost:{server.port}/"
    still = "--virtual-time-budget=20000"
    assert "h2 50 1048576" not in document(url, tmp_path / "before", still)
    assert h2asgi("--dev-cert-install").returncode == 0
    assert "h2 50 1048576 event 2" in document(url, tmp_path / "after", still)
    assert h2asgi("--dev-cert-uninstall").returncode == 0
    assert "h2 50 1048576" not in document(url, tmp_path / "undone", still)


@pytest.mark.tool("firefox-esr")
def test_firefox_asks_for_the_page_once_the_authority_is_installed(
    command: Callable[..., Command], home: Path
) -> None:
    log = home / "access.log"
    server = command(PAGE, "--dev-cert", "--access-log-file", str(log), tls=False)

    def visit(url: str) -> None:
        firefox = ["firefox-esr", "--headless", "--screenshot", str(home / "shot.png"), url]
        subprocess.run(firefox, timeout=HANG, check=True, capture_output=True)

    visit("about:blank")  # which makes a profile
    assert h2asgi("--dev-cert-install").stdout.count("trusted by Firefox: ") == 1
    visit(f"https://localhost:{server.port}/version")
    assert '"GET /version HTTP/2" 200' in log.read_text()


@pytest.mark.tool("chromium")
@pytest.mark.tool("curl")
def test_whoever_steals_the_authority_is_no_site_of_the_internet(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    assert h2asgi("--dev-cert-install", "--dev-cert-name", "shop.example").returncode == 0
    ca_file = development_pair().ca_file
    stolen = (ca_file.parent / "authority.pem").read_bytes()
    for name, taken in (("shop.example", True), ("bank.example", False)):
        pem = str(tmp_path / f"{name}.pem")
        issuer = trustme_ca().from_pem(stolen, stolen)
        issuer.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(pem)
        server = command(PAGE, "--certfile", pem, "--host", "127.0.0.1", tls=False)
        url = f"https://{name}:{server.port}/version"
        rules = f"--host-resolver-rules=MAP {name} 127.0.0.1"
        assert ("<pre>2</pre>" in _plain(document(url, tmp_path / name, rules))) is taken
        where = f"{name}:{server.port}:127.0.0.1"
        curl = ["curl", "-sS", "--cacert", str(ca_file), "--resolve", where, url]
        done = subprocess.run(curl, capture_output=True, text=True, timeout=HANG, check=False)
        assert (done.returncode == 0) is taken, done.stderr
        assert taken or "permitted subtree violation" in done.stderr


def _plain(page: str) -> str:
    return re.sub(r"<pre [^>]*>", "<pre>", page)


def test_every_store_of_the_user_is_found(home: Path) -> None:
    stores = [
        make_store(home / path)
        for path in (
            ".pki/nssdb",
            "snap/chromium/current/.pki/nssdb",
            ".var/app/com.google.Chrome/.pki/nssdb",
            ".mozilla/firefox/abcd.default-release",
            ".config/mozilla/firefox/abcd.default",
            "snap/firefox/common/.mozilla/firefox/abcd.default",
            ".var/app/org.mozilla.firefox/.mozilla/firefox/abcd.default",
        )
    ]
    (home / ".mozilla/firefox/Crash Reports").mkdir()
    done = h2asgi("--dev-cert-install")
    assert (done.returncode, done.stderr) == (0, "")
    for store in stores:
        assert f": {store} has h2asgi development authority " in done.stdout
        (line,) = listed(store)
        assert line.rstrip().endswith(" C,,")
    assert done.stdout.count("trusted by Firefox: ") == 4
    assert done.stdout.count("trusted by Chromium: ") == 3
    assert "sudo cp " in done.stdout
    assert h2asgi("--dev-cert-install").stdout == done.stdout  # and once more is no other thing
    assert [len(listed(store)) for store in stores] == [1] * 7
    undone = h2asgi("--dev-cert-uninstall")
    assert (undone.returncode, undone.stderr) == (0, "")
    assert undone.stdout.count("taken out of ") == 7
    assert "sudo rm /usr/local/share/ca-certificates/h2asgi.crt" in undone.stdout
    assert [listed(store) for store in stores] == [[]] * 7
    assert "No browser of yours has the authority." in h2asgi("--dev-cert-uninstall").stdout


def test_a_store_where_newer_chromium_keeps_it_is_taken(home: Path) -> None:
    store = make_store(home / ".local/share/pki/nssdb")
    assert h2asgi("--dev-cert-install").returncode == 0
    assert len(listed(store)) == 1
    assert not (home / ".pki").exists()


def test_a_new_authority_is_installed_beside_the_old_one_which_is_said(home: Path) -> None:
    assert h2asgi("--dev-cert-install").returncode == 0
    done = h2asgi("--dev-cert-install", "--dev-cert-name", "shop.example")
    assert done.returncode == 0
    assert "may not vouch for shop.example: there is a new one" in done.stderr
    assert "and older ones, which --dev-cert-uninstall takes out: h2asgi dev" in done.stdout
    assert len(listed(home / ".pki/nssdb")) == 2
    h2asgi("--dev-cert-uninstall")
    assert listed(home / ".pki/nssdb") == []


def test_a_store_that_cannot_be_written_is_said_and_the_others_are_done(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret")
    locked = make_store(
        home / ".mozilla/firefox/locked",
        "-f",
        str(tmp_path / "password"),
        "-@",
        str(tmp_path / "password"),
    )
    broken = home / ".mozilla/firefox/broken"
    broken.mkdir()
    (broken / "cert9.db").write_text("not a database")
    done = h2asgi("--dev-cert-install")
    assert done.returncode == 1
    assert f"not trusted by Firefox: {broken}: " in done.stdout
    assert "use Settings, Privacy & Security, View Certificates, Authorities" in done.stdout
    assert "trusted by Chromium: " in done.stdout
    assert str(locked) in done.stdout
    assert h2asgi("--dev-cert-uninstall").returncode == 1


def test_a_missing_certutil_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = h2asgi("--dev-cert-install")
    assert done.returncode == 2
    assert re.fullmatch(
        r"h2asgi: --dev-cert-install needs certutil: apt install libnss3-tools, .*\n", done.stderr
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m h2asgi --dev-cert-install | true"
    environment = without_options()
    done = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.stderr == ""


def test_both_at_once_is_a_mistake() -> None:
    done = h2asgi("--dev-cert-install", "--dev-cert-uninstall")
    assert (done.returncode, done.stdout) == (2, "")
    assert "exclude each other" in done.stderr
