"""The authority of development certificates: made once, and constrained to what it is for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import ConfigurationError
from .names import Permitted, machine_name
from .storage import write

if TYPE_CHECKING:
    import trustme

logger = logging.getLogger("h2asgi")

ORGANIZATION = "h2asgi development certificates"

COMMON_NAME = "h2asgi development authority"
"""With a part of the key's hash behind it: two authorities of a name would be taken for one."""

LIFE = timedelta(days=3650)

CLOCK_SKEW = timedelta(hours=1)
"""How far a life begins in the past, for a client whose clock is behind."""


def trustme_ca() -> type[trustme.CA]:
    """Give the class that issues certificates; raises ConfigurationError if it is not there."""
    try:
        import trustme
    except ImportError:
        raise ConfigurationError(
            'development certificates need trustme: pip install "h2asgi[dev]"'
        ) from None
    return trustme.CA


def open_authority(folder: Path, names: Sequence[str], lasting: timedelta) -> trustme.CA:
    """Load the one in ``folder``, or make it, for ``names`` and at least ``lasting``.

    ``ca.pem`` is its certificate without the key.
    """
    file, public = folder / "authority.pem", folder / "ca.pem"
    pem = _read(file, lasting)
    machine = machine_name()
    permitted = Permitted.for_names(names if machine is None else [*names, machine])
    if pem is not None:
        before = permissions(x509.load_pem_x509_certificate(pem))
        foreign = [name for name in names if before is None or name not in before]
        if foreign:
            _say_replaced(foreign)
            permitted = permitted if before is None else permitted | before
            pem = None
    if pem is None:
        pem = _make(permitted)
        write(file, pem, mode=0o600)
    elif os.name == "posix":
        file.chmod(0o600)
    made = trustme_ca().from_pem(pem, pem)
    certificate = made.cert_pem.bytes()
    if not public.exists() or public.read_bytes() != certificate:
        write(public, certificate, mode=0o644)
    return made


def _say_replaced(foreign: Sequence[str]) -> None:
    logger.warning(
        "the authority of the development certificates may not vouch for %s: there is a new one,"
        " which has to be trusted anew, as by h2asgi --dev-cert-install",
        ", ".join(foreign),
    )


def _read(file: Path, lasting: timedelta) -> bytes | None:
    """Give key and certificate, or None if they cannot issue a leaf that lives long enough."""
    try:
        pem = file.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    now = datetime.now(UTC)
    lives = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - lasting
    return pem if lives and key.public_key() == certificate.public_key() else None


def permissions(certificate: x509.Certificate) -> Permitted | None:
    """Read what an authority may vouch for; None if nothing says so, which is everything."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return None
    subtrees = found.value.permitted_subtrees or []
    return Permitted(
        [name.value for name in subtrees if isinstance(name, x509.DNSName)],
        [name.value for name in subtrees if isinstance(name, x509.IPAddress)],  # type: ignore[misc]
    )


def common_name(certificate: x509.Certificate) -> str:
    """Give the name that programs show an authority by."""
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def _make(permitted: Permitted) -> bytes:
    """Make a key and a certificate of its own, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made_on = f"made on {machine_name() or 'this machine'}"[:64]  # the most that X.520 allows
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, made_on),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{COMMON_NAME} {identifier.digest.hex()[:8]}"),
        ]
    )
    begin = datetime.now(UTC) - CLOCK_SKEW
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFE)
    )
    critical: tuple[x509.ExtensionType, ...] = (
        x509.BasicConstraints(ca=True, path_length=0),
        _key_usage(),
        _name_constraints(permitted),
    )
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    usages = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    builder = builder.add_extension(usages, critical=False)
    builder = builder.add_extension(identifier, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ) + certificate.public_bytes(Encoding.PEM)


def _name_constraints(permitted: Permitted) -> x509.NameConstraints:
    domains = [x509.DNSName(name) for name in sorted(permitted.domains)]
    networks = [x509.IPAddress(net) for net in sorted(permitted.networks, key=str)]
    return x509.NameConstraints([*domains, *networks], None)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
