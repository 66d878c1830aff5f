"""TLS by the OpenSSL that comes with pyOpenSSL, by way of cryptography.

Python is mostly linked with the OpenSSL of the operating system, whose age decides how fast
it encrypts: 3.0, which Debian 12 and Ubuntu 24.04 have, makes no use of a processor's wider
vector instructions, and takes three times as long for what is large. It also lacks the
groups against quantum computers.

pyOpenSSL's own methods make contexts, and tell of certificates. What every connection and every
record goes through calls OpenSSL itself, by the functions and the pointers that pyOpenSSL works
with: its connections take 50 us and a kilobyte each, its ``recv_into`` and ``send`` 2 us beside
what OpenSSL does, and its ``bio_read`` fills memory with zeros first.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL, crypto

from .memory_file import as_file
from .tls_object import ENDED, TLSObject

_ffi: Final[Any] = Binding.ffi
_lib: Final[Any] = Binding().lib
_from_buffer: Final[Any] = _ffi.from_buffer
_cast: Final[Any] = _ffi.cast
_bio_new: Final[Any] = _lib.BIO_new
_in_memory: Final[Any] = _lib.BIO_s_mem()
_bio_read: Final[Any] = _lib.BIO_read
_bio_write: Final[Any] = _lib.BIO_write
_bio_size: Final[Any] = _lib.BIO_get_mem_data
_ssl_new: Final[Any] = _lib.SSL_new
_ssl_free: Final[Any] = _lib.SSL_free
_ssl_do_handshake: Final[Any] = _lib.SSL_do_handshake
_ssl_read: Final[Any] = _lib.SSL_read
_ssl_write: Final[Any] = _lib.SSL_write
_ssl_get_error: Final[Any] = _lib.SSL_get_error
_OK: Final[int] = _lib.SSL_TLSEXT_ERR_OK
_NO_OVERLAP: Final[int] = _lib.SSL_TLSEXT_ERR_NOACK
_WANT_READ: Final[int] = _lib.SSL_ERROR_WANT_READ
_ZERO_RETURN: Final[int] = _lib.SSL_ERROR_ZERO_RETURN

TLS13_SUITES: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Those of RFC 8446 that browsers have as well, in their order: keys of 128 bits are beyond reach,
and encrypting costs a fifth less. Python's ``ssl`` cannot choose before 3.15, and takes OpenSSL's
order: 256 bits first."""

MAX_ALPN_SIZE: Final = 2048
"""Octets of what a client offers that are looked at: hundreds of names, where browsers have two."""

OPENSSL_VERSION: Final[str] = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
"""Such as ``OpenSSL 4.0.3 29 Sep 2026``."""


_ALPN_CALLBACK: Final = (
    "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)"
)
_KEY_LOG_CALLBACK: Final = "void (*)(const SSL *, const char *)"

_example = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
if not (hasattr(_example, "_ssl") and hasattr(_example.get_context(), "_context")):
    raise ImportError("this pyOpenSSL does not tell where its objects are")
del _example


def _pointer(buffer: bytes | bytearray | memoryview) -> Any:
    """Give a pointer to a buffer that somebody else keeps.

    One that keeps it itself would be an export of the memoryview: where a traceback holds both
    and is in a cycle, Python 3.11, and 3.12 before 3.12.7, crash (CPython issue 77894).
    """
    return _cast("char *", _from_buffer(buffer))


class _Address:
    """Where a buffer is: the same one nearly always, as a loop has one of each kind.

    Threads may have a loop each, so buffer and address are replaced together.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Any] = (None, None)

    def of(self, buffer: memoryview) -> Any:
        last = self._last
        if last[0] is not buffer:
            last = self._last = (buffer, _pointer(buffer))
        return last[1]


_received: Final = _Address()
_decrypted: Final = _Address()
_scratch: Final = _Address()


class PyOpenSSLTLS(TLSObject):
    """By pyOpenSSL."""

    def __init__(self, first: Any, newest: Any) -> None:
        """``first`` and ``newest`` are contexts of pyOpenSSL: see ``Contexts``."""
        made = _ssl_new(first._context)
        if not made:
            raise MemoryError
        self._ssl = _ffi.gc(made, _ssl_free)
        if newest is not first and not _lib.SSL_set_SSL_CTX(self._ssl, newest._context):
            raise MemoryError
        self._context = newest  # whose callbacks OpenSSL may call until the end
        self._take_buffers()
        _lib.SSL_set_accept_state(self._ssl)
        self._has_first_buffers = True
        self._is_established = False
        self._version = self._cipher = ""
        self._alpn: str | None = None
        self._leaf: bytes | None = None
        self._chains: tuple[list[bytes], list[bytes]] | None = None

    def do_handshake(self) -> bool:
        """See ``TLSObject``."""
        result: int = _ssl_do_handshake(self._ssl)
        if result <= 0:
            if self._no_result(result) == ENDED:
                raise ssl.SSLError(_ZERO_RETURN, "[SSL] the client closed during the handshake")
            return False
        self._note_facts()
        self._is_established = True
        return True

    def _note_facts(self) -> None:
        self._version = _text(_lib.SSL_get_version(self._ssl))
        self._cipher = _text(_lib.SSL_CIPHER_get_name(_lib.SSL_get_current_cipher(self._ssl)))
        chosen, size = _ffi.new("const unsigned char **"), _ffi.new("unsigned int *")
        _lib.SSL_get0_alpn_selected(self._ssl, chosen, size)
        if size[0]:
            self._alpn = intern(_ffi.buffer(chosen[0], size[0])[:].decode())
        if self._context.get_verify_mode() != SSL.VERIFY_NONE:
            self._note_certificates()

    def _note_certificates(self) -> None:
        connection: Any = SSL.Connection.__new__(SSL.Connection)
        connection._ssl = self._ssl  # the only thing of it that these methods need
        leaf = connection.get_peer_certificate()
        if leaf is not None:
            self._leaf = _encoded(leaf)
            verified = [_encoded(each) for each in connection.get_verified_chain() or ()]
            sent = [_encoded(each) for each in connection.get_peer_cert_chain() or ()]
            if self._leaf not in sent:
                sent.insert(0, self._leaf)  # OpenSSL leaves it out on the server's side
            self._chains = verified, sent

    def receive(self, buffer: memoryview, size: int) -> None:
        """See ``TLSObject``."""
        if _bio_write(self._incoming, _received.of(buffer), size) != size:
            raise MemoryError

    @property
    def pending(self) -> int:
        """See ``TLSObject``."""
        size: int = _bio_size(self._incoming, _ffi.NULL)
        return size

    def read(self, buffer: memoryview, start: int) -> int:
        """See ``TLSObject``."""
        address = _decrypted.of(buffer)
        size: int = _ssl_read(self._ssl, address + start if start else address, len(buffer) - start)
        return size if size > 0 else self._no_result(size)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """See ``TLSObject``."""
        octets = data if type(data) is bytes else _pointer(data)
        size: int = _ssl_write(self._ssl, octets, len(data))
        return size if size > 0 else self._no_result(size)

    def _no_result(self, result: int) -> int:
        error: int = _ssl_get_error(self._ssl, result)
        if error == _WANT_READ:
            return 0
        if error == _ZERO_RETURN:
            return ENDED
        raise _queued_error(error)

    def close_notify(self) -> None:
        """See ``TLSObject``."""
        if _lib.SSL_shutdown(self._ssl) < 0:
            _lib.ERR_clear_error()

    @property
    def unsent(self) -> int:
        """See ``TLSObject``."""
        size: int = _bio_size(self._outgoing, _ffi.NULL)
        return size

    def data_to_send(self, scratch: memoryview) -> bytes | memoryview:
        """See ``TLSObject``."""
        size: int = _bio_read(self._outgoing, _scratch.of(scratch), len(scratch))
        if self._has_first_buffers and self._is_established:
            self._drop_first_buffers()
        return scratch[:size] if size > 0 else b""

    def _drop_first_buffers(self) -> None:
        """Begin with new buffers: they keep the size of the most that was in them, and the
        handshake's messages are larger than what an idle connection has sent."""
        if not (self.pending or self.unsent):
            self._has_first_buffers = False
            self._take_buffers()

    def _take_buffers(self) -> None:
        incoming, outgoing = _bio_new(_in_memory), _bio_new(_in_memory)
        if not (incoming and outgoing):
            raise MemoryError
        self._incoming, self._outgoing = incoming, outgoing
        _lib.SSL_set_bio(self._ssl, incoming, outgoing)  # frees the others

    def version(self) -> str:
        """See ``TLSObject``."""
        return self._version

    def cipher(self) -> str:
        """See ``TLSObject``."""
        return self._cipher

    def alpn(self) -> str | None:
        """See ``TLSObject``."""
        return self._alpn

    @property
    def resumed(self) -> bool:
        """See ``TLSObject``."""
        return bool(_lib.SSL_session_reused(self._ssl))

    def client_certificate(self) -> bytes | None:
        """See ``TLSObject``."""
        return self._leaf

    def client_chains(self) -> tuple[list[bytes], list[bytes]]:
        """See ``TLSObject``."""
        return self._chains or ([], [])


def _text(pointer: Any) -> str:
    return intern(_ffi.string(pointer).decode())


def _use_key(context: Any, key: Any) -> None:
    """As it is: pyOpenSSL's own method makes of a key for PSS alone (RFC 4055) a usual RSA key,
    which does not match the certificate."""
    if _lib.SSL_CTX_use_PrivateKey(context._context, key._pkey) != 1:
        raise _queued_error(_lib.SSL_ERROR_SSL)


def _encoded(certificate: crypto.X509) -> bytes:
    octets: bytes = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return octets


def _error(error: SSL.Error | crypto.Error) -> ssl.SSLError:
    """Say in the terms of Python's ``ssl`` what pyOpenSSL has found."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = ", ".join(str(entry[-1]) for entry in queue)
    return ssl.SSLError(_lib.SSL_ERROR_SSL, f"[SSL] {text or type(error).__name__}")


def _queued_error(kind: int) -> ssl.SSLError:
    """Take what OpenSSL has noted, or it would be found behind the next call."""
    reasons = []
    while code := _lib.ERR_get_error():
        text = _lib.ERR_reason_error_string(code)
        reasons.append("unknown" if text == _ffi.NULL else _ffi.string(text).decode())
    return ssl.SSLError(kind, f"[SSL] {', '.join(reasons) or 'broken'}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What contexts of one server have in common.

    ``protocols`` are those of ALPN, the best one first, ``authorities`` certificates and
    revocation lists in PEM; ``key_log`` is the descriptor of SSLKEYLOGFILE.
    """

    minimum_version: ssl.TLSVersion
    ciphers: str
    protocols: tuple[bytes, ...]
    verify_mode: ssl.VerifyMode
    authorities: bytes
    check_revocation: bool
    key_log: int | None

    def make(self) -> SSL.Context:
        """Make a context that has no certificate yet."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self.minimum_version)
        # RFC 9113 section 9.2.1: neither compression nor renegotiation.
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # A write is for all of its octets, in as many records as it takes.
        context.clear_mode(_lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        context.set_cipher_list(self.ciphers.encode())
        context.set_tls13_ciphersuites(TLS13_SUITES)
        self._add_callbacks(context)
        context.set_session_id(b"h2asgi")  # or none that had a client certificate is resumed
        if self.verify_mode != ssl.CERT_NONE:
            required = self.verify_mode == ssl.CERT_REQUIRED
            context.set_verify(
                SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0)
            )
            with as_file(self.authorities) as path:
                context.load_verify_locations(path)
        if self.check_revocation:
            # Authorities between root and leaf can be revoked as well.
            flags = crypto.X509StoreFlags
            store = context.get_cert_store()
            assert store is not None
            store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)
        return context

    def _add_callbacks(self, context: Any) -> None:
        choose = _ffi.callback(_ALPN_CALLBACK, _Choice(self.protocols), _NO_OVERLAP)
        _lib.SSL_CTX_set_alpn_select_cb(context._context, choose, _ffi.NULL)
        callbacks = [choose]
        if self.key_log is not None:
            callbacks.append(_ffi.callback(_KEY_LOG_CALLBACK, self._log_key))
            _lib.SSL_CTX_set_keylog_callback(context._context, callbacks[-1])
        context.set_app_data(callbacks)  # to have them as long as OpenSSL may call them

    def _log_key(self, connection: Any, line: Any) -> None:
        assert self.key_log is not None
        with suppress(OSError):  # a full disk ends no connection
            os.write(self.key_log, _ffi.string(line) + b"\n")


class _Choice:
    """Of what a client offers by ALPN, the best of ``protocols`` (RFC 7301 section 3.2)."""

    def __init__(self, protocols: tuple[bytes, ...]) -> None:
        self._protocols = [(name, _ffi.from_buffer(name)) for name in protocols]

    def __call__(self, _: Any, out: Any, out_size: Any, names: Any, size: int, __: Any) -> int:
        """Have OpenSSL answer with one of them, or with none."""
        octets: bytes = _ffi.buffer(names, min(size, MAX_ALPN_SIZE))[:]
        offered = set()
        at = 0
        while at < len(octets):
            end = at + 1 + octets[at]
            offered.add(octets[at + 1 : end])
            at = end
        for name, address in self._protocols:
            if name in offered:
                out[0], out_size[0] = address, len(name)
                return _OK
        return _NO_OVERLAP


class Contexts:
    """The contexts of one certificate after another.

    pyOpenSSL lets none be changed that is in use. So connections begin with the first one, which
    has the keys of the session tickets, and take the certificate from the newest: sessions can
    be resumed across renewals (``SSL_set_SSL_CTX`` leaves the ticket keys where they were).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._first: SSL.Context | None = None
        self._newest: SSL.Context | None = None

    def load(self, certfile: str, key: bytes, password: str) -> None:
        """Have new connections get this pair; raises ``ssl.SSLError`` for one that cannot work."""
        try:
            context = self._settings.make()
            context.use_certificate_chain_file(certfile)
            loaded = crypto.load_privatekey(crypto.FILETYPE_PEM, key, password.encode())
            _use_key(context, loaded)
            context.check_privatekey()
        except (SSL.Error, crypto.Error) as error:
            raise _error(error) from None
        self._first = self._first or context
        self._newest = context

    def begin(self) -> PyOpenSSLTLS:
        """Begin a connection."""
        first, newest = self._first, self._newest
        assert first is not None
        assert newest is not None
        return PyOpenSSLTLS(first, newest)
