"""SSLContext from TLSConfig: certificates, protocol versions, cipher suites, ALPN.

TLS as RFC 9113 section 9.2 wants it for HTTP/2, which HTTP/1.1 shares: which
of the two a connection will speak is only known once the suite is chosen.

Python's ssl module cannot tell a client that offers no protocol by ALPN from
one that offers only protocols unknown here: ``selected_alpn_protocol()`` is
None for both, where RFC 7301 section 3.2 asks for an alert in the second case.
"""

from __future__ import annotations

import os
import ssl
import sys
from datetime import UTC, datetime

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

DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites in OpenSSL's notation.

They contain the one that RFC 9113 section 9.2.2 makes mandatory,
TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256. DHE needs parameters that nobody configures.
"""

_EPHEMERAL = frozenset(("kx-ecdhe", "kx-dhe"))
_MINIMUM_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def create_context(tls: TLSConfig, *, http1: bool, http2: bool) -> ssl.SSLContext:
    """Make the server's context; ``tls`` names a certificate (see ``devcerts.resolve``).

    Raises ConfigurationError for files, keys, passwords and ciphers that cannot work.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM_VERSIONS[tls.min_version]
    # RFC 9113 section 9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _set_ciphers(context, tls.ciphers)
    context.set_alpn_protocols(["h2"] * http2 + ["http/1.1"] * http1)
    _load_pair(context, tls)
    _log_keys(context)
    return context


def certificate_warnings(tls: TLSConfig) -> list[str]:
    """Say which certificates of the chain are outside their validity now, one sentence each."""
    assert tls.certfile is not None
    now = datetime.now(UTC)
    warnings = []
    for certificate in _certificates(tls.certfile):
        name = certificate.subject.rfc4514_string() or "without a subject"
        if certificate.not_valid_after_utc < now:
            state = f"expired at {certificate.not_valid_after_utc}"
        elif certificate.not_valid_before_utc > now:
            state = f"is not valid before {certificate.not_valid_before_utc}"
        else:
            continue
        warnings.append(f"the certificate {name} in {tls.certfile} {state}")
    return warnings


def _set_ciphers(context: ssl.SSLContext, ciphers: str | None) -> None:
    try:
        context.set_ciphers(ciphers or DEFAULT_CIPHERS)
    except ssl.SSLError:
        raise ConfigurationError(f"no cipher suite matches --ciphers {ciphers!r}") from None
    suites = [suite for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    prohibited = [suite["name"] for suite in suites if _is_prohibited(suite)]
    if prohibited:
        raise ConfigurationError(
            f"--ciphers {ciphers!r} allows {_some(prohibited)}, which RFC 9113 (section 9.2.2)"
            " prohibits: only suites with ephemeral keys and authenticated encryption may be used"
        )
    if not suites:
        raise ConfigurationError(f"--ciphers {ciphers!r} leaves no cipher suite for TLS 1.2")


def _is_prohibited(suite: ssl._Cipher) -> bool:
    """Whether RFC 9113 Appendix A lists the suite, by the rule that the list was made with.

    The list has what lacks an ephemeral key exchange or an AEAD; the rule also
    covers suites registered since. Anonymous suites do not use the certificate.
    """
    return not suite["aead"] or suite["kea"] not in _EPHEMERAL or suite["auth"] == "auth-null"


def _some(names: list[str]) -> str:
    rest = len(names) - 2
    return ", ".join(names[:2]) + (f" and {rest} more" if rest > 0 else "")


def _load_pair(context: ssl.SSLContext, tls: TLSConfig) -> None:
    certfile = tls.certfile
    assert certfile is not None
    keyfile = tls.keyfile or certfile
    leaf = _certificates(certfile)[0]
    password = _password(tls)
    key = _private_key(keyfile, password, in_certfile=tls.keyfile is None)
    if _spki(key.public_key()) != _spki(leaf.public_key()):
        raise ConfigurationError(
            f"the key in {keyfile} does not belong to the certificate in {certfile}"
        )
    try:
        # A password is always given, if only an empty one: without it OpenSSL asks the terminal.
        context.load_cert_chain(certfile, keyfile, password or "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"OpenSSL refuses the certificate {certfile}: {reason.replace('_', ' ').lower()}"
        ) from None


def _spki(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _contents(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read the {what} {path}: {error.strerror}") from None


def _certificates(certfile: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_contents(certfile, "certificate file"))
    except ValueError:
        raise ConfigurationError(f"{certfile} holds no certificate in PEM format") from None


def _password(tls: TLSConfig) -> str | None:
    if tls.keyfile_password_file is None:
        return tls.keyfile_password
    lines = _contents(tls.keyfile_password_file, "password file").splitlines()
    try:
        return lines[0].decode() if lines else ""
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"the password in {tls.keyfile_password_file} is not UTF-8"
        ) from None


def _private_key(keyfile: str, password: str | None, *, in_certfile: bool) -> PrivateKeyTypes:
    data = _contents(keyfile, "key file")
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


def _log_keys(context: ssl.SSLContext) -> None:
    """Honour SSLKEYLOGFILE, as ``ssl.create_default_context()`` does."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        context.keylog_filename = path
    except OSError as error:
        raise ConfigurationError(f"cannot write SSLKEYLOGFILE {path}: {error.strerror}") from None
