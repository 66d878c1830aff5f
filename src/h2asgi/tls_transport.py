"""TLS over a socket: an asyncio transport around a ``TLSObject``.

It takes the place of the event loops' own TLS for two reasons. Theirs keeps
half a mebibyte for each connection that has once received a body, asyncio's a
quarter from the start; here it is under 25 KiB, and at most 200. And theirs reads
for as long as a peer sends, so that one that sends nothing but key updates
(RFC 8446 section 4.6.3) holds up all others; here a wake-up takes one piece of that, and
``shared_by_transports`` says whose turn it is.

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
from contextlib import suppress
from typing import Any, Final

from .callbacks import Callbacks
from .shared_by_transports import SharedByTransports, pending_error
from .socket_transport import SocketTransport
from .tls_object import ENDED, TLSObject

MAX_READS: Final = 4
"""Pieces taken from the socket in a turn, as long as they are full and two thirds are data (the
last record may wait for its end): bodies wake applications less often. Of what is no data, such as
key updates, there is hardly more in four than in one."""

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

RECORD_HEADER_SIZE: Final = 5


_GONE: Final = TLSObject()
"""In the place of what takes tens of KiB, while callers may still hold the transport."""


class TLSTransport(SocketTransport):
    """The server's side of one TLS connection, which owns its socket from ``start`` on.

    ``tls`` has been through its handshake. ``eof_received`` of its protocol may not keep the
    connection open.
    """

    __slots__ = (
        *("_between_records", "_ciphertext", "_discarded", "_failure", "_input_ended", "_more"),
        *("_scratch", "_tls", "_unsent"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        tls: TLSObject,
        shared: SharedByTransports,
    ) -> None:
        # Output that waits: first this, which is encrypted, then the backlog, which is not.
        self._unsent: bytes | memoryview = b""
        super().__init__(loop, sock, shared)
        self._ciphertext = shared.ciphertext
        self._scratch = shared.scratch
        self._tls = tls
        self._between_records = False  # nothing of a record was read that has not come whole
        self._more = False  # is perhaps there to be decrypted
        self._input_ended = False  # close_notify has come
        self._failure: ssl.SSLError | None = None  # of decryption
        self._discarded = 0

    # The beginning.

    def start(self, protocol: Callbacks) -> None:
        """Hand the connection to ``protocol``. Raises OSError if it is broken already."""
        if error := pending_error(self._sock):
            raise error  # uvloop would raise RuntimeError
        # In the place of the handshake, whose input the loop watches still: naming another
        # reader is no affair of the kernel.
        self._has_reader = True
        self._loop.add_reader(self._sock.fileno(), self._read_ready)
        super().start(protocol)

    def _begin_reading(self) -> None:
        # After what the protocol scheduled: session tickets go out with its first octets, and
        # its first input may have come with the client's last message.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read on: first what is here already, then what the socket has."""
        if self._closing:
            return
        self._decrypt(False)
        if self._reading:
            self._add_reader()
        if not self._closing:
            self._flush()

    # What a transport tells.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give ``socket``, ``tls``, which is a ``TLSObject``, or ``peername``."""
        if name == "tls":
            return default if self._lost else self._tls
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
        for _ in range(MAX_READS):
            if not self._read_piece():
                break

    def _read_piece(self) -> bool:
        """Take what fits into the scratch space; says whether there is likely to be more."""
        size = self._receive(self._ciphertext)
        if size < 0:
            return False
        if self._closing:
            self._discard(size)
        elif size:
            one_record = self._between_records and _is_one_record(self._ciphertext, size)
            self._tls.receive(self._ciphertext, size)
            return self._decrypt(one_record) > size * 2 // 3 and size == len(self._ciphertext)
        else:
            self._take_fin()
        return False

    def _take_fin(self) -> None:
        """End the input: TCP's FIN has come, with close_notify before it or without.

        First comes what is here already. That is so before ``_go_on``, between which and its
        scheduling uvloop looks at the socket. If it is too much for now, FIN will come again.
        """
        if self._tls.pending:
            self._decrypt(False)
        if self._reading and not self._closing:
            self._stop_input()
            self._end_of_input()

    def _decrypt(self, one_record: bool) -> int:
        """Hand on what has arrived, until that is all or the protocol wants no more.

        Gives the octets of data, 0 if no more are wanted. ``one_record`` says that it is one
        record and nothing else, as requests mostly are: there is less to ask the library then.
        """
        tls, protocol, delivered = self._tls, self._protocol, 0
        while self._reading and not self._closing:
            buffer = protocol.get_buffer(-1)
            size = self._fill(buffer, one_record)
            if size:
                self._deliver(size)
                delivered += size
            if self._failure is not None:
                self._lose(self._failure)
                return 0
            if self._input_ended:
                self._end_of_input()
                return 0
            if not self._more:
                break
        only_data = one_record and delivered > 0  # which asks for no answer
        if self._waiting_to_write:
            if tls.unsent > ALERTS_LIMIT:
                self._lose(ConnectionAbortedError("the client does not read TLS's own answers"))
        elif not self._lost and (self._backlog or (not only_data and tls.unsent)):
            # The TLS layer answers something, or could not encrypt before it had read.
            self._flush()
        return delivered if self._reading else 0

    def _fill(self, buffer: memoryview, one_record: bool) -> int:
        """Decrypt into ``buffer``; notes if the input ends or breaks behind that, or goes on."""
        tls, space, filled = self._tls, len(buffer), 0
        self._more = self._between_records = False
        try:
            while True:
                size = tls.read(buffer, filled)
                if size <= 0:
                    self._input_ended = size == ENDED
                    break
                filled += size
                if filled == space:
                    self._more = True
                    break
                if one_record or not tls.pending:
                    self._between_records = True
                    break
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
            len(data) > WRITE_SIZE + MAX_TAIL_SIZE
            or self._backlog
            or self._unsent
            or not self._write_at_once(data)
        ):
            self._keep(memoryview(data))
            if not self._waiting_to_write:
                self._flush()
        if self._backlog or self._unsent:
            self._pause_above_mark()

    def write_eof(self) -> None:
        """Not without close_notify, see ``can_write_eof``."""
        raise NotImplementedError

    def _write_at_once(self, data: bytes | bytearray | memoryview) -> bool:
        """Do what ``_flush`` does, for the usual case: 1 us instead of 2; says if it was done."""
        try:
            if not self._tls.write(data):
                return False
            self._unanswered = False
            records = self._tls.data_to_send(self._scratch)
            if not self._send_records(records):
                self._wait_to_write()
            elif len(records) >= len(self._scratch):
                self._flush()  # what the TLS layer has to answer did not fit in
        except OSError as error:
            self._lose(error)
        return True

    def _send_waiting(self) -> bool:
        """Encrypt and send what the socket takes; says whether that was all."""
        while records := self._unsent or self._encrypt():
            if not self._send_records(records):
                return False
        return True

    def _send_records(self, records: bytes | memoryview) -> bool:
        """Give records to the socket and keep what it does not take; says if it took all."""
        try:
            sent = self._send(records)
        except BlockingIOError:
            sent = 0
        if sent == len(records):
            self._unsent = b""
            return True
        rest = memoryview(records)[sent:]
        # Memory that others share is copied, once.
        self._unsent = rest if records is self._unsent else memoryview(bytes(rest))
        return False

    def _encrypt(self) -> bytes | memoryview:
        """Make the next octets for the socket, if there are any."""
        backlog, tls = self._backlog, self._tls
        if not (backlog or tls.unsent or self._closing):
            return b""
        while backlog:
            room = WRITE_SIZE - tls.unsent
            if room <= 0 and (room := self._backlog_size) > MAX_TAIL_SIZE:
                break
            data = backlog[0]
            size = tls.write(data[:room])
            if not size:
                break  # half a key update has come: writing goes on when the other half is read
            self._backlog_size -= size
            if size == len(data):
                del backlog[0]
            else:
                backlog[0] = data[size:]
        if self._closing and not backlog and not self._ended:
            self._ended = True
            tls.close_notify()
        return tls.data_to_send(self._scratch)

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
        if not (self._unsent or self._lost):
            self._send_alert()
        self._finish(error)

    def _send_alert(self) -> None:
        if self._tls.unsent:
            with suppress(OSError):
                self._send(self._tls.data_to_send(self._scratch))

    def _finish(self, error: OSError | None) -> None:
        self._unsent = b""
        self._tls = _GONE
        super()._finish(error)


def _is_one_record(buffer: memoryview, size: int) -> bool:
    """Whether ``size`` octets are a record and no more (RFC 8446 section 5.1: its header)."""
    high: int = buffer[3]
    low: int = buffer[4]
    return size == RECORD_HEADER_SIZE + (high << 8 | low)
