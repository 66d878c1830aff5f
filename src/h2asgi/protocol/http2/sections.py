"""Field sections, from and to their blocks (RFC 9113 section 4.3), each worked out once.

Clients ask for the same things again and again, and servers answer alike. What
a block means, and how a section is encoded, depends on the compression state,
which is the connection's dynamic table. As long as no block changes that table,
a block that was seen before means the same request: it has been decoded, and
checked, already. So both directions remember what left the table alone, and
forget everything when it changes (RFC 7541 section 2.3.2).
"""

from __future__ import annotations

from typing import Final, TypeVar

from ...config import MAX_HEADER_FIELDS
from ...errors import ErrorCode, PeerConnectionError
from ..events import Headers
from ..headers import RequestError, RequestHead, http2_request, http2_request_line, http2_trailers
from .codec import Codec

MAX_REMEMBERED: Final = 32
"""Sections of one connection and direction: enough for a client that goes round its few favourites.
Past it all are forgotten, which costs no more than not having remembered them."""

MAX_REMEMBERED_OCTETS: Final = 2048
"""Of one section, decoded. A block of a few octets can stand for the whole dynamic table many times
over, and with the number above this bounds what a connection holds to 64 KiB each way."""

MAX_REMEMBERED_BLOCK: Final = 512
"""Octets of a block that is worth a look: where it changes nothing, most of it is indexes."""

MAX_SIZE_UPDATES: Final = 2
"""Dynamic table size updates in front of a block (RFC 7541 section 4.2): the smallest size since
the last block, and the present one. They add nothing to the list, so nothing else bounds them."""

_MALFORMED: Final = RequestError(400, "malformed field section")


K = TypeVar("K")
V = TypeVar("V")


class _Remembered(dict[K, V]):
    """What was worked out with the compression state as it still is."""

    __slots__ = ()

    def forget_if_changed(self, block: bytes) -> bool:
        """Forget everything if the block has, or may have, changed the table; say so."""
        if len(block) <= MAX_REMEMBERED_BLOCK and not changes_table(block):
            return False
        self.clear()
        return True

    def keep(self, key: K, value: V) -> None:
        """Remember one more."""
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[key] = value


class RequestSections:
    """What comes in: requests and trailers, decoded in the order of arrival, and checked."""

    __slots__ = ("_codec", "_max_fields", "_max_list_size", "_remembered", "_websocket")

    def __init__(
        self,
        codec: Codec,
        max_header_list_size: int,
        websocket: bool = False,
        max_fields: int = MAX_HEADER_FIELDS,
    ) -> None:
        self._codec = codec
        self._websocket = websocket
        self._max_list_size = max_header_list_size
        self._max_fields = max_fields
        self._remembered = _Remembered[bytes, RequestHead]()

    def request(self, block: bytes, end_stream: bool) -> RequestHead | RequestError:
        """Give the head of a request, or why it is not to be served.

        The head is shared by all requests with this block; its header list is
        to be copied. Raises PeerConnectionError when decoding cannot go on.
        """
        remembered = self._remembered.get(block)
        if remembered is not None:
            return remembered
        _check_size_updates(block)
        fields = self._codec.decode_request(block, end_stream)
        changed = self._remembered.forget_if_changed(block)
        if fields is None:
            return _MALFORMED
        try:
            head = http2_request(fields, self._max_list_size, websocket=self._websocket)
            if len(head.headers) > self._max_fields:
                raise RequestError(431, "too many request header fields")
        except RequestError as error:
            if error.status != 400:
                error.method, error.target = http2_request_line(fields)
            # A caller that keeps it would be kept by it, and all that was decoded.
            return error.with_traceback(None)
        if not changed and head.list_size <= MAX_REMEMBERED_OCTETS:
            self._remembered.keep(block, head)
        return head

    def trailers(self, block: bytes) -> Headers | RequestError:
        """Give the fields of a trailer section, or why it is malformed; raises as ``request``."""
        _check_size_updates(block)
        fields = self._codec.decode_trailers(block)
        self._remembered.forget_if_changed(block)
        if fields is None:
            return _MALFORMED
        try:
            return http2_trailers(fields)
        except RequestError as error:
            return error.with_traceback(None)


class ResponseSections:
    """What goes out: responses and trailers, encoded in the order of sending."""

    __slots__ = ("_codec", "_remembered")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._remembered = _Remembered[tuple[int, tuple[tuple[bytes, bytes], ...]], bytes]()

    def response(self, status: int, fields: Headers) -> bytes:
        """Give the block of a response, or of an informational one."""
        key = (status, tuple(fields))
        block = self._remembered.get(key)
        if block is not None:
            return block
        block = self._codec.encode([(b":status", b"%d" % status), *fields])
        size = sum([len(name) + len(value) for name, value in fields])
        if not self._remembered.forget_if_changed(block) and size <= MAX_REMEMBERED_OCTETS:
            self._remembered.keep(key, block)
        return block

    def trailers(self, fields: Headers) -> bytes:
        """Give the block of a trailer section."""
        self._remembered.clear()  # not worth a look: what has trailers repeats little
        return self._codec.encode(fields)

    def resize_table(self, size: int) -> None:
        """Take SETTINGS_HEADER_TABLE_SIZE; the next block has to speak of it."""
        self._remembered.clear()
        self._codec.resize_encoder_table(size)


def _check_size_updates(block: bytes) -> None:
    """Raise PeerConnectionError for more of them than any encoder needs."""
    position = 0
    for _ in range(MAX_SIZE_UPDATES + 1):
        octet = block[position : position + 1]
        if not b"\x20" <= octet < b"\x40":
            return
        position += 1
        if octet == b"\x3f":
            while block[position : position + 1] >= b"\x80":
                position += 1
            position += 1
    raise PeerConnectionError(ErrorCode.COMPRESSION_ERROR, "too many table size updates")


def changes_table(block: bytes) -> bool:
    """Whether a block adds to the dynamic table or resizes it (RFC 7541 section 6).

    ``block`` is one that has been decoded, so its lengths are known to hold.
    """
    position, end = 0, len(block)
    while position < end:
        octet = block[position]
        position += 1
        if octet >= 0x80:  # section 6.1, indexed field
            if octet == 0xFF:
                position = _after_integer(block, position)
        elif octet >= 0x20:  # section 6.2.1, incremental indexing; 6.3, size update
            return True
        else:  # sections 6.2.2 and 6.2.3, without indexing and never indexed
            index = octet & 0x0F
            if index == 0x0F:
                position = _after_integer(block, position)
            elif index == 0:
                position = _after_string(block, position)
            position = _after_string(block, position)
    return False


def _after_integer(block: bytes, position: int) -> int:
    """Section 5.1: behind its prefix, an integer ends with an octet below 128."""
    while block[position] & 0x80:
        position += 1
    return position + 1


def _after_string(block: bytes, position: int) -> int:
    """Section 5.2: a length in 7 bits or more, then as many octets."""
    length = block[position] & 0x7F
    position += 1
    if length == 0x7F:
        shift = 0
        while True:
            octet = block[position]
            position += 1
            length += (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
    return position + length
