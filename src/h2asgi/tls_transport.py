"""TLS over a socket: an asyncio transport around a ``TLSObject``.

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
import os
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, cast

from .callbacks import Callbacks
from .tls_context import ServerContext
from .tls_handshake import Handshake
from .tls_object import ENDED, TLSObject
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

MAX_BACKLOG_PIECES: Final = 256
"""Writes that wait before they are joined: each costs some 200 octets beside its content."""

MAX_PLAINTEXT_SIZE: Final = 16 * 1024
"""Octets of data in one TLS record (RFC 8446 section 5.1)."""


class TLSTransport:
    """The server's side of one TLS connection on ``sock``, which it owns from ``start`` on.

    An ``asyncio.Transport`` but for the name. ``eof_received`` of its protocol may not keep the
    connection open, and a broken connection is lost with the error, an OSError.
    """

    __slots__ = (
        *("_backlog", "_backlog_size", "_closing", "_discarded", "_failure", "_high"),
        *("_ciphertext", "_handshake", "_recv_into", "_shared", "_unanswered", "_watched"),
        *("_input_ended", "_input_over", "_loop", "_lost", "_low"),
        *("_protocol", "_reading", "_scratch", "_sock", "_tls", "_unsent", "_waiting_to_write"),
        *("_notified", "_writing_paused"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ServerContext,
        shared: SharedByTransports,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._recv_into = sock.recv_into
        self._shared = shared
        self._ciphertext = shared.ciphertext
        self._scratch = shared.scratch
        # Until it is over.
        self._handshake: Handshake | None = Handshake(
            loop, sock, context, shared.handshake_step, shared.scratch
        )
        self._tls: TLSObject
        self._protocol: Callbacks
        # Input.
        self._reading = False
        self._input_ended = False  # close_notify has come
        self._input_over = False  # nothing more is taken from the socket
        self._failure: ssl.SSLError | None = None  # of decryption
        self._discarded = 0
        self._unanswered = False  # nothing was sent since the last read
        self._watched = False
        # Output: first what is encrypted, then what is not.
        self._unsent: bytes | memoryview = b""
        self._backlog: list[memoryview] = []
        self._backlog_size = 0
        self._waiting_to_write = False
        self._writing_paused = False
        self.set_write_buffer_limits()
        # The end.
        self._closing = False
        self._notified = False
        self._lost = False

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
        self._tls = self._handshake.tls
        self._handshake = None
        self._protocol = protocol
        self._reading = True
        try:
            protocol.connection_made(cast(asyncio.Transport, self))
        except BaseException:
            self.abort()
            raise
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
        """Give ``socket``, ``tls``, which is a ``TLSObject``, or ``peername``."""
        if name == "socket":
            return self._sock
        if name == "tls":
            return self._tls
        if name == "peername":
            with suppress(OSError):
                return self._sock.getpeername()
        return default

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Octets that the kernel does not have yet; of some of them, their size encrypted."""
        return self._backlog_size + len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks for ``pause_writing`` and ``resume_writing``, as asyncio does."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        self._high = high
        self._low = high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        """TLS has a half-close, of which ``eof_received`` makes no use: no."""
        return False

    # Input.

    def pause_reading(self) -> None:
        """Leave input where it is, also what is decrypted already."""
        if self._reading and not self._closing:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume_reading(self) -> None:
        """Go on where the pause began."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.call_soon(self._go_on)

    def _add_reader(self) -> None:
        self._look_for_reset()  # uvloop raises RuntimeError then
        if not self._lost:
            self._loop.add_reader(self._sock.fileno(), self._read_ready)

    def end_watch(self) -> None:
        """Look for an RST behind what was read; called by ``SharedByTransports``."""
        self._watched = False
        self._look_for_reset()

    def _look_for_reset(self) -> None:
        if self._unanswered and not self._lost:
            self._unanswered = False
            if number := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._finish(OSError(number, os.strerror(number)))

    def _read_ready(self) -> None:
        if self._shared.may_read(self):
            self.read()

    def read(self) -> None:
        """Take a piece from the socket, if it is still wanted: the transport's turn has come."""
        if self._input_over or not (self._reading or self._closing):
            return
        try:
            size = self._recv_into(self._ciphertext)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self._unanswered = True
        if not self._watched:
            self._watched = True
            self._shared.watch(self)
        if self._closing:
            self._discard(size)
        elif size:
            self._tls.receive(self._ciphertext, size)
            self._decrypt()
        else:  # TCP's FIN, with close_notify before it or without
            self._stop_input()
            self._end_of_input()

    def _decrypt(self) -> None:
        """Hand on what has arrived, until that is all or the protocol wants no more."""
        tls, protocol = self._tls, self._protocol
        while self._reading and not self._closing:
            buffer = protocol.get_buffer(-1)
            size = self._fill(buffer)
            if size:
                try:
                    protocol.buffer_updated(size)
                except BaseException:
                    self.abort()
                    raise
            if self._failure is not None:
                self._lose(self._failure)
                return
            if self._input_ended:
                self._end_of_input()
                return
            if not tls.pending and size < len(buffer):
                break
        if self._waiting_to_write:
            if tls.unsent > ALERTS_LIMIT:
                self._lose(ConnectionAbortedError("the client does not read TLS's own answers"))
        elif (tls.unsent or self._backlog) and not self._lost:
            # The TLS layer answers something, or could not encrypt before it had read.
            self._flush()

    def _fill(self, buffer: memoryview) -> int:
        """Decrypt into ``buffer``; notes if the input ends or breaks behind that."""
        tls, space, filled = self._tls, len(buffer), 0
        try:
            while filled < space:
                size = tls.read(buffer, filled)
                if size <= 0:
                    self._input_ended = size == ENDED
                    break
                filled += size
                if not tls.pending:
                    break
        except ssl.SSLError as error:
            self._failure = error
        return filled

    def _end_of_input(self) -> None:
        try:
            self._protocol.eof_received()
        finally:
            self.close()

    def _discard(self, size: int) -> None:
        """Drop what comes after the end, so that no RST overtakes what went out."""
        self._discarded += size
        if not size or self._discarded > DISCARD_LIMIT:
            self._stop_input()
            if not self.get_write_buffer_size():
                self._finish(None)

    def _stop_input(self) -> None:
        self._input_over = True
        self._loop.remove_reader(self._sock.fileno())

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
            self._backlog.append(memoryview(data))
            self._backlog_size += len(data)
            if len(self._backlog) > MAX_BACKLOG_PIECES:
                self._backlog[:] = [memoryview(b"".join(self._backlog))]
            if not self._waiting_to_write:
                self._flush()
        if self._backlog_size + len(self._unsent) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _write_record(self, data: bytes | bytearray | memoryview) -> bool:
        """Do what ``_flush`` does, for the usual case: 1 us instead of 2; says if it was done."""
        try:
            if not self._tls.write(data):
                return False
            self._send(self._tls.data_to_send(self._scratch))
            self._unanswered = False
        except OSError as error:
            self._lose(error)
        return True

    def _send(self, octets: bytes | memoryview) -> bool:
        """Give octets to the socket and keep what it does not take; says if it took all."""
        try:
            sent = self._sock.send(octets)
        except BlockingIOError:
            sent = 0
        if sent == len(octets):
            self._unsent = b""
            return True
        rest = octets[sent:]
        # Memory that others share is copied, once.
        self._unsent = rest if octets is self._unsent else memoryview(bytes(rest))
        self._wait_to_write()
        return False

    def _flush(self) -> None:
        """Encrypt and send until nothing is left or the socket takes no more."""
        try:
            while octets := self._unsent or self._encrypt():
                if not self._send(octets):
                    break
            else:
                self._stop_waiting_to_write()
                if self._notified:
                    self._shut_down()
        except OSError as error:
            self._lose(error)
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

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
        if self._closing and not backlog and not self._notified:
            self._notified = True
            tls.close_notify()
        return tls.data_to_send(self._scratch)

    def _wait_to_write(self) -> None:
        if not self._waiting_to_write:
            self._waiting_to_write = True
            self._loop.add_writer(self._sock.fileno(), self._flush)

    def _stop_waiting_to_write(self) -> None:
        if self._waiting_to_write:
            self._waiting_to_write = False
            self._loop.remove_writer(self._sock.fileno())

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

    def _shut_down(self) -> None:
        """Everything is with the kernel."""
        if self._input_over:
            self._finish(None)
        else:
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close at once, without close_notify."""
        self._finish(None)

    def _lose(self, error: OSError) -> None:
        """Break the connection, with the alert that OpenSSL has made, if any."""
        if not self._unsent:
            self._send_alert()
        self._finish(error)

    def _send_alert(self) -> None:
        if self._tls.unsent:
            with suppress(OSError):
                self._sock.send(self._tls.data_to_send(self._scratch))

    def _finish(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = self._input_over = True
        self._reading = False
        self._loop.remove_reader(self._sock.fileno())
        self._stop_waiting_to_write()
        self._sock.close()
        self._backlog.clear()
        self._backlog_size = 0
        self._unsent = b""
        self._loop.call_soon(self._protocol.connection_lost, error)
