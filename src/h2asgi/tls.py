"""SSLContext from TLSConfig: certificates, protocol versions, cipher suites, ALPN.

Settings are tried with Python's ``ssl``, which says what is wrong with them. Where ``pyopenssl``
is the engine, connections are made by contexts of that, with the same settings.

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

import logging
import os
import ssl
import sys
from binascii import a2b_base64
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from . import der, key_pairs
from .config import TLSConfig
from .errors import ConfigurationError
from .key_pairs import PEM_CERTIFICATE, KeyPair, contents
from .server_names import parse_pairs
from .tls_context import ServerContext

if TYPE_CHECKING:
    from .tls_pyopenssl import Contexts

logger = logging.getLogger("h2asgi")

DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites in OpenSSL's notation.

They contain the one that RFC 9113 section 9.2.2 makes mandatory,
TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256. DHE needs parameters that nobody configures.
"""

RECENT_OPENSSL = (3, 5)
"""From here on Python's own OpenSSL is as good as that of pyOpenSSL: it makes use of wide vector
instructions, and has groups against quantum computers."""

_EPHEMERAL = frozenset(("kx-ecdhe", "kx-dhe"))
_VERIFY_MODES = {"optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_MINIMUM_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def create_context(
    tls: TLSConfig, *, http1: bool, http2: bool, pairs: Sequence[KeyPair] | None = None
) -> ServerContext:
    """Make the server's context; ``tls`` names a certificate (see ``devcerts.resolve``).

    Contexts for other names hang on it. All have the same settings, one password of keys
    among them. ``pairs`` are those of ``key_pairs.read``, if that was done. Raises
    ConfigurationError for files, keys, passwords and ciphers that cannot work.
    """
    pairs = key_pairs.read(tls) if pairs is None else pairs
    uses_pyopenssl = engine_name(tls) == "pyopenssl"
    authorities = _Authorities(tls) if tls.cert_reqs != "none" else None
    made = {
        (pair.certfile, pair.keyfile): _context_of_pair(
            tls, pair, authorities, http1=http1, http2=http2, uses_pyopenssl=uses_pyopenssl
        )
        for pair in pairs
    }
    context = made[pairs[0].certfile, pairs[0].keyfile]
    context.named = {
        name: made[certfile, keyfile]
        for name, certfile, keyfile in parse_pairs(tls.named_certificates)
    }
    algorithms = tuple(pair.key_algorithm for pair in pairs)
    context.fixed = (tls, http1, http2, authorities, algorithms)
    return context


@cache  # one look for the process
def _find_engine(choice: str) -> str:
    if choice == "ssl" or (choice == "auto" and ssl.OPENSSL_VERSION_INFO >= RECENT_OPENSSL):
        return "ssl"
    try:
        from . import tls_pyopenssl  # noqa: F401
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        if choice != "auto":
            why = "" if missing else f" ({error})"
            raise ConfigurationError(
                f"--tls-engine pyopenssl needs pyOpenSSL{why}: pip install 'h2asgi[fast]'"
            ) from None
        if not missing:
            logger.warning("the engine pyopenssl cannot be used: %s", error)
        return "ssl"
    return "pyopenssl"


def engine_name(tls: TLSConfig) -> str:
    """Say which engine encrypts; raises ConfigurationError if it is not to be had."""
    return _find_engine(tls.engine)


def _context_of_pair(
    tls: TLSConfig,
    pair: KeyPair,
    authorities: _Authorities | None,
    *,
    http1: bool,
    http2: bool,
    uses_pyopenssl: bool,
) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM_VERSIONS[tls.min_version]
    # RFC 9113 section 9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _set_ciphers(context, tls.ciphers)
    protocols = ["h2"] * http2 + ["http/1.1"] * http1
    context.set_alpn_protocols(protocols)
    if authorities is not None:
        authorities.ask(context)
    _log_keys(context)
    if uses_pyopenssl:
        context.pyopenssl = _pyopenssl(tls, context, protocols, authorities)
    key_pairs.load(context, pair, check_authority=tls.check_authority)
    suites = context.get_ciphers()
    context.cipher_suites = {suite["name"]: suite["id"] & 0xFFFF for suite in suites}
    return context


def _pyopenssl(
    tls: TLSConfig,
    context: ssl.SSLContext,
    protocols: list[str],
    authorities: _Authorities | None,
) -> Contexts:
    from .tls_pyopenssl import Contexts, Settings

    path = context.keylog_filename
    return Contexts(
        Settings(
            minimum_version=context.minimum_version,
            ciphers=tls.ciphers or DEFAULT_CIPHERS,
            protocols=tuple(protocol.encode() for protocol in protocols),
            verify_mode=context.verify_mode,
            authorities=b"" if authorities is None else authorities.contents,
            check_revocation=authorities is not None and tls.crl_file is not None,
            key_log=None if path is None else _open_key_log(path),
        )
    )


def certificate_warnings(tls: TLSConfig) -> list[str]:
    """Say what of the chain and the revocation lists is out of date now, or soon.

    One sentence each.
    """
    assert tls.certfile is not None
    now = datetime.now(UTC)
    others = (pair.certfile for pair in parse_pairs(tls.named_certificates))
    warnings: list[str] = []
    for certfile in dict.fromkeys((tls.certfile, *others)):
        warnings += _chain_warnings(certfile, now)
    if tls.crl_file is not None:
        from . import certificates

        lists = contents(tls.crl_file, "revocation list")
        warnings += certificates.revocation_warnings(tls.crl_file, lists, now)
    return warnings


def _chain_warnings(certfile: str, now: datetime) -> list[str]:
    data = contents(certfile, "certificate file")
    chain = PEM_CERTIFICATE.findall(data)
    if chain and all(_is_valid(pem, now) for pem in chain):
        return []
    from . import certificates

    return certificates.validity_warnings(certfile, data, now)


def _is_valid(pem: bytes, now: datetime) -> bool:
    """Whether ``now`` is well within the validity of a certificate, as far as is plain to see.

    Only where it is not, the library that reads all of a certificate is imported.
    """
    try:
        times = (text.decode() for text in der.validity(a2b_base64(pem)))
        begin, end = (datetime.strptime(text, "%Y%m%d%H%M%SZ") for text in times)
    except (IndexError, ValueError):
        return False
    return begin <= now.replace(tzinfo=None) <= end - der.expiry_notice(begin, end)


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


class _Authorities:
    """Whose certificates clients may have, as it stood in the files; equal if that is."""

    def __init__(self, tls: TLSConfig) -> None:
        from . import certificates  # here, so that the first client with one need not wait

        assert tls.ca_certs is not None
        self._tls = tls
        self.contents = contents(tls.ca_certs, "file of authorities")
        certificates.check_authorities(tls.ca_certs, self.contents)
        if tls.crl_file is not None:
            lists = contents(tls.crl_file, "revocation list")
            certificates.check_revocation_lists(tls.crl_file, lists)
            self.contents += b"\n" + lists  # not every editor ends the last line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Authorities) and self.contents == other.contents

    __hash__ = None  # type: ignore[assignment]

    def ask(self, context: ssl.SSLContext) -> None:
        tls = self._tls
        assert tls.ca_certs is not None
        _load_authorities(context, tls.ca_certs)
        context.verify_mode = _VERIFY_MODES[tls.cert_reqs]
        if tls.crl_file is not None:
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


def _log_keys(context: ssl.SSLContext) -> None:
    """Honour SSLKEYLOGFILE, as ``ssl.create_default_context()`` does."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        context.keylog_filename = path
    except OSError as error:
        raise ConfigurationError(f"cannot write SSLKEYLOGFILE {path}: {error.strerror}") from None


@cache  # one for the process: contexts come and go
def _open_key_log(path: str) -> int:
    """Open what ``_log_keys`` was able to, while that is still allowed."""
    return os.open(path, os.O_WRONLY | os.O_APPEND)
