"""SSLContext from TLSConfig: certificates, protocol versions, cipher suites, ALPN.

Client certificates are verified by OpenSSL, by the rules for its purpose
"sslclient": one that is not valid ends the handshake, also where none is
required. A session is resumed without the verification, and with the certificate:
it is in the ticket, which no other context can read. Processes that are forked
have the same context.

TLS as RFC 9113 section 9.2 wants it for HTTP/2, which HTTP/1.1 shares: which
of the two a connection will speak is only known once the suite is chosen.

Python's ssl module cannot tell a client that offers no protocol by ALPN from
one that offers only protocols unknown here: ``selected_alpn_protocol()`` is
None for both, where RFC 7301 section 3.2 asks for an alert in the second case.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
from binascii import a2b_base64
from dataclasses import replace
from datetime import UTC, datetime

from .config import TLSConfig
from .errors import ConfigurationError
from .server_names import coverage, parse_pairs
from .tls_context import ServerContext

DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites in OpenSSL's notation.

They contain the one that RFC 9113 section 9.2.2 makes mandatory,
TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256. DHE needs parameters that nobody configures.
"""

_EPHEMERAL = frozenset(("kx-ecdhe", "kx-dhe"))
_VERIFY_MODES = {"optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_MINIMUM_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def create_context(tls: TLSConfig, *, http1: bool, http2: bool) -> ServerContext:
    """Make the server's context; ``tls`` names a certificate (see ``devcerts.resolve``).

    Contexts for other names hang on it. All have the same settings, one password of keys
    among them. Raises ConfigurationError for files, keys, passwords and ciphers that
    cannot work.
    """
    context = _context_of_pair(tls, http1=http1, http2=http2)
    made = {(tls.certfile, tls.keyfile): context}
    named = {}
    for name, certfile, keyfile in parse_pairs(tls.named_certificates):
        if (certfile, keyfile) not in made:
            pair = replace(tls, certfile=certfile, keyfile=keyfile)
            made[certfile, keyfile] = _context_of_pair(pair, http1=http1, http2=http2)
        named[name] = made[certfile, keyfile]
    context.named = named
    return context


def _context_of_pair(tls: TLSConfig, *, http1: bool, http2: bool) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM_VERSIONS[tls.min_version]
    # RFC 9113 section 9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _set_ciphers(context, tls.ciphers)
    context.set_alpn_protocols(["h2"] * http2 + ["http/1.1"] * http1)
    _load_pair(context, tls)
    if tls.cert_reqs != "none":
        _ask_for_certificates(context, tls)
    _log_keys(context)
    suites = context.get_ciphers()
    context.cipher_suites = {suite["name"]: suite["id"] & 0xFFFF for suite in suites}
    return context


def certificate_warnings(tls: TLSConfig) -> list[str]:
    """Say what of the chain and the revocation lists is out of date now, one sentence each."""
    assert tls.certfile is not None
    now = datetime.now(UTC)
    others = (pair.certfile for pair in parse_pairs(tls.named_certificates))
    warnings: list[str] = []
    for certfile in dict.fromkeys((tls.certfile, *others)):
        warnings += _chain_warnings(certfile, now)
    if tls.crl_file is not None:
        from . import certificates

        lists = _contents(tls.crl_file, "revocation list")
        warnings += certificates.revocation_warnings(tls.crl_file, lists, now)
    return warnings


def _chain_warnings(certfile: str, now: datetime) -> list[str]:
    data = _contents(certfile, "certificate file")
    chain = _PEM.findall(data)
    if chain and all(_is_valid(pem, now) for pem in chain):
        return []
    from . import certificates

    return certificates.validity_warnings(certfile, data, now)


_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def _is_valid(pem: bytes, now: datetime) -> bool:
    """Whether ``now`` is within the validity of a certificate, as far as is plain to see.

    Only where it is not, the library that reads all of a certificate is
    imported: it costs a start 30 ms and 10 MiB.
    """
    try:
        certificate = a2b_base64(pem)
        at = _element(certificate, _element(certificate, 0)[1])[1]  # into TBSCertificate
        if certificate[at] == _VERSION:
            at = _element(certificate, at)[2]
        for _ in ("serialNumber", "signature", "issuer"):
            at = _element(certificate, at)[2]
        first = _element(certificate, at)[1]
        last = _element(certificate, first)[2]
        begin, end = _time(certificate, first), _time(certificate, last)
    except (IndexError, ValueError):
        return False
    return begin <= now.strftime("%Y%m%d%H%M%SZ").encode() <= end


_VERSION = 0xA0
_UTC_TIME = 0x17


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of an element's content (X.690 section 8.1)."""
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        size = int.from_bytes(der[begin : begin + octets], "big")
        begin += octets
    return der[at], begin, begin + size


def _time(der: bytes, at: int) -> bytes:
    """A Time of RFC 5280 section 4.1.2.5, with four digits for the year."""
    tag, begin, end = _element(der, at)
    text = der[begin:end]
    if tag == _UTC_TIME:
        return (b"19" if text >= b"50" else b"20") + text
    return text


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


def _load_pair(context: ServerContext, tls: TLSConfig) -> None:
    certfile = tls.certfile
    assert certfile is not None
    keyfile = tls.keyfile or certfile
    certificate = _contents(certfile, "certificate file")
    password = _password(tls)
    key = _contents(keyfile, "key file")
    try:
        # A password is always given, if only an empty one: without it OpenSSL asks the terminal.
        context.load_cert_chain(certfile, keyfile, password or "")
    except (OSError, ValueError) as error:
        from . import certificates

        certificates.check_pair(tls, certificate, key, password)
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"OpenSSL refuses the certificate {certfile}: {reason.replace('_', ' ').lower()}"
        ) from None
    if tls.check_authority:
        from . import certificates

        context.covers = coverage(*certificates.names(certfile, certificate))
    if leaf := _PEM.search(certificate):
        context.server_cert = ssl.DER_cert_to_PEM_cert(a2b_base64(leaf[1]))


def _ask_for_certificates(context: ssl.SSLContext, tls: TLSConfig) -> None:
    from . import certificates  # here, so that the first client with a certificate need not wait

    assert tls.ca_certs is not None
    certificates.check_authorities(tls.ca_certs, _contents(tls.ca_certs, "file of authorities"))
    _load_authorities(context, tls.ca_certs)
    context.verify_mode = _VERIFY_MODES[tls.cert_reqs]
    if tls.crl_file is not None:
        lists = _contents(tls.crl_file, "revocation list")
        certificates.check_revocation_lists(tls.crl_file, lists)
        _load_authorities(context, tls.crl_file)
        # Authorities between root and leaf can be revoked as well.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"OpenSSL cannot load {path}: {reason.replace('_', ' ').lower()}"
        ) from None


def _contents(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read the {what} {path}: {error.strerror}") from None


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


def _log_keys(context: ssl.SSLContext) -> None:
    """Honour SSLKEYLOGFILE, as ``ssl.create_default_context()`` does."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        context.keylog_filename = path
    except OSError as error:
        raise ConfigurationError(f"cannot write SSLKEYLOGFILE {path}: {error.strerror}") from None
