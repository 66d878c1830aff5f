"""How to make programs trust the authority: what is said, and what is done for browsers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509

from . import development_pair, nss
from .authority import COMMON_NAME, common_name

_CRT = "/usr/local/share/ca-certificates/h2asgi.crt"
_KEYCHAIN = "~/Library/Keychains/login.keychain-db"


def trust_hint(ca_file: Path | str, url: str) -> list[str]:
    """Say it in a few lines, for the start of a server."""
    file = shlex.quote(str(ca_file))
    if sys.platform == "win32":
        browsers = f'certutil -user -addstore Root "{ca_file}"'
    elif sys.platform == "darwin":
        browsers = f"security add-trusted-cert -r trustRoot -k {_KEYCHAIN} {file}"
    else:
        browsers = "h2asgi --dev-cert-install"
    return [
        "the certificate is for development; its authority has to be trusted, once:",
        f"  browsers         {browsers}",
        f"  curl             curl --cacert {file} {url}",
        f"  httpx, requests  export SSL_CERT_FILE={file} REQUESTS_CA_BUNDLE={file}",
        "  everything else  python -m h2asgi.devcerts --help",
    ]


def trust_instructions(ca_file: Path | str) -> str:
    """Say how to make programs on this machine trust the authority in ``ca_file``."""
    file = shlex.quote(str(ca_file))
    return f"""\
Certificates for local development come from the authority in
  {ca_file}
Its key lies beside it and never leaves this machine: trust it here, and nowhere else.
It can vouch for names and addresses that no site of the internet has, and for the names
that you have asked for.

Browsers
  Linux           h2asgi --dev-cert-install
                    Chromium, Chrome and their kin, Firefox; --dev-cert-uninstall takes it back
  macOS           security add-trusted-cert -r trustRoot \\
                    -k {_KEYCHAIN} {file}
  Windows         certutil -user -addstore Root "{ca_file}"
  Firefox         by hand, on any system: Settings, Privacy & Security, View Certificates,
                    Authorities, Import

Programs
  curl            curl --cacert {file} https://localhost:8443/
  httpx           SSL_CERT_FILE={file} python client.py
  requests        REQUESTS_CA_BUNDLE={file} python client.py
  Node.js         NODE_EXTRA_CA_CERTS={file} node client.js

The whole system, on Linux
  Debian, Ubuntu  sudo cp {file} {_CRT}
                  sudo update-ca-certificates
  Fedora, RHEL    sudo trust anchor {file}
"""


def _for_the_system(ca_file: Path) -> str:
    """The command for the system's own store."""
    file = shlex.quote(str(ca_file))
    if sys.platform == "win32":
        return f'  certutil -user -addstore Root "{ca_file}"'
    if sys.platform == "darwin":
        return f"  security add-trusted-cert -r trustRoot -k {_KEYCHAIN} {file}"
    return (
        f"  sudo cp {file} {_CRT} && sudo update-ca-certificates   (Debian, Ubuntu)\n"
        f"  sudo trust anchor {file}   (Fedora, RHEL)"
    )


def _out_of_the_system(ca_file: Path) -> str:
    if sys.platform == "win32":
        return f'  certutil -user -delstore Root "{_name(ca_file)}"'
    if sys.platform == "darwin":
        return f"  security delete-certificate -c '{_name(ca_file)}'"
    file = shlex.quote(str(ca_file))
    return (
        f"  sudo rm {_CRT} && sudo update-ca-certificates --fresh   (Debian, Ubuntu)\n"
        f"  sudo trust anchor --remove {file}   (Fedora, RHEL)"
    )


def install(names: Iterable[str], say: Callable[[str], None]) -> int:
    """Have the user's browsers trust the authority, made if need be; give the exit code.

    Raises ConfigurationError.
    """
    found = nss.stores()
    if found:
        nss.need_certutil("--dev-cert-install")
    ca_file = development_pair(names).ca_file
    name = _name(ca_file)
    code = 0
    for store in found:
        try:
            former = nss.install(store, ca_file, name)
        except nss.StoreError as error:
            code = 1
            say(f"not trusted by {store.owner}: {store.folder}: {error}; {_by_hand(store)}")
        else:
            say(f"trusted by {store.owner}: {store.folder} has {name}")
            if former:
                say(f"  and older ones, which --dev-cert-uninstall takes out: {', '.join(former)}")
    if found:
        say("Browsers that are running have to be restarted.")
    say("For programs that ask the system, run")
    say(_for_the_system(ca_file))
    say("and for others: python -m h2asgi.devcerts --help")
    return code


def uninstall(ca_file: Path, say: Callable[[str], None]) -> int:
    """Take every authority of ours out of the user's browsers; give the exit code."""
    found = [store for store in nss.stores() if not store.missing]
    if found:
        nss.need_certutil("--dev-cert-uninstall")
    code = taken = 0
    for store in found:
        try:
            names = nss.remove(store)
        except nss.StoreError as error:
            code = 1
            say(f"not taken out of {store.owner}: {store.folder}: {error}; {_by_hand(store)}")
        else:
            taken += len(names)
            for name in names:
                say(f"taken out of {store.owner}: {store.folder} has {name} no more")
    if not taken and not code:
        say("No browser of yours has the authority.")
    say("If the system was told to trust it, run")
    say(_out_of_the_system(ca_file))
    return code


def _name(ca_file: Path) -> str:
    """What programs call the authority; without the end of it when its file is gone."""
    try:
        return common_name(x509.load_pem_x509_certificate(ca_file.read_bytes()))
    except (OSError, ValueError):
        return COMMON_NAME


def _by_hand(store: nss.Store) -> str:
    if store.owner == "Firefox":
        return "use Settings, Privacy & Security, View Certificates, Authorities"
    return "use Settings, Privacy and security, Security, Manage certificates"
