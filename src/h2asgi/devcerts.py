"""Certificates for local development: an authority of the user's own, and leaves from it.

The authority is made once, in the user's data folder, and is all that has to
be trusted by hand. Leaves are issued as they are needed, and renewed in time.

``python -m h2asgi.devcerts DIR [NAMES...]`` writes a pair for other programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
)

from .config import TLSConfig
from .errors import ConfigurationError

if TYPE_CHECKING:
    import trustme

DATA_DIR_VARIABLE = "H2ASGI_DATA_DIR"

LEAF_LIFE = timedelta(days=397)
"""Browsers refuse more than 398 days (CA/Browser Forum Baseline Requirements, section 6.3.2)."""

RENEWAL = timedelta(days=60)
"""A leaf with less than this left is replaced at the next start."""

CLOCK_SKEW = timedelta(hours=1)
"""How far a leaf's life begins in the past, for a client whose clock is behind."""

ORGANIZATION = "h2asgi development certificates"

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_dns_name = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*").fullmatch
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DevCert:
    """Files in PEM format; ``certfile`` and ``keyfile`` may be one file."""

    ca_file: Path
    certfile: Path
    keyfile: Path


def resolve(tls: TLSConfig) -> TLSConfig:
    """Replace ``dev_cert`` by the files of a real pair; other settings come back as they are."""
    if not tls.dev_cert:
        return tls
    pair = development_pair(tls.dev_cert_names)
    return replace(tls, dev_cert=False, certfile=str(pair.certfile), keyfile=str(pair.keyfile))


def ca_file() -> Path:
    """Where the authority's certificate lies, or will lie."""
    return _folder() / "ca.pem"


def development_pair(names: Iterable[str] = ()) -> DevCert:
    """Give a pair for this machine and ``names``, made or renewed if need be.

    Raises ConfigurationError when trustme is not installed, a name cannot be
    in a certificate, or the data folder cannot be used.
    """
    wanted = _all_names(names)
    folder = _folder()
    try:
        _make_private(folder)
        # The authority has to be the same for all that start at once.
        with _exclusive(folder / "lock"):
            authority = _authority(folder)
            leaf = folder / f"leaf-{_digest(wanted)}.pem"
            if not _is_good_leaf(leaf, authority):
                _write(leaf, _issue(authority, wanted), mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot keep development certificates in {folder}: {error.strerror};"
            f" name another folder with {DATA_DIR_VARIABLE}"
        ) from None
    return DevCert(folder / "ca.pem", leaf, leaf)


def _folder() -> Path:
    """A folder of our own below the user's data folder, so that its mode is ours to set."""
    if own := os.environ.get(DATA_DIR_VARIABLE):
        return Path(own).absolute() / "devcerts"
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigurationError(
            f"there is no home folder for development certificates: set {DATA_DIR_VARIABLE}"
        ) from None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or "")
        if not base.is_absolute():  # to be ignored then (XDG Base Directory Specification)
            base = home / ".local" / "share"
    return base / "h2asgi" / "devcerts"


def _make_private(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix":
        if folder.stat().st_uid != os.geteuid():
            # Its owner could put an authority there whose key is his.
            raise ConfigurationError(
                f"the folder {folder} belongs to another user: name one with {DATA_DIR_VARIABLE}"
            )
        folder.chmod(0o700)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; the system lets go of it when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Replace ``path`` whole: a reader sees the old contents or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")  # 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _trustme() -> type[trustme.CA]:
    try:
        import trustme
    except ImportError:
        raise ConfigurationError(
            'development certificates need trustme: pip install "h2asgi[dev]"'
        ) from None
    return trustme.CA


def _authority(folder: Path) -> trustme.CA:
    """Load the authority, or make it; ``ca.pem`` is its certificate without the key."""
    ca_class = _trustme()
    file = folder / "authority.pem"
    authority = _load_authority(file)
    if authority is None:
        authority = ca_class(
            path_length=0,
            organization_name=ORGANIZATION,
            organization_unit_name=f"made on {socket.gethostname() or 'this machine'}"[:64],
        )
        _write(file, authority.private_key_pem.bytes() + authority.cert_pem.bytes(), mode=0o600)
    elif os.name == "posix":
        file.chmod(0o600)
    public = folder / "ca.pem"
    certificate = authority.cert_pem.bytes()
    if not public.exists() or public.read_bytes() != certificate:
        _write(public, certificate, mode=0o644)
    return authority


def _load_authority(file: Path) -> trustme.CA | None:
    """Give the authority in ``file``, or None if it cannot issue a leaf that lives long enough."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(data)
        authority = _trustme().from_pem(data, data)
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        return None
    if key.public_key() != certificate.public_key():
        return None
    return authority if certificate.not_valid_after_utc > datetime.now(UTC) + LEAF_LIFE else None


def _all_names(names: Iterable[str]) -> tuple[str, ...]:
    """Give the loopback's names, the machine's and ``names``, each once, in a stable order."""
    machine = socket.gethostname().lower()
    found = set(_LOCAL_NAMES)
    if re.fullmatch(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*", machine):
        found.add(machine)
    found.update(_name(name) for name in names)
    return tuple(sorted(found))


def _name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    if not _dns_name(name):
        raise ConfigurationError(
            f"{text!r} cannot be in a certificate: give a host name or an address, without a port"
        )
    return name


def _digest(names: Sequence[str]) -> str:
    """Every set of names has a leaf of its own, so that two servers do not take turns renewing."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _issue(authority: trustme.CA, names: Sequence[str]) -> bytes:
    begin = datetime.now(UTC) - CLOCK_SKEW
    try:
        leaf = authority.issue_cert(
            *names,
            organization_name=ORGANIZATION,
            organization_unit_name="leaf",
            not_before=begin,
            not_after=begin + LEAF_LIFE,
        )
    except ValueError as error:  # idna's, for one of the names
        raise ConfigurationError(
            f"a certificate for {', '.join(names)} cannot be made: {error}"
        ) from None
    return leaf.private_key_and_cert_chain_pem.bytes()


def _is_good_leaf(file: Path, authority: trustme.CA) -> bool:
    """Whether the leaf is whole, from this authority and valid for a while; its name says for whom.

    A leaf that was written for other names has another file name.
    """
    try:
        data = file.read_bytes()
        leaf = x509.load_pem_x509_certificate(data)
        key = load_pem_private_key(data, None)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.cert_pem.bytes()))
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    now = datetime.now(UTC)
    return (
        key.public_key() == leaf.public_key()
        and leaf.not_valid_before_utc <= now
        and leaf.not_valid_after_utc > now + RENEWAL
    )


def trust_instructions(ca_file: Path | str) -> str:
    """Say how to make programs on this machine trust the authority in ``ca_file``."""
    return f"""\
Certificates for local development come from the authority in
  {ca_file}
Its key lies beside it and never leaves this machine: trust it here, and nowhere else.

curl            curl --cacert '{ca_file}' https://localhost:8443/
Python          SSL_CERT_FILE='{ca_file}' python client.py
Node.js         NODE_EXTRA_CA_CERTS='{ca_file}' node client.js
Debian, Ubuntu  sudo cp '{ca_file}' /usr/local/share/ca-certificates/h2asgi.crt
                sudo update-ca-certificates
Fedora, RHEL    sudo trust anchor '{ca_file}'
Chrome, Linux   certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n h2asgi -i '{ca_file}'
macOS           security add-trusted-cert -r trustRoot \\
                  -k ~/Library/Keychains/login.keychain-db '{ca_file}'
Windows         certutil -user -addstore Root "{ca_file}"
Firefox         Settings, Privacy & Security, View Certificates, Authorities, Import
"""


def trust_hint(ca_file: Path | str) -> str:
    """Say the same in one line, for the start of a server."""
    return (
        f"development certificate: trust {ca_file}, as in curl --cacert '{ca_file}';"
        " python -m h2asgi.devcerts --help shows how for other programs"
    )


def write_pair(folder: Path, names: Iterable[str] = ()) -> DevCert:
    """Copy the authority's certificate and a pair into ``folder``, for other programs.

    Raises ConfigurationError, also when a file there was not written by this function.
    """
    pair = development_pair(names)
    data = pair.certfile.read_bytes()
    copies = DevCert(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(copies)
        _write(copies.ca_file, pair.ca_file.read_bytes(), mode=0o644)
        _write(copies.certfile, _blocks(data, key=False), mode=0o644)
        _write(copies.keyfile, _blocks(data, key=True), mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}") from None
    return copies


def _blocks(data: bytes, *, key: bool) -> bytes:
    return b"".join(
        block.group() for block in _PEM_BLOCK.finditer(data) if block[1].endswith(b"KEY") is key
    )


def _refuse_foreign(copies: DevCert) -> None:
    """A certificate that somebody else made, and its key, must not be written over."""
    written = [file for file in (copies.ca_file, copies.certfile) if file.exists()]
    orphan_key = copies.keyfile.exists() and copies.certfile not in written
    if orphan_key or not all(map(_is_made_here, written)):
        raise ConfigurationError(
            f"{copies.certfile.parent} holds ca.pem, cert.pem or key.pem that were not made here:"
            " remove them or name another folder"
        )


def _is_made_here(file: Path) -> bool:
    try:
        issuer = x509.load_pem_x509_certificate(file.read_bytes()).issuer
    except ValueError:
        return False
    return ORGANIZATION in [attribute.value for attribute in issuer]


_USAGE = """\
Usage: python -m h2asgi.devcerts DIR [NAMES...]

Write ca.pem, cert.pem and key.pem into DIR: a certificate for localhost, 127.0.0.1, ::1,
this machine's name and NAMES.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m h2asgi.devcerts``; give its exit code."""
    try:
        if not arguments or arguments[0].startswith("-"):
            asked = arguments[:1] in (["-h"], ["--help"])
            print(_USAGE + "\n" + trust_instructions(ca_file()), file=None if asked else sys.stderr)
            return 0 if asked else 2
        folder = Path(arguments[0])
        copies = write_pair(folder, arguments[1:])
    except ConfigurationError as error:
        print(f"h2asgi: {error}", file=sys.stderr)
        return error.exit_code
    for file in (copies.ca_file, copies.certfile, copies.keyfile):
        print(f"wrote {file}")
    print("\n" + trust_instructions(ca_file()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
