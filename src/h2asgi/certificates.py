"""What stands in certificates, keys and revocation lists, and what is wrong with them.

It is imported when OpenSSL or a look at the dates says that something is wrong,
and where clients are asked for certificates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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

from .der import expiry_notice
from .errors import ConfigurationError
from .server_names import canonical


def check_pair(
    certfile: str, keyfile: str | None, certificate: bytes, key: bytes, password: str | None
) -> None:
    """Raise ConfigurationError for a certificate, key or password, in PEM, that cannot work.

    ``keyfile`` is None where the key is in ``certfile``.
    """
    leaf = _certificates(certfile, certificate)[0]
    private = _private_key(keyfile or certfile, key, password, in_certfile=keyfile is None)
    if _spki(private.public_key()) != _spki(leaf.public_key()):
        raise ConfigurationError(
            f"the key in {keyfile or certfile} does not belong to the certificate in {certfile}"
        )


def validity_warnings(certfile: str, data: bytes, now: datetime) -> list[str]:
    """A sentence for each certificate in ``data`` that is not valid ``now``, or not for long."""
    warnings = []
    for certificate in _certificates(certfile, data):
        name = certificate.subject.rfc4514_string() or "without a subject"
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if end < now:
            state = f"expired at {end}"
        elif begin > now:
            state = f"is not valid before {begin}"
        elif end - now < expiry_notice(begin, end):
            state = f"expires at {end}, in {(end - now).days} days"
        else:
            continue
        warnings.append(f"the certificate {name} in {certfile} {state}")
    return warnings


def subject(certificate: bytes) -> str:
    """Give the name of a certificate's subject as RFC 4514 writes it; the certificate is in DER.

    Raises ValueError when it cannot be read.
    """
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def names(certfile: str, data: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Give the names and addresses that the first certificate in ``data`` covers.

    They are those of its subjectAltName (RFC 9110 section 4.3.4). Raises
    ConfigurationError where there are none.
    """
    try:
        extensions = _certificates(certfile, data)[0].extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise ConfigurationError(
            f"the certificate in {certfile} names no host: with --check-authority every request"
            " would be refused"
        ) from None
    hosts = frozenset(map(canonical, found.get_values_for_type(x509.DNSName)))
    return hosts, frozenset(map(str, found.get_values_for_type(x509.IPAddress)))


def check_authorities(path: str, data: bytes) -> None:
    """Raise ConfigurationError unless ``data`` holds an authority's certificate, in PEM."""
    if not any(map(_is_authority, _certificates(path, data))):
        raise ConfigurationError(
            f"{path} holds no authority's certificate: none of its certificates may sign others"
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return True  # which OpenSSL will judge


def check_revocation_lists(path: str, data: bytes) -> None:
    """Raise ConfigurationError unless ``data`` holds revocation lists in PEM, and nothing else.

    OpenSSL would trust certificates in it.
    """
    kinds = set(_PEM_KIND.findall(data))
    if b"X509 CRL" not in kinds:
        raise ConfigurationError(f"{path} holds no revocation list in PEM format")
    if len(kinds) > 1:
        raise ConfigurationError(
            f"{path} holds something besides revocation lists, which --crl-file does not take"
        )
    if any(crl is None for crl in _revocation_lists(data)):
        raise ConfigurationError(f"a revocation list in {path} cannot be read")


def revocation_warnings(path: str, data: bytes, now: datetime) -> list[str]:
    """A sentence for each list in ``data`` that is out of date ``now``: clients are turned away."""
    return [
        f"the revocation list of {crl.issuer.rfc4514_string()} in {path} expired at"
        f" {crl.next_update_utc}: no certificate of that authority is accepted"
        for crl in _revocation_lists(data)
        if crl is not None and crl.next_update_utc is not None and crl.next_update_utc < now
    ]


_PEM_KIND = re.compile(rb"-----BEGIN ([^-]+)-----")
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def _revocation_lists(data: bytes) -> Iterator[x509.CertificateRevocationList | None]:
    for pem in _CRL.findall(data):
        try:
            yield x509.load_pem_x509_crl(pem)
        except ValueError:
            yield None


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
