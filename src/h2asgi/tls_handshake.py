"""The TLS handshake of one connection."""

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
    """Makes ``tls`` ready for data.

    A step of it is calculated while ``step`` is held, which connections share. What is
    sent is made in ``scratch``, which they share as well.
    """

    __slots__ = ("_context", "_early", "_hello", "_loop", "_scratch", "_sock", "_step", "tls")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ServerContext,
        step: asyncio.Semaphore,
        scratch: memoryview,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._step = step
        self._scratch = scratch
        self._context = context
        self._hello = ClientHello() if context.named else None  # until it is whole
        self._early = bytearray()  # what it came in
        self.tls = context.begin()

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
            if self._hello is not None:
                self._early += data
                if not self._hello.feed(data):
                    continue
                data = self._choose_context(self._hello)
            self.tls.receive(memoryview(data), len(data))
            async with self._step:
                if self.tls.do_handshake():
                    return
                await asyncio.sleep(0)
            await self._send()

    def _choose_context(self, hello: ClientHello) -> bytes:
        """Begin anew with the context of the name that the client asks for; gives all input."""
        self._hello = None
        named = self._context.for_name(hello.server_name)
        if named is not self._context:
            self.tls = named.begin()
        early, self._early = self._early, bytearray()
        return bytes(early)

    async def _send(self) -> None:
        while self.tls.unsent:
            # A copy, since others use the same memory while this waits.
            octets = bytes(self.tls.data_to_send(self._scratch))
            await self._loop.sock_sendall(self._sock, octets)

    async def _deliver_alert(self) -> None:
        """Say why the handshake failed, and let that arrive.

        A client of TLS 1.3 has mostly sent its request when its certificate is judged.
        Closing the socket with that unread would make the kernel send RST.
        """
        if not self.tls.unsent:
            return
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(ALERT_TIMEOUT):
                await self._send()
                self._sock.shutdown(socket.SHUT_WR)
                for _ in range(MAX_READS_AFTER_ALERT):
                    if not await self._loop.sock_recv(self._sock, HANDSHAKE_READ_SIZE):
                        return
