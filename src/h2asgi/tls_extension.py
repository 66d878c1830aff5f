"""What ASGI's ``tls`` extension says of a connection (ASGI TLS extension 0.2)."""

from __future__ import annotations

import logging
import ssl
import sys
from itertools import takewhile
from typing import Any

from .tls_context import ServerContext, ServerObject

logger = logging.getLogger("h2asgi")

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_UNREADABLE = "the subject of the certificate cannot be read"


def tls_extension(ssl_object: ServerObject) -> dict[str, Any]:
    """Give ``scope["extensions"]["tls"]`` for the requests of a connection, after its handshake.

    No value can be changed, so that a copy of the dictionary is enough for each request.
    """
    context = ssl_object.context
    assert isinstance(context, ServerContext)
    version, cipher = ssl_object.version(), ssl_object.cipher()
    extension: dict[str, Any] = {
        "server_cert": ssl_object.server_cert,
        "tls_version": _VERSIONS.get(version or ""),
        "cipher_suite": context.cipher_suites.get(cipher[0]) if cipher else None,
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
    }
    if context.verify_mode is not ssl.CERT_NONE and (leaf := ssl_object.getpeercert(True)):
        extension |= _client_certificate(ssl_object, leaf)
    return extension


def _client_certificate(ssl_object: ssl.SSLObject, leaf: bytes) -> dict[str, Any]:
    from . import certificates  # loaded already, by the context that asks for certificates

    chain = tuple(ssl.DER_cert_to_PEM_cert(der) for der in _chain(ssl_object, leaf))
    try:
        name = certificates.subject(leaf)
    except ValueError as error:  # OpenSSL is less strict
        logger.debug("%s: %s", _UNREADABLE, error)
        return {"client_cert_chain": chain, "client_cert_error": _UNREADABLE}
    return {"client_cert_chain": chain, "client_cert_name": name}


def _chain(ssl_object: ssl.SSLObject, leaf: bytes) -> list[bytes]:
    """Give what the client sent of the chain that was verified, the leaf first.

    The verified chain ends with an authority of ours, and what was sent may hold
    anything besides. A session that is resumed remembers neither.
    """
    verified, sent = _chains(ssl_object)
    return list(takewhile(sent.__contains__, verified)) or [leaf]


if sys.version_info >= (3, 13):

    def _chains(ssl_object: ssl.SSLObject) -> tuple[list[bytes], list[bytes]]:
        return ssl_object.get_verified_chain(), ssl_object.get_unverified_chain()

else:

    def _chains(ssl_object: ssl.SSLObject) -> tuple[list[bytes], list[bytes]]:
        """Call what became public with Python 3.13."""
        inner = ssl_object._sslobj  # type: ignore[attr-defined]
        verified, sent = inner.get_verified_chain(), inner.get_unverified_chain()
        return _encoded(verified), _encoded(sent)

    def _encoded(chain: list[Any] | None) -> list[bytes]:
        import _ssl

        return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain or ()]
