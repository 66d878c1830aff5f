"""The TLS handshake of one connection, over ``ssl.SSLObject``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from .client_hello import ClientHello
from .tls_context import ServerContext

HANDSHAKE_READ_SIZE = 16 * 1024

ALERT_TIMEOUT = 1.0
MAX_READS_AFTER_ALERT = 8
"""Seconds and reads for a client to close after a handshake that failed."""


class Handshake:
    """Makes ``ssl``, with ``incoming`` and ``outgoing``, ready for data.

    A step of it is calculated while ``step`` is held, which connections share.
    """

    __slots__ = ("_hello", "_loop", "_sock", "_step", "incoming", "outgoing", "ssl")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ssl.SSLContext,
        step: asyncio.Semaphore,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._step = step
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        has_names = isinstance(context, ServerContext) and context.named
        self._hello = ClientHello() if has_names else None  # until it is whole

    async def run(self, timeout: float) -> None:
        """Agree on keys with the client, within ``timeout`` seconds.

        Raises OSError, and leaves the socket to the caller.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._shake_hands()
        except TimeoutError:
            raise TimeoutError(f"the handshake took longer than {timeout:g} s") from None
        except ssl.SSLError:
            await self._deliver_alert()
            raise

    async def _shake_hands(self) -> None:
        while True:
            data = await self._loop.sock_recv(self._sock, HANDSHAKE_READ_SIZE)
            if not data:
                raise ConnectionResetError("the client left during the handshake")
            self.incoming.write(data)
            if self._hello is not None and not self._choose_context(self._hello, data):
                continue
            async with self._step:
                if self._is_done():
                    return
                await asyncio.sleep(0)
            if self.outgoing.pending:
                await self._loop.sock_sendall(self._sock, self.outgoing.read())

    def _choose_context(self, hello: ClientHello, data: bytes) -> bool:
        """Take the context of the name that the client asks for; says if that is known yet."""
        if not hello.feed(data):
            return False
        self._hello = None
        context = self.ssl.context
        assert isinstance(context, ServerContext)
        named = context.for_name(hello.server_name)
        if named is not context:
            self.ssl = named.wrap_bio(self.incoming, self.outgoing, server_side=True)
        return True

    def _is_done(self) -> bool:
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def _deliver_alert(self) -> None:
        """Say why the handshake failed, and let that arrive.

        A client of TLS 1.3 has mostly sent its request when its certificate is judged.
        Closing the socket with that unread would make the kernel send RST.
        """
        if not self.outgoing.pending:
            return
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(ALERT_TIMEOUT):
                await self._loop.sock_sendall(self._sock, self.outgoing.read())
                self._sock.shutdown(socket.SHUT_WR)
                for _ in range(MAX_READS_AFTER_ALERT):
                    if not await self._loop.sock_recv(self._sock, HANDSHAKE_READ_SIZE):
                        return
