"""Certificates with their keys in memory: read once, then checked and loaded as they were read.

A supervisor hands them to its workers, which may no longer be allowed to read the files.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from . import der
from .config import TLSConfig
from .errors import ConfigurationError
from .memory_file import as_file
from .server_names import coverage, parse_pairs
from .tls_context import ServerContext

PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, its chain and its key in PEM; the files are named in messages.

    ``keyfile`` is None where the key is in ``certfile``.
    """

    certfile: str
    keyfile: str | None
    certificate: bytes
    key: bytes = field(repr=False)
    password: str | None = field(repr=False)

    @property
    def leaf(self) -> bytes | None:
        """The first certificate in DER, None in a form that is not looked into."""
        found = PEM_CERTIFICATE.search(self.certificate)
        try:
            return a2b_base64(found[1]) if found else None
        except ValueError:
            return None

    @property
    def key_algorithm(self) -> bytes | None:
        """What a context keeps one pair for each of, by its object identifier."""
        with contextlib.suppress(IndexError, ValueError):
            return der.key_algorithm(self.leaf or b"")
        return None


def read(tls: TLSConfig) -> list[KeyPair]:
    """Read every pair once, that of ``certfile`` first; raises ConfigurationError."""
    password = _password(tls)
    return [
        KeyPair(
            certfile,
            keyfile,
            contents(certfile, "certificate file"),
            contents(keyfile or certfile, "key file"),
            password,
        )
        for certfile, keyfile in files(tls)
    ]


def files(tls: TLSConfig) -> list[tuple[str, str | None]]:
    """Name the files of each pair once, in the order of ``read``."""
    assert tls.certfile is not None
    named = parse_pairs(tls.named_certificates)
    every = [(tls.certfile, tls.keyfile), *((pair.certfile, pair.keyfile) for pair in named)]
    return list(dict.fromkeys(every))


def load(context: ServerContext, pair: KeyPair, *, check_authority: bool) -> None:
    """Have new connections get the pair; raises ConfigurationError for one that cannot work.

    That is to be found out with a context that nobody uses: one in use would be
    left with a certificate and a key that do not belong together.
    """
    try:
        with as_file(pair.certificate) as certfile, as_file(pair.key) as keyfile:
            # A password is always given, if only an empty one: without it OpenSSL asks the
            # terminal.
            password = pair.password or ""
            context.load_cert_chain(certfile, keyfile, password)
            if context.pyopenssl is not None:
                context.pyopenssl.load(certfile, pair.key, password)
    except (OSError, ValueError) as error:
        from . import certificates

        certificates.check_pair(
            pair.certfile, pair.keyfile, pair.certificate, pair.key, pair.password
        )
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"OpenSSL refuses the certificate {pair.certfile}: {reason.replace('_', ' ').lower()}"
        ) from None
    if check_authority:
        from . import certificates

        context.covers = coverage(*certificates.names(pair.certfile, pair.certificate))
    leaf = pair.leaf
    context.server_cert = None if leaf is None else ssl.DER_cert_to_PEM_cert(leaf)


def replace_all(context: ServerContext, pairs: Sequence[KeyPair], *, check_authority: bool) -> None:
    """Load ``pairs``, found good, into a context in use and those of its names.

    Connections that are open keep what they have; sessions can still be resumed.
    """
    contexts = dict.fromkeys((context, *context.named.values()))
    for each, pair in zip(contexts, pairs, strict=True):
        load(each, pair, check_authority=check_authority)


def to_bytes(pairs: Sequence[KeyPair]) -> bytes:
    """Write ``pairs`` for another process."""
    return json.dumps([asdict(pair) for pair in pairs], default=_text).encode()


def from_bytes(data: bytes) -> list[KeyPair]:
    """Read what ``to_bytes`` has written."""
    return [
        KeyPair(
            pair["certfile"],
            pair["keyfile"],
            pair["certificate"].encode("latin-1"),
            pair["key"].encode("latin-1"),
            pair["password"],
        )
        for pair in json.loads(data)
    ]


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")


def contents(path: str, what: str) -> bytes:
    """Read a file that an operator named; raises ConfigurationError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read the {what} {path}: {error.strerror}") from None


def _password(tls: TLSConfig) -> str | None:
    if tls.keyfile_password_file is None:
        return tls.keyfile_password
    lines = contents(tls.keyfile_password_file, "password file").splitlines()
    try:
        return lines[0].decode() if lines else ""
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"the password in {tls.keyfile_password_file} is not UTF-8"
        ) from None
