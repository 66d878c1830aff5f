"""An SSLContext that knows its certificate, and the contexts of other names."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from .server_names import wildcard
from .tls_object import PythonTLS, TLSObject

if TYPE_CHECKING:
    from .tls_pyopenssl import Contexts


class ServerContext(ssl.SSLContext):
    """The context of one certificate.

    ``server_cert`` is the certificate in PEM, None in a form that is not looked into;
    ``cipher_suites`` gives the numbers of what may be negotiated, by OpenSSL's names.
    ``covers`` says whether the certificate covers an authority, if that is to be checked.
    ``named`` are the contexts for clients that ask for one of those names. Each has
    tickets of its own: what was agreed under one certificate is not resumed under another.
    ``fixed`` is all that cannot change while it is in use, to be compared with another's.
    ``pyopenssl`` is what connections are made by instead, if anything.
    """

    server_cert: str | None = None
    cipher_suites: Mapping[str, int] = MappingProxyType({})
    covers: Callable[[bytes], bool] | None = None
    named: Mapping[str, ServerContext] = MappingProxyType({})
    fixed: object = None
    pyopenssl: Contexts | None = None

    def begin(self) -> TLSObject:
        """Begin a connection; from here on it has the certificate of now."""
        made = PythonTLS(self) if self.pyopenssl is None else self.pyopenssl.begin()
        made.server_cert, made.covers = self.server_cert, self.covers
        made.cipher_suites = self.cipher_suites
        return made

    def for_name(self, name: str | None) -> ServerContext:
        """Give the context for what a client asks for (RFC 6066 section 3), by default this one."""
        if name is None:
            return self
        return self.named.get(name) or self.named.get(wildcard(name)) or self
