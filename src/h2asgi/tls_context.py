"""An SSLContext that knows what applications are told of it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType


class ServerContext(ssl.SSLContext):
    """The context of one certificate; ``ssl_object.context`` leads to it from a connection.

    ``server_cert`` is the certificate in PEM, None in a form that is not looked into;
    ``cipher_suites`` gives the numbers of what may be negotiated, by OpenSSL's names.
    """

    server_cert: str | None = None
    cipher_suites: Mapping[str, int] = MappingProxyType({})
