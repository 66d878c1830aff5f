"""Frames cut and unmasked by wsproto, which is always there.

Of wsproto this is the decoder of frames alone. Its layers above it inflate
without a bound, and refuse the code 1014.
"""

from __future__ import annotations

from typing import ClassVar

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    Frame,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    ParseFailed,
    RsvBits,
)

from .codec import CLOSE, CONTINUATION, BrokenRule, Codec, WebSocketEvent
from .deflate import PerMessageDeflate

_ALL_BITS = RsvBits(True, True, True)


class WsprotoCodec(Codec):
    """See ``codec.Codec``."""

    name: ClassVar[str] = "wsproto"

    __slots__ = ("_compressed_next", "_decoder", "_headers")

    def __init__(self, max_message_size: int, deflate: PerMessageDeflate | None = None) -> None:
        super().__init__(max_message_size, deflate)
        self._headers = _Headers()
        self._decoder = FrameDecoder(client=False, extensions=[self._headers])
        self._compressed_next = False

    def _receive_frames(
        self, data: bytes | memoryview, limit: int, events: list[WebSocketEvent]
    ) -> int:
        data = bytes(data[:limit])
        self._decoder.receive_bytes(data)
        try:
            while not self.over and (frame := self._next_frame()) is not None:
                opcode, payload = int(frame.opcode), frame.payload
                assert isinstance(payload, bytes)
                if opcode >= CLOSE:
                    self._take_control(opcode, payload, events)
                    continue
                # What comes after the first octets of a frame is given as a continuation.
                if opcode != CONTINUATION:
                    self._begin_message(opcode, self._compressed_next)
                self._take_data(payload)
                if frame.frame_finished and frame.message_finished:
                    self._end_message(events)
        except ParseFailed as failed:
            raise BrokenRule(failed.code, str(failed)) from None
        return len(data)

    def _next_frame(self) -> Frame | None:
        """Give a frame or, of a data frame, what has come of it; a header is checked at once."""
        frame = self._decoder.process_buffer()
        header = self._headers.last
        if header is not None:
            self._headers.last = None
            opcode, reserved, length = header
            self._check_header(opcode, reserved, length)
            if opcode < CLOSE:
                self._compressed_next = reserved != 0
        return frame


class _Headers(Extension):
    """Shows the headers to the codec, one that is not whole more than once.

    A bound method of the codec here would make a cycle for the garbage collector.
    """

    def __init__(self) -> None:
        self.last: tuple[int, int, int] | None = None

    def offer(self) -> bool | str:
        """Nothing: the handshake is not wsproto's."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Keep opcode, reserved bits and length; claim all the bits, so that none is refused."""
        self.last = int(opcode), rsv.rsv1 << 6 | rsv.rsv2 << 5 | rsv.rsv3 << 4, payload_length
        return _ALL_BITS
