"""The TLS handshake of one connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from .client_hello import ClientHello
from .shared_by_transports import SharedByTransports, pending_error
from .tls_context import ServerContext
from .tls_object import TLSObject

ALERT_TIMEOUT: Final = 1.0
"""Seconds for a client to close after a handshake that failed."""

MAX_READS_AFTER_ALERT: Final = 8
"""Reads for the same: what it sends meanwhile is dropped."""


class Handshake:
    """Makes ``tls`` ready for data, then calls ``done`` once.

    ``done`` gets None, or what the handshake failed by: an OSError, or a mistake of ours. Where
    the client is told by an alert it is ``failure`` from then on, and ``done`` hears of it when
    that has arrived. The socket is the caller's. After a success the loop still watches it for
    input, so that whoever reads next has only to be named instead. There is no deadline here.
    """

    __slots__ = (
        *("_context", "_done", "_early", "_farewell", "_hello", "_in_line", "_loop", "_over"),
        *("_reads_left", "_shared", "_sock", "_unsent", "_watched", "_writing", "failure", "tls"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ServerContext,
        shared: SharedByTransports,
        done: Callable[[Exception | None], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._context = context
        self._shared = shared
        self._done = done
        self.tls: TLSObject
        # Until it has told which certificate is wanted, and what it came in.
        self._hello: ClientHello | None = None
        self._early = bytearray()
        if context.named:
            self._hello = ClientHello()
        else:
            self.tls = context.begin()
        self._in_line = False  # for a step
        self._unsent: bytes | memoryview = b""
        self._writing = False  # as soon as the socket takes more
        self._watched = False
        self._over = False
        # The end that follows an alert.
        self.failure: Exception | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._reads_left = MAX_READS_AFTER_ALERT

    def begin(self) -> None:
        """Wait for the client's first message."""
        self._loop.add_reader(self._sock.fileno(), self._read_ready)

    def abandon(self) -> None:
        """End it without a word; ``done`` is not called."""
        if self._over:
            return
        self._over = True
        self._loop.remove_reader(self._sock.fileno())
        self._stop_writing()
        if self._farewell is not None:
            self._farewell.cancel()

    # Input.

    def _read_ready(self) -> None:
        # What has come behind the last message stays where it is until that was looked into.
        if self._in_line or self._over:
            return
        try:
            self._read()
        except BlockingIOError:
            pass
        except Exception as error:
            self._end(error)

    def _read(self) -> None:
        size = self._sock.recv_into(self._shared.ciphertext)
        if self.failure is not None:
            self._reads_left -= 1
            if not (size and self._reads_left):
                self._end(self.failure)
        elif not size:
            self._end(ConnectionResetError("the client left during the handshake"))
        elif self._receive(size):
            self._in_line = True
            self._shared.line_up(self._step)
        else:
            self._watch()

    def _receive(self, size: int) -> bool:
        """Give TLS what was read; says whether there is enough for a step."""
        if self._hello is None:
            self.tls.receive(self._shared.ciphertext, size)
            return True
        data = bytes(self._shared.ciphertext[:size])
        self._early += data
        if not self._hello.feed(data):
            return False
        self.tls = self._context.for_name(self._hello.server_name).begin()
        self._hello = None
        early = bytes(self._early)
        self._early.clear()
        self.tls.receive(memoryview(early), len(early))
        return True

    def _step(self) -> None:
        self._in_line = False
        if self._over:
            return
        try:
            if self.tls.do_handshake():
                self._succeed()
            elif self.tls.unsent:
                self._send()
            else:
                self._watch()
        except ssl.SSLError as error:
            self._refuse(error)
        except Exception as error:
            self._end(error)

    def _watch(self) -> None:
        """Have it looked soon for an RST behind what was read and is not answered."""
        if not self._watched:
            self._watched = True
            self._shared.watch(self)

    def end_watch(self) -> None:
        """Look for that RST; called by ``SharedByTransports``."""
        self._watched = False
        if not self._over and (error := pending_error(self._sock)):
            self._end(error)

    # Output.

    def _send(self) -> None:
        """Send what TLS has to say, as much as the socket takes."""
        while octets := self._unsent or self.tls.data_to_send(self._shared.scratch):
            try:
                sent = self._sock.send(octets)
            except BlockingIOError:
                sent = 0
            if sent < len(octets):
                self._unsent = bytes(octets[sent:])  # others use the same memory meanwhile
                self._write_later()
                return
            self._unsent = b""
        self._stop_writing()
        if self.failure is not None:
            self._sock.shutdown(socket.SHUT_WR)

    def _write_later(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock.fileno(), self._write_ready)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _write_ready(self) -> None:
        try:
            self._send()
        except Exception as error:
            self._end(error)

    # The end.

    def _succeed(self) -> None:
        self._over = True
        self._stop_writing()
        self._done(None)

    def _refuse(self, error: ssl.SSLError) -> None:
        """Say why the handshake failed, and let that arrive.

        A client of TLS 1.3 has mostly sent its request when its certificate is judged.
        Closing the socket with that unread would make the kernel send RST.
        """
        self.failure = error
        if self.tls.unsent:
            self._farewell = self._loop.call_later(ALERT_TIMEOUT, self._end, error)
            self._write_ready()
        else:
            self._end(error)

    def _end(self, error: Exception) -> None:
        """Fail; what comes behind an alert is the client's way to close."""
        if not self._over:
            self.abandon()
            failure = self.failure or error
            self.failure = None  # whose traceback leads back here
            self._done(failure)
