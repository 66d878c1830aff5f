"""What ASGI's ``tls`` extension says of a connection (ASGI TLS extension 0.2)."""

from __future__ import annotations

import logging
import ssl
from itertools import takewhile
from typing import Any

from .tls_object import TLSObject

logger = logging.getLogger("h2asgi")

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_UNREADABLE = "the subject of the certificate cannot be read"


def tls_extension(tls: TLSObject) -> dict[str, Any]:
    """Give ``scope["extensions"]["tls"]`` for the requests of a connection, after its handshake.

    No value can be changed, so that a copy of the dictionary is enough for each request.
    """
    extension: dict[str, Any] = {
        "server_cert": tls.server_cert,
        "tls_version": _VERSIONS.get(tls.version()),
        "cipher_suite": (tls.cipher_suites or {}).get(tls.cipher()),
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
    }
    if leaf := tls.client_certificate():
        extension |= _client_certificate(tls, leaf)
    return extension


def _client_certificate(tls: TLSObject, leaf: bytes) -> dict[str, Any]:
    from . import certificates  # loaded already, by the context that asks for certificates

    chain = tuple(ssl.DER_cert_to_PEM_cert(der) for der in _chain(tls, leaf))
    try:
        name = certificates.subject(leaf)
    except ValueError as error:  # OpenSSL is less strict
        logger.debug("%s: %s", _UNREADABLE, error)
        return {"client_cert_chain": chain, "client_cert_error": _UNREADABLE}
    return {"client_cert_chain": chain, "client_cert_name": name}


def _chain(tls: TLSObject, leaf: bytes) -> list[bytes]:
    """Give what the client sent of the chain that was verified, the leaf first.

    The verified chain ends with an authority of ours, and what was sent may hold
    anything besides. A session that is resumed remembers neither.
    """
    verified, sent = tls.client_chains()
    return list(takewhile(sent.__contains__, verified)) or [leaf]
