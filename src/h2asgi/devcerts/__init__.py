"""Certificates for local development: an authority of the user's own, and leaves from it.

The authority is made once, in the user's data folder, and is all that has to
be trusted. It can vouch for names that no site of the internet has, and for those that
the user asks for. Leaves are issued as they are needed, and renewed in time.

``python -m h2asgi.devcerts DIR [NAMES...]`` writes a pair for other programs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..config import TLSConfig
from ..errors import ConfigurationError
from .authority import CLOCK_SKEW, ORGANIZATION, open_authority, permissions, trustme_ca
from .names import LOCAL_NAMES, machine_name, normalized
from .storage import DATA_DIR_VARIABLE, exclusive, folder, make_private, write

if TYPE_CHECKING:
    import trustme

LEAF_LIFE = timedelta(days=397)
"""Browsers refuse more than 398 days (CA/Browser Forum Baseline Requirements, section 6.3.2)."""

RENEWAL = timedelta(days=60)
"""A leaf with less than this left is replaced at the next start."""

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
    return folder() / "ca.pem"


def development_pair(names: Iterable[str] = ()) -> DevCert:
    """Give a pair for this machine and ``names``, made or renewed if need be.

    Raises ConfigurationError when trustme is not installed, a name cannot be
    in a certificate, or the data folder cannot be used.
    """
    trustme_ca()
    wanted = {*LOCAL_NAMES, *map(normalized, names)}
    place = folder()
    try:
        make_private(place)
        # The authority has to be the same for all that start at once.
        with exclusive(place / "lock"):
            issuer = open_authority(place, sorted(wanted), LEAF_LIFE)
            covered = _with_machine_name(wanted, issuer)
            leaf = place / f"leaf-{_digest(covered)}.pem"
            if not _is_good_leaf(leaf, issuer):
                write(leaf, _issue(issuer, covered), mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot keep development certificates in {place}: {error.strerror};"
            f" name another folder with {DATA_DIR_VARIABLE}"
        ) from None
    return DevCert(place / "ca.pem", leaf, leaf)


def _with_machine_name(names: set[str], issuer: trustme.CA) -> list[str]:
    """Add it if the authority permits it: names of machines come and go, and nobody asked."""
    machine = machine_name()
    permitted = permissions(x509.load_pem_x509_certificate(issuer.cert_pem.bytes()))
    if machine is not None and permitted is not None and machine in permitted:
        names = names | {machine}
    return sorted(names)


def _digest(names: Sequence[str]) -> str:
    """Every set of names has a leaf of its own, so that two servers do not take turns renewing."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _issue(issuer: trustme.CA, names: Sequence[str]) -> bytes:
    begin = datetime.now(UTC) - CLOCK_SKEW
    leaf = issuer.issue_cert(
        *names,
        organization_name=ORGANIZATION,
        organization_unit_name="leaf",
        not_before=begin,
        not_after=begin + LEAF_LIFE,
    )
    return leaf.private_key_and_cert_chain_pem.bytes()


def _is_good_leaf(file: Path, issuer: trustme.CA) -> bool:
    """Whether the leaf is whole, from this authority and valid for a while; its name says for whom.

    A leaf that was written for other names has another file name.
    """
    try:
        data = file.read_bytes()
        leaf = x509.load_pem_x509_certificate(data)
        key = load_pem_private_key(data, None)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(issuer.cert_pem.bytes()))
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    now = datetime.now(UTC)
    return (
        key.public_key() == leaf.public_key()
        and leaf.not_valid_before_utc <= now
        and leaf.not_valid_after_utc > now + RENEWAL
    )


def write_pair(target: Path, names: Iterable[str] = ()) -> DevCert:
    """Copy the authority's certificate and a pair into ``target``, for other programs.

    Raises ConfigurationError, also when a file there was not written by this function.
    """
    pair = development_pair(names)
    data = pair.certfile.read_bytes()
    copies = DevCert(target / "ca.pem", target / "cert.pem", target / "key.pem")
    try:
        target.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(copies)
        write(copies.ca_file, pair.ca_file.read_bytes(), mode=0o644)
        write(copies.certfile, _blocks(data, key=False), mode=0o644)
        write(copies.keyfile, _blocks(data, key=True), mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {target}: {error.strerror}") from None
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
