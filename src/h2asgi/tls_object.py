"""The TLS of one connection in memory: octets of the socket on one side, data on the other."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

ENDED: Final = -1
"""What ``read`` gives behind the peer's close_notify (RFC 8446 section 6.1)."""


class TLSObject:
    """What a transport asks of TLS, over one of the libraries that have it.

    ``server_cert``, ``covers`` and ``cipher_suites`` are those of the ``ServerContext`` at the
    beginning, which may have another certificate by now.
    What breaks the connection is an ``ssl.SSLError``.
    """

    server_cert: str | None = None
    covers: Callable[[bytes], bool] | None = None
    cipher_suites: Mapping[str, int] | None = None

    def do_handshake(self) -> bool:
        """Go on with the handshake as far as there is input; says whether it is done."""
        raise NotImplementedError

    def receive(self, buffer: memoryview, size: int) -> None:
        """Take the first ``size`` octets of ``buffer`` from the socket. They are copied."""
        raise NotImplementedError

    @property
    def pending(self) -> int:
        """Octets from the socket that were not looked at yet."""
        raise NotImplementedError

    def read(self, buffer: memoryview, start: int) -> int:
        """Decrypt into ``buffer`` from ``start`` on; gives how much, 0 for nothing yet, or ENDED.

        As little as one record, with room for more.
        """
        raise NotImplementedError

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt; gives how much of ``data``: 0 if something has to be read first."""
        raise NotImplementedError

    def close_notify(self) -> None:
        """Say that no data will follow."""
        raise NotImplementedError

    @property
    def unsent(self) -> int:
        """Octets for the socket."""
        raise NotImplementedError

    def data_to_send(self, scratch: memoryview) -> bytes | memoryview:
        """Give octets for the socket, in ``scratch`` perhaps, which then holds no more than that.

        What does not fit into it stays for the next call.
        """
        raise NotImplementedError

    # After the handshake.

    def version(self) -> str:
        """Give what was negotiated, such as ``TLSv1.3``."""
        raise NotImplementedError

    def cipher(self) -> str:
        """Give the suite by OpenSSL's name."""
        raise NotImplementedError

    def alpn(self) -> str | None:
        """Give the protocol that was chosen (RFC 7301)."""
        raise NotImplementedError

    @property
    def resumed(self) -> bool:
        """Whether a session went on."""
        raise NotImplementedError

    def client_certificate(self) -> bytes | None:
        """Give the leaf, in DER."""
        raise NotImplementedError

    def client_chains(self) -> tuple[list[bytes], list[bytes]]:
        """Give the chain that was verified, to an authority of ours, and what the client sent.

        In DER, the leaf first. A session that is resumed remembers neither.
        """
        raise NotImplementedError


class PythonTLS(TLSObject):
    """By Python's ``ssl``."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        made: Any = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ssl = made
        self._read = made.read  # it gives a number here, which is not what typeshed says

    def do_handshake(self) -> bool:
        """See ``TLSObject``."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def receive(self, buffer: memoryview, size: int) -> None:
        """See ``TLSObject``."""
        self._incoming.write(buffer[:size])

    @property
    def pending(self) -> int:
        """See ``TLSObject``."""
        return self._incoming.pending

    def read(self, buffer: memoryview, start: int) -> int:
        """See ``TLSObject``."""
        try:
            if start:
                size: int = self._read(len(buffer) - start, buffer[start:])
            else:
                size = self._read(len(buffer), buffer)
        except ssl.SSLWantReadError:
            return 0
        return size or ENDED

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """See ``TLSObject``."""
        try:
            size: int = self._ssl.write(data)
        except ssl.SSLWantReadError:
            return 0
        return size

    def close_notify(self) -> None:
        """See ``TLSObject``."""
        with suppress(ssl.SSLError):  # it would wait for the peer's
            self._ssl.unwrap()

    @property
    def unsent(self) -> int:
        """See ``TLSObject``."""
        return self._outgoing.pending

    def data_to_send(self, scratch: memoryview) -> bytes | memoryview:
        """See ``TLSObject``."""
        return self._outgoing.read()

    def version(self) -> str:
        """See ``TLSObject``."""
        version: str | None = self._ssl.version()
        assert version is not None
        return version

    def cipher(self) -> str:
        """See ``TLSObject``."""
        name: str = self._ssl.cipher()[0]
        return name

    def alpn(self) -> str | None:
        """See ``TLSObject``."""
        chosen: str | None = self._ssl.selected_alpn_protocol()
        return chosen

    @property
    def resumed(self) -> bool:
        """See ``TLSObject``."""
        return bool(self._ssl.session_reused)

    def client_certificate(self) -> bytes | None:
        """See ``TLSObject``."""
        leaf: bytes | None = self._ssl.getpeercert(True)
        return leaf

    def client_chains(self) -> tuple[list[bytes], list[bytes]]:
        """See ``TLSObject``."""
        if hasattr(self._ssl, "get_verified_chain"):  # Python 3.13
            return self._ssl.get_verified_chain(), self._ssl.get_unverified_chain()
        # The same, before it was public.
        inner = self._ssl._sslobj
        return _encoded(inner.get_verified_chain()), _encoded(inner.get_unverified_chain())


def _encoded(chain: list[Any] | None) -> list[bytes]:
    import _ssl

    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain or ()]
