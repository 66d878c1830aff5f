"""What the kernel knows of a connection and an event loop does not tell."""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress


def peer_has_closed(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed its side, or reset the connection; nothing is read.

    An event loop hears of that only from reading. Where the kernel cannot be
    asked it is not known, and the answer is no.
    """
    sock = transport.get_extra_info("socket")  # None from TLS when the connection was just lost
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    # Linux alone has POLLRDHUP; errors and hang-ups are reported without being asked for.
    poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))
    with suppress(OSError):
        return bool(poll.poll(0))
    return False
