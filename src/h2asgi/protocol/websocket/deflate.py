"""permessage-deflate, the server's side (RFC 7692): what is agreed on, and both directions.

A WebSocket that compresses holds about 32 KiB for what it sends and 12 KiB
(40 KiB if the client cannot limit its window) for what it receives, both from
the first compressed message on.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

EXTENSION_NAME = "permessage-deflate"

WINDOW_BITS = 12
"""The window of both directions: 4 KiB, an eighth of the usual one for a few per cent of size."""

UNLIMITED_WINDOW_BITS = 15
"""RFC 7692 section 7.1.2.2: what a client may use that does not let itself be limited."""

MEMORY_LEVEL = 5
"""zlib then takes 2**(5 + 9) octets beside the 2**(12 + 2) of the window, 32 KiB in all."""

LEVEL = 3
"""A third less time than zlib's default of 6, for two hundredths more octets."""

MAX_FINAL_BLOCKS = 16
"""DEFLATE streams that one message may be made of; who flushes so (section 7.2.3.4) needs one."""

TAIL = b"\x00\x00\xff\xff"
"""Section 7.2.1: what a sync flush ends with; it is cut off here and added there."""

_window_bits = re.compile(r"[89]|1[0-5]").fullmatch

Offer = tuple[str, list[tuple[str, str | None]]]
"""An element of Sec-WebSocket-Extensions: its name and its parameters in order."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both ends agreed on (section 7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None

    def __str__(self) -> str:
        parts = [EXTENSION_NAME]
        for name in ("server_no_context_takeover", "client_no_context_takeover"):
            if getattr(self, name):
                parts.append(name)
        for name in ("server_max_window_bits", "client_max_window_bits"):
            if getattr(self, name) is not None:
                parts.append(f"{name}={getattr(self, name)}")
        return "; ".join(parts)


def agree(offers: Iterable[Offer]) -> Agreement | None:
    """Take the first offer that can be kept; what is wrong with one declines it (section 7)."""
    for name, parameters in offers:
        if name.lower() == EXTENSION_NAME:
            agreement = _accept(parameters)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: list[tuple[str, str | None]]) -> Agreement | None:
    offered = dict(parameters)
    if len(offered) != len(parameters) or not offered.keys() <= _PARAMETERS.keys():
        return None
    for name, value in offered.items():
        if not _PARAMETERS[name](value):
            return None
    server_bits = offered.get("server_max_window_bits")
    if server_bits == "8":
        return None  # zlib cannot send with a window of 256 octets
    client_bits = None
    if "client_max_window_bits" in offered:
        client_bits = min(WINDOW_BITS, int(offered["client_max_window_bits"] or WINDOW_BITS))
    return Agreement(
        "server_no_context_takeover" in offered,
        "client_no_context_takeover" in offered,
        None if server_bits is None else min(WINDOW_BITS, int(server_bits)),
        client_bits,
    )


_PARAMETERS: Mapping[str, Callable[[str | None], object]] = {
    "server_no_context_takeover": lambda value: value is None,
    "client_no_context_takeover": lambda value: value is None,
    "server_max_window_bits": lambda value: value is not None and _window_bits(value),
    "client_max_window_bits": lambda value: value is None or _window_bits(value),
}
"""What may be offered, and whether a value is a legal one (section 7.1)."""


class PerMessageDeflate:
    """The compression of one WebSocket, both ways."""

    __slots__ = (
        "_deflater",
        "_final_blocks",
        "_inflater",
        "_keep_deflater",
        "_keep_inflater",
        "_receive_bits",
        "_send_bits",
    )

    def __init__(self, agreement: Agreement) -> None:
        self._send_bits = agreement.server_max_window_bits or WINDOW_BITS
        # Never 8: there are senders whose zlib makes 9 of it.
        self._receive_bits = max(9, agreement.client_max_window_bits or UNLIMITED_WINDOW_BITS)
        self._keep_deflater = not agreement.server_no_context_takeover
        self._keep_inflater = not agreement.client_no_context_takeover
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._final_blocks = 0

    def deflate(self, data: bytes) -> bytes:
        """Compress a whole message that is not empty (section 7.2.1)."""
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(LEVEL, wbits=-self._send_bits, memLevel=MEMORY_LEVEL)
            if self._keep_deflater:
                self._deflater = deflater
        return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]

    def inflate(self, data: bytes, message: bytearray, limit: int) -> None:
        """Append to ``message`` what ``data`` inflates to, up to one octet beyond ``limit``.

        Raises ``zlib.error`` for what is not DEFLATE.
        """
        inflater = self._inflater
        if inflater is None:
            self._inflater = inflater = zlib.decompressobj(-self._receive_bits)
        while data and len(message) <= limit:
            message += inflater.decompress(data, limit + 1 - len(message))
            data = inflater.unused_data
            if inflater.eof:
                self._inflater = inflater = self._inflater_behind(message)

    def end_message(self) -> None:
        """Take note that the message, with ``TAIL`` behind it, has been inflated."""
        self._final_blocks = 0
        if not self._keep_inflater:
            self._inflater = None

    def _inflater_behind(self, message: bytearray) -> zlib._Decompress:
        """Give what reads on behind a block with BFINAL (section 7.2.3.4).

        It knows this message alone: a sender that ends a stream and refers to
        earlier messages nevertheless is taken for one that sends bad data.
        """
        self._final_blocks += 1
        if self._final_blocks > MAX_FINAL_BLOCKS:
            raise zlib.error("too many final blocks in one message")
        window = bytes(message[-(1 << self._receive_bits) :])
        return zlib.decompressobj(-self._receive_bits, window)
