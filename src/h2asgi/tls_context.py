"""An SSLContext that knows its certificate, and the contexts of other names."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .server_names import wildcard


class ServerObject(ssl.SSLObject):
    """The TLS of one connection, which knows what it was made with.

    Its context may have another certificate by now. ``server_cert`` and ``covers``
    are as in ``ServerContext``.
    """

    server_cert: str | None = None
    covers: Callable[[bytes], bool] | None = None


class ServerContext(ssl.SSLContext):
    """The context of one certificate; ``ssl_object.context`` leads to it from a connection.

    ``server_cert`` is the certificate in PEM, None in a form that is not looked into;
    ``cipher_suites`` gives the numbers of what may be negotiated, by OpenSSL's names.
    ``covers`` says whether the certificate covers an authority, if that is to be checked.
    ``named`` are the contexts for clients that ask for one of those names. Each has
    tickets of its own: what was agreed under one certificate is not resumed under another.
    ``fixed`` is all that cannot change while it is in use, to be compared with another's.
    """

    server_cert: str | None = None
    cipher_suites: Mapping[str, int] = MappingProxyType({})
    covers: Callable[[bytes], bool] | None = None
    named: Mapping[str, ServerContext] = MappingProxyType({})
    fixed: object = None
    sslobject_class = ServerObject

    def wrap_bio(self, *args: Any, **options: Any) -> ServerObject:
        """Begin a connection; from here on it has the certificate of now."""
        made = super().wrap_bio(*args, **options)
        assert isinstance(made, ServerObject)
        made.server_cert, made.covers = self.server_cert, self.covers
        return made

    def for_name(self, name: str | None) -> ServerContext:
        """Give the context for what a client asks for (RFC 6066 section 3), by default this one."""
        if name is None:
            return self
        return self.named.get(name) or self.named.get(wildcard(name)) or self
