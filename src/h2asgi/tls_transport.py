"""TLS over a socket: an asyncio transport around ``ssl.SSLObject``.

It takes the place of the event loops' own TLS for two reasons. Theirs keeps
half a mebibyte for each connection that has once received a body, asyncio's a
quarter from the start; here it is under 20 KiB, and at most 200. And theirs reads
for as long as a peer sends, so that one that sends nothing but key updates
(RFC 8446 section 4.6.3) holds up all others; here a wake-up takes one piece, and
``tls_shared`` says whose turn it is.

What arrives is decrypted straight into the protocol's buffer. What is written
is kept as it was given until the socket takes it, and only then encrypted.

The end (RFC 8446 section 6.1): what was written, close_notify and TCP's FIN go
out; then input is dropped until the peer has closed its side too. A socket that
is closed while input comes in makes the kernel send RST, which destroys what the
peer has not read yet. There is no bound on that time here, as there is none on a
peer that does not read: deadlines are the protocol's affair.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from .callbacks import Callbacks
from .socket_transport import SocketTransport
from .tls_handshake import Handshake
from .tls_shared import SharedByTransports

WRITE_SIZE: Final = 64 * 1024
"""Octets encrypted before they are sent: few calls of the kernel, and a small rest to keep.
Both sizes also bound what a connection keeps: a MemoryBIO grows to what was once in it."""

MAX_TAIL_SIZE: Final = 2 * 1024
"""Octets that go along if they are the last: HTTP/2 writes bodies in powers of two, and headers of
frames, and a call of the kernel for those alone costs as much as one for 64 KiB."""

DISCARD_LIMIT: Final = 1024 * 1024
"""Octets dropped after the end before a peer that goes on sending gets an RST."""

ALERTS_LIMIT: Final = 16 * 1024
"""Octets of answers to the TLS layer itself that may wait for a peer that does not read them."""

MAX_PLAINTEXT_SIZE: Final = 16 * 1024
"""Octets of data in one TLS record (RFC 8446 section 5.1)."""


class TLSTransport(SocketTransport):
    """The server's side of one TLS connection, which owns its socket from ``start`` on.

    ``eof_received`` of its protocol may not keep the connection open.
    """

    __slots__ = (
        *("_ciphertext", "_discarded", "_failure", "_handshake", "_incoming", "_input_ended"),
        *("_outgoing", "_ssl", "_unsent"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ssl.SSLContext,
        shared: SharedByTransports,
    ) -> None:
        # Output that waits: first this, which is encrypted, then the backlog, which is not.
        self._unsent: bytes | memoryview = b""
        super().__init__(loop, sock, shared)
        self._ciphertext = shared.ciphertext
        handshake = Handshake(loop, sock, context, shared.handshake_step)
        self._handshake: Handshake | None = handshake  # until it is over
        self._incoming = handshake.incoming
        self._outgoing = handshake.outgoing
        self._ssl = handshake.ssl
        self._input_ended = False  # close_notify has come
        self._failure: ssl.SSLError | None = None  # of decryption
        self._discarded = 0

    # The beginning.

    def handshake(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Agree on keys with the client, within ``timeout`` seconds.

        Raises OSError, and leaves the socket to the caller.
        """
        assert self._handshake is not None
        return self._handshake.run(timeout)

    def start(self, protocol: Callbacks) -> None:
        """Hand the connection to ``protocol``, after the handshake."""
        assert self._handshake is not None
        self._ssl = self._handshake.ssl
        self._handshake = None
        super().start(protocol)

    def _begin_reading(self) -> None:
        # After what the protocol scheduled: session tickets go out with its first octets, and
        # its first input may have come with the client's last message.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read on: first what is here already, then what the socket has."""
        if self._closing:
            return
        self._decrypt()
        if self._reading:
            self._add_reader()
        if not self._closing:
            self._flush()

    # What a transport tells.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give ``socket``, ``ssl_object`` or ``peername``."""
        if name == "ssl_object":
            return self._ssl
        return super().get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Octets that the kernel does not have yet; of some of them, their size encrypted."""
        return self._backlog_size + len(self._unsent)

    def can_write_eof(self) -> bool:
        """TLS has a half-close, of which no use is made: no."""
        return False

    # Input.

    def read(self) -> None:
        """Take a piece from the socket, if it is still wanted: the transport's turn has come."""
        if self._input_over or not (self._reading or self._closing):
            self._remove_reader()
            return
        size = self._receive(self._ciphertext)
        if size < 0:
            return
        if self._closing:
            self._discard(size)
        elif size:
            self._incoming.write(self._ciphertext[:size])
            self._decrypt()
        else:  # TCP's FIN, with close_notify before it or without
            self._stop_input()
            self._end_of_input()

    def _decrypt(self) -> None:
        """Hand on what has arrived, until that is all or the protocol wants no more."""
        incoming, protocol = self._incoming, self._protocol
        while self._reading and not self._closing:
            buffer = memoryview(protocol.get_buffer(-1))
            size = self._fill(buffer)
            if size:
                self._deliver(size)
            if self._failure is not None:
                self._lose(self._failure)
                return
            if self._input_ended:
                self._end_of_input()
                return
            if not incoming.pending and size < len(buffer):
                break
        if self._waiting_to_write:
            if self._outgoing.pending > ALERTS_LIMIT:
                self._lose(ConnectionAbortedError("the client does not read TLS's own answers"))
        elif (self._outgoing.pending or self._backlog) and not self._lost:
            # The TLS layer answers something, or could not encrypt before it had read.
            self._flush()

    def _fill(self, buffer: memoryview) -> int:
        """Decrypt into ``buffer``; notes if the input ends or breaks behind that."""
        incoming, space, filled = self._incoming, len(buffer), 0
        read: Any = self._ssl.read  # it gives a number here, which is not what typeshed says
        rest = buffer
        try:
            while filled < space:
                size: int = read(space - filled, rest)
                if not size:
                    self._input_ended = True  # close_notify
                    break
                filled += size
                if not incoming.pending:
                    break
                rest = buffer[filled:]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failure = error
        return filled

    def _discard(self, size: int) -> None:
        """Drop what comes after the end, so that no RST overtakes what went out."""
        self._discarded += size
        if not size or self._discarded > DISCARD_LIMIT:
            self._stop_input()
            if not self.get_write_buffer_size():
                self._finish(None)

    # Output.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the socket takes and keep the rest, as it is: ``data`` must not change."""
        if self._closing or not data:
            return
        if (
            len(data) > MAX_PLAINTEXT_SIZE
            or self._backlog
            or self._unsent
            or not self._write_record(data)
        ):
            self._keep(memoryview(data))
            if not self._waiting_to_write:
                self._flush()
        if self._backlog or self._unsent:
            self._pause_above_mark()

    def write_eof(self) -> None:
        """Not without close_notify, see ``can_write_eof``."""
        raise NotImplementedError

    def _write_record(self, data: bytes | bytearray | memoryview) -> bool:
        """Do what ``_flush`` does, for the usual case: 1 us instead of 2; says if it was done."""
        try:
            self._ssl.write(data)
            record = self._outgoing.read()
            sent = self._send(record)
        except ssl.SSLWantReadError:
            return False
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return True
        self._unanswered = False
        if sent < len(record):
            self._unsent = memoryview(record)[sent:]
            self._wait_to_write()
        return True

    def _send_waiting(self) -> bool:
        """Encrypt and send what the socket takes; says whether that was all."""
        while self._unsent or self._encrypt():
            try:
                sent = self._send(self._unsent)
            except BlockingIOError:
                return False
            if sent < len(self._unsent):
                self._unsent = memoryview(self._unsent)[sent:]
                return False
            self._unsent = b""
        return True

    def _encrypt(self) -> bool:
        """Make the next octets for the socket; says whether there are any."""
        backlog, outgoing = self._backlog, self._outgoing
        if not (backlog or outgoing.pending or self._closing):
            return False
        try:
            while backlog:
                room = WRITE_SIZE - outgoing.pending
                if room <= 0 and (room := self._backlog_size) > MAX_TAIL_SIZE:
                    break
                data = backlog[0]
                size = self._ssl.write(data[:room])
                self._backlog_size -= size
                if size == len(data):
                    del backlog[0]
                else:
                    backlog[0] = data[size:]
        except ssl.SSLWantReadError:
            pass  # half a key update has come: writing goes on when the other half is read
        if self._closing and not backlog and not self._ended:
            self._ended = True
            with suppress(ssl.SSLError):  # it would wait for the peer's
                self._ssl.unwrap()
        self._unsent = outgoing.read()
        return bool(self._unsent)

    # The end.

    def close(self) -> None:
        """Send what is left, close_notify and FIN; the connection is lost when the peer closes."""
        if self._closing:
            return
        self._closing = True
        if not self._input_over:
            self._add_reader()
        self._reading = False
        if not self._waiting_to_write and not self._lost:
            self._flush()

    def _lose(self, error: OSError) -> None:
        """Break the connection, with the alert that OpenSSL has made, if any."""
        if not self._unsent:
            self._send_alert()
        self._finish(error)

    def _send_alert(self) -> None:
        if self._outgoing.pending:
            with suppress(OSError):
                self._send(self._outgoing.read())

    def _finish(self, error: OSError | None) -> None:
        self._unsent = b""
        super()._finish(error)
