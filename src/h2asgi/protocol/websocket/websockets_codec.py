"""Frames cut here, and unmasked by the C code of the websockets package.

Its own parser waits for whole frames, so that it sees broken text and inflates
only at their end, and it takes lengths that are longer than need be.
"""

from __future__ import annotations

from typing import ClassVar, Final, NoReturn

from websockets.speedups import apply_mask

from .codec import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MAX_CONTROL_PAYLOAD,
    PONG,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    BrokenRule,
    Codec,
    WebSocketEvent,
    decode_text,
)
from .deflate import PerMessageDeflate

LARGE: Final = 16 * 1024
"""Octets of a frame above which a copy of them is noticed."""

LENGTH_OF_8: Final = 127
"""What says that the length follows in 8 octets, and so is 64 KiB or more (section 5.2)."""

_OPCODE: Final = 0x0F
_RESERVED: Final = 0x70
_MASKED: Final = 0x80


class WebsocketsCodec(Codec):
    """See ``codec.Codec``."""

    name: ClassVar[str] = "websockets"

    __slots__ = ("_fin", "_mask", "_missing", "_rest")

    def __init__(self, max_message_size: int, deflate: PerMessageDeflate | None = None) -> None:
        super().__init__(max_message_size, deflate)
        self._rest = b""  # a header, or a control frame, of which more is to come
        self._missing = 0  # octets of a data frame that are to come
        self._mask = b""  # turned to fit the next of them
        self._fin = False

    def _receive_frames(
        self, data: bytes | memoryview, limit: int, events: list[WebSocketEvent]
    ) -> int:
        before = len(self._rest)
        if before:
            data = self._rest + data
            limit += before
            self._rest = b""
        elif type(data) is memoryview and not self._is_large(data):
            data = data.tobytes()
        position = self._continue_frame(data, events) if self._missing else 0
        end = len(data)
        while position < limit and position < end and not self.over:
            if type(data) is bytes and self._message is None and not self.close_sent:
                position = self._receive_short(data, position, limit, events)
                if position >= limit:
                    break
            after = self._receive_frame(data, position, events)
            if not after:
                self._rest = bytes(data[position:])
                position = end
                break
            position = after
        return position - before

    def _is_large(self, data: memoryview) -> bool:
        """Whether the frame in front is worth unmasking where it lies.

        Otherwise all are copied at once: slices of a view cost more than those of bytes.
        """
        return self._missing > LARGE or (len(data) > 1 and data[1] == _MASKED | LENGTH_OF_8)

    def _continue_frame(self, data: bytes | memoryview, events: list[WebSocketEvent]) -> int:
        """Take what ``data`` has of the frame that is under way; give where that ends."""
        payload = data[: self._missing]
        size = len(payload)
        self._take_data(apply_mask(payload, self._mask))
        self._missing -= size
        if self._missing:
            self._mask = _turned(self._mask, size)
        elif self._fin:
            self._end_message(events)
        return size

    def _receive_short(
        self, data: bytes, position: int, limit: int, events: list[WebSocketEvent]
    ) -> int:
        """Take messages of one short frame, as most are, up to the first that is not one.

        No message is under way. Gives where the last one ends.
        """
        end = min(limit, len(data)) - 5
        longest = min(self._max_message_size, MAX_CONTROL_PAYLOAD)
        while position < end:
            first = data[position]
            size = data[position + 1] - _MASKED
            start = position + 6
            stop = start + size
            if not 0 <= size <= longest or stop > len(data):
                break
            if first != FIN | TEXT and first != FIN | BINARY:
                break
            payload = apply_mask(data[start:stop], data[position + 2 : start])
            events.append(decode_text(payload) if first == FIN | TEXT else payload)
            position = stop
        return position

    def _receive_frame(
        self, data: bytes | memoryview, position: int, events: list[WebSocketEvent]
    ) -> int:
        """Take the frame at ``position``; give where it or what there is of it ends.

        That is 0 where more is needed before anything can be taken.
        """
        available = len(data)
        if available - position < 2:
            return 0
        first = data[position]
        length = data[position + 1] - _MASKED
        start = position + 6
        if length > MAX_CONTROL_PAYLOAD or length < 0:
            size_of_length = _size_of_length(first, length)
            start += size_of_length
            if available < start - 4:
                return 0
            length = int.from_bytes(data[position + 2 : position + 2 + size_of_length], "big")
            _check_length(length, size_of_length)
        opcode = first & _OPCODE
        if first & _RESERVED or (opcode != BINARY and opcode != TEXT):
            _check_opcode(first)
        self._check_header(opcode, first & _RESERVED, length)
        if available < start:
            return 0
        stop = start + length
        mask = bytes(data[start - 4 : start])
        if opcode < CLOSE:
            payload = apply_mask(data[start:stop], mask)
            if stop <= available:
                self._take_frame(first, payload, events)
                return stop
            self._begin_frame(first, payload, mask, stop - available)
            return available
        if stop > available:
            return 0
        self._take_control(opcode, apply_mask(data[start:stop], mask), events)
        return stop

    def _take_frame(self, first: int, payload: bytes, events: list[WebSocketEvent]) -> None:
        """Take a data frame that is all there."""
        opcode = first & _OPCODE
        if first == FIN | opcode and opcode != CONTINUATION:
            # A message of one frame, as most are.
            if not self.close_sent:
                events.append(decode_text(payload) if opcode == TEXT else payload)
            return
        if opcode != CONTINUATION:
            self._begin_message(opcode, first & RSV1 != 0)
        self._take_data(payload)
        if first & FIN:
            self._end_message(events)

    def _begin_frame(self, first: int, payload: bytes, mask: bytes, missing: int) -> None:
        """Take the beginning of a data frame of which ``missing`` octets are to come."""
        if first & _OPCODE != CONTINUATION:
            self._begin_message(first & _OPCODE, first & RSV1 != 0)
        self._fin = first & FIN != 0
        self._missing = missing
        self._mask = _turned(mask, len(payload))
        self._take_data(payload)


def _size_of_length(first: int, length: int) -> int:
    """How many octets of length follow the second octet of a header (RFC 6455 section 5.2)."""
    if length < 0:
        _protocol_error("a frame is not masked")  # section 5.1
    if first & CLOSE:
        _protocol_error("a control frame is too long")  # section 5.5
    return 2 if length == MAX_CONTROL_PAYLOAD + 1 else 8


def _check_length(length: int, size: int) -> None:
    """Section 5.2: the shortest form, and the most significant bit is 0."""
    if length <= MAX_CONTROL_PAYLOAD or (size == 8 and not 1 << 16 <= length < 1 << 63):
        _protocol_error("a length is not in its shortest form")


def _check_opcode(first: int) -> None:
    opcode = first & _OPCODE
    if BINARY < opcode < CLOSE or opcode > PONG:
        _protocol_error("an opcode is reserved")
    if opcode >= CLOSE and not first & FIN:
        _protocol_error("a control frame is fragmented")  # section 5.5


def _turned(mask: bytes, size: int) -> bytes:
    """The mask for what follows ``size`` octets (section 5.3)."""
    turn = size % 4
    return mask[turn:] + mask[:turn]


def _protocol_error(reason: str) -> NoReturn:
    raise BrokenRule(PROTOCOL_ERROR, reason)
