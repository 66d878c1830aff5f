"""What is wrong with a certificate or key: asked once OpenSSL or a look at the dates says so."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from .config import TLSConfig
from .errors import ConfigurationError


def check_pair(tls: TLSConfig, certificate: bytes, key: bytes, password: str | None) -> None:
    """Raise ConfigurationError for a certificate, key or password, in PEM, that cannot work."""
    assert tls.certfile is not None
    keyfile = tls.keyfile or tls.certfile
    leaf = _certificates(tls.certfile, certificate)[0]
    private = _private_key(keyfile, key, password, in_certfile=tls.keyfile is None)
    if _spki(private.public_key()) != _spki(leaf.public_key()):
        raise ConfigurationError(
            f"the key in {keyfile} does not belong to the certificate in {tls.certfile}"
        )


def validity_warnings(certfile: str, data: bytes, now: datetime) -> list[str]:
    """A sentence for each certificate in ``data`` that is not valid ``now``."""
    warnings = []
    for certificate in _certificates(certfile, data):
        name = certificate.subject.rfc4514_string() or "without a subject"
        if certificate.not_valid_after_utc < now:
            state = f"expired at {certificate.not_valid_after_utc}"
        elif certificate.not_valid_before_utc > now:
            state = f"is not valid before {certificate.not_valid_before_utc}"
        else:
            continue
        warnings.append(f"the certificate {name} in {certfile} {state}")
    return warnings


def _certificates(certfile: str, data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigurationError(f"{certfile} holds no certificate in PEM format") from None


def _spki(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_key(
    keyfile: str, data: bytes, password: str | None, *, in_certfile: bool
) -> PrivateKeyTypes:
    if b"PRIVATE KEY-----" not in data:
        hint = ": add it there, or name its file with --keyfile" if in_certfile else ""
        raise ConfigurationError(f"{keyfile} holds no private key in PEM format{hint}")
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        pass  # encrypted
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"the private key in {keyfile} cannot be read") from None
    if not password:
        raise ConfigurationError(
            f"the private key in {keyfile} is encrypted: give its password with"
            " --keyfile-password-file or --keyfile-password"
        )
    try:
        return load_pem_private_key(data, password.encode())
    except ValueError:
        raise ConfigurationError(
            f"the password does not open the private key in {keyfile}"
        ) from None
