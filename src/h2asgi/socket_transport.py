"""A connected socket, TCP or Unix, as an asyncio transport.

It takes the place of the event loops' own for three reasons. uvloop's reads up to
32 times before anybody else has a turn, and neither loop's knows that connections
had better be read a few at a time (``shared_by_transports``). uvloop's has no socket, but
something that makes one for each option that is set. And where they differ, in
what they keep, pause and report, one behaviour is easier to be sure of than two.

Input is received straight into the protocol's buffer. What is written is sent at
once, and what the socket does not take is kept as it was given.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final, cast

from .callbacks import Callbacks
from .shared_by_transports import SharedByTransports, pending_error

MAX_BACKLOG_PIECES: Final = 256
"""Writes that wait before they are joined: each costs some 200 octets beside its content."""


_NOBODY: Final = cast(Callbacks, asyncio.BufferedProtocol())
"""Who is told of what happens after the end. A protocol has its transport, so this one lets go."""


class SocketTransport:
    """The server's side of one connection on ``sock``, which it owns from ``start`` on.

    An ``asyncio.Transport`` but for the name. ``sock`` does not block. A connection that breaks is
    lost with the error, an OSError.
    """

    __slots__ = (
        *("_backlog", "_backlog_size", "_closing", "_ended", "_has_reader", "_high", "_input_over"),
        *("_loop", "_lost", "_low", "_protocol", "_reading", "_recv_into", "_send", "_shared"),
        *("_sock", "_unanswered", "_waiting_to_write", "_watched", "_writing_paused"),
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, shared: SharedByTransports
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._shared = shared
        self._protocol: Callbacks
        # Input.
        self._reading = False
        self._has_reader = False
        self._input_over = False  # nothing more is taken from the socket
        self._unanswered = False  # nothing was sent since the last read
        self._watched = False
        # Output.
        self._backlog: list[memoryview] = []
        self._backlog_size = 0
        self._waiting_to_write = False
        self._writing_paused = False
        self.set_write_buffer_limits()
        # The end.
        self._ended = False  # nothing is written any more: FIN follows what waits
        self._closing = False
        self._lost = False

    def start(self, protocol: Callbacks) -> None:
        """Hand the connection to ``protocol``."""
        self._protocol = protocol
        self._reading = True
        try:
            protocol.connection_made(cast(asyncio.Transport, self))
            self._begin_reading()
        except BaseException:
            self.abort()
            raise

    # What a transport tells.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give ``socket`` or ``peername``."""
        if name == "socket":
            return self._sock
        if name == "peername":
            with suppress(OSError):
                return self._sock.getpeername()
        return default

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Octets that the kernel does not have yet."""
        return self._backlog_size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks for ``pause_writing`` and ``resume_writing``, as asyncio does."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        self._high = high
        self._low = high // 4 if low is None else low
        self._pause_above_mark()

    def can_write_eof(self) -> bool:
        """Whether either side may end while the other goes on: yes."""
        return True

    # Input.

    def pause_reading(self) -> None:
        """Leave input where it is."""
        # The reader goes when it is next called: most pauses are over by then.
        self._reading = False

    def resume_reading(self) -> None:
        """Go on where the pause began."""
        if not (self._reading or self._input_over or self._closing):
            self._reading = True
            self._begin_reading()

    def _begin_reading(self) -> None:
        if self._reading:
            self._add_reader()

    def _add_reader(self) -> None:
        self._look_for_reset()  # uvloop raises RuntimeError then
        if not (self._has_reader or self._lost):
            self._has_reader = True
            self._loop.add_reader(self._sock.fileno(), self._read_ready)

    def _remove_reader(self) -> None:
        if self._has_reader:
            self._has_reader = False
            self._loop.remove_reader(self._sock.fileno())

    def end_watch(self) -> None:
        """Look for an RST behind what was read; called by ``SharedByTransports``."""
        self._watched = False
        self._look_for_reset()

    def _look_for_reset(self) -> None:
        if self._unanswered and not self._lost:
            self._unanswered = False
            if error := pending_error(self._sock):
                self._finish(error)

    def _read_ready(self) -> None:
        if self._shared.may_read(self):
            self.read()

    def read(self) -> None:
        """Take a piece from the socket, if it is still wanted: the transport's turn has come."""
        if not self._reading:
            self._remove_reader()
            return
        size = self._receive(self._protocol.get_buffer(-1))
        if size > 0:
            self._deliver(size)
        elif not size:
            self._stop_input()
            self._end_of_input()

    def _receive(self, buffer: memoryview) -> int:
        """Give the size of what was put into ``buffer``: 0 for FIN, -1 for nothing."""
        try:
            size = self._recv_into(buffer)
        except BlockingIOError:
            return -1
        except OSError as error:
            self._lose(error)
            return -1
        self._unanswered = True
        if not self._watched:
            self._watched = True
            self._shared.watch(self)
        return size

    def _deliver(self, size: int) -> None:
        try:
            self._protocol.buffer_updated(size)
        except BaseException:
            self.abort()
            raise

    def _stop_input(self) -> None:
        self._input_over = True
        self._reading = False
        self._remove_reader()

    def _end_of_input(self) -> None:
        keep: bool | None = False
        try:
            keep = self._protocol.eof_received()
        finally:
            if not (keep and self.can_write_eof()):
                self.close()

    # Output.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the socket takes and keep the rest, as it is: ``data`` must not change."""
        if self._ended or not data:
            self._refuse_after_eof()
            return
        if self._backlog:
            self._keep(memoryview(data))
        else:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            self._unanswered = False
            if sent == len(data):
                return
            self._keep(memoryview(data)[sent:])
            self._wait_to_write()
        self._pause_above_mark()

    def _refuse_after_eof(self) -> None:
        if self._ended and not self._closing:
            raise RuntimeError("write() after write_eof()")

    def write_eof(self) -> None:
        """Send FIN behind what was written; input goes on."""
        if not self._ended:
            self._ended = True
            if not self._waiting_to_write:
                self._flush()

    def _keep(self, data: memoryview) -> None:
        self._backlog.append(data)
        self._backlog_size += len(data)
        if len(self._backlog) > MAX_BACKLOG_PIECES:
            self._backlog[:] = [memoryview(b"".join(self._backlog))]

    def _pause_above_mark(self) -> None:
        if not self._writing_paused and self.get_write_buffer_size() > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        """Send until nothing is left or the socket takes no more."""
        try:
            if self._send_waiting():
                self._stop_waiting_to_write()
                if self._ended:
                    self._shut_down()
            else:
                self._wait_to_write()
        except OSError as error:
            self._lose(error)
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _send_waiting(self) -> bool:
        """Send what the socket takes; says whether that was all."""
        backlog = self._backlog
        while backlog:
            data = backlog[0]
            try:
                sent = self._send(data)
            except BlockingIOError:
                return False
            self._backlog_size -= sent
            if sent < len(data):
                backlog[0] = data[sent:]
                return False
            del backlog[0]
        return True

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
        """Read nothing more, send what is left, then close."""
        if self._closing:
            return
        self._closing = self._ended = True
        self._stop_input()
        if not self._waiting_to_write:
            self._flush()

    def _shut_down(self) -> None:
        """Everything is with the kernel."""
        if self._closing and self._input_over:
            self._finish(None)
        else:
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close at once, and drop what is left."""
        self._finish(None)

    def _lose(self, error: OSError) -> None:
        """Break the connection."""
        self._finish(error)

    def _finish(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = self._ended = self._input_over = True
        self._reading = self._writing_paused = False
        self._remove_reader()
        self._stop_waiting_to_write()
        self._sock.close()
        self._backlog.clear()
        self._backlog_size = 0
        self._loop.call_soon(self._protocol.connection_lost, error)
        self._protocol = _NOBODY
