"""What the kernel knows of a connection, and can do with it, that an event loop does not offer."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys
from contextlib import suppress

try:
    import fcntl
    import termios
except ImportError:  # Windows: nothing is known to be delivered
    _QUEUE_REQUEST: int | None = None
else:
    _QUEUE_REQUEST = getattr(termios, "TIOCOUTQ", None)


NOTSENT_LOWAT = 128 * 1024
"""Bytes not yet sent above which the kernel takes no more.

What is in the kernel can no longer be reprioritised; this is about one round
trip of 10 ms at 100 Mbit/s, so that the pipe does not run dry either.
"""


def prepare(sock: socket.socket) -> None:
    """Set what a connection needs that was just accepted."""
    # What is written is whole already: waiting for more would only delay it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished is found out in the end, also while nothing is sent to it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)


def peer_has_closed(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed its side, or reset the connection; nothing is read.

    An event loop hears of that only from reading. Where the kernel cannot be
    asked it is not known, and the answer is no.
    """
    # Linux alone has POLLRDHUP; errors and hang-ups are reported without being asked for.
    return _poll(transport, getattr(select, "POLLRDHUP", 0))


def has_input(transport: asyncio.Transport) -> bool:
    """Whether anything from the peer, its end perhaps, waits to be read by the event loop."""
    return _poll(transport, getattr(select, "POLLIN", 0))


def _poll(transport: asyncio.Transport, events: int) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), events)
    with suppress(OSError):
        return bool(poll.poll(0))
    return False


def is_delivered(transport: asyncio.Transport) -> bool:
    """Whether the peer's system has acknowledged everything that was written."""
    sock = transport.get_extra_info("socket")
    if _QUEUE_REQUEST is None or sock is None or transport.get_write_buffer_size():
        return False
    with suppress(OSError, ValueError):
        queued = fcntl.ioctl(sock.fileno(), _QUEUE_REQUEST, bytes(4))
        return int.from_bytes(queued, sys.byteorder) == 0
    return False


def cut_off(transport: asyncio.Transport) -> None:
    """Drop an HTTP/1.1 connection in a way that its peer cannot take for the end of an answer.

    HTTP/1.1 has no reset of its own. TLS shows by the missing close_notify that
    something is missing; in the clear only TCP's RST does.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
