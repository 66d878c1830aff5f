"""What a header of the PROXY protocol changes in what applications are told of a connection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .protocol.proxy import ClientTLS, ProxyHeader
from .state import Endpoints

EXTENSION = "h2asgi.proxy_protocol"

_NO_TLS = ClientTLS(None, None, False, None)


def behind_proxy(endpoints: Endpoints, header: ProxyHeader) -> Endpoints:
    """Give the endpoints of the client that a load balancer speaks for, if it does for any."""
    if not header.relayed:
        return endpoints
    extensions = dict(endpoints.extensions)
    if header.version == 2:
        extensions[EXTENSION] = _extension(header)
    return replace(
        endpoints,
        scheme=endpoints.scheme if header.tls is None else "https",
        client=header.source,
        server=header.destination or endpoints.server,
        extensions=extensions,
    )


def _extension(header: ProxyHeader) -> dict[str, Any]:
    """Give what version 2 tells; no value can be changed, so that requests may share them."""
    tls = header.tls or _NO_TLS
    return {
        "alpn": header.alpn,
        "authority": header.authority,
        "unique_id": header.unique_id,
        "tls": header.tls is not None,
        "tls_version": tls.version,
        "tls_cipher": tls.cipher,
        "client_cert_verified": tls.verified,
        "client_cert_common_name": tls.common_name,
        "values": header.values,
    }
