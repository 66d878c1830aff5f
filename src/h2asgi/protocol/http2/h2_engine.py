"""HTTP/2 on the h2 library, the engine that is always there.

What h2 does here: the state machine of each stream, and HPACK. What it does not
do is decide what a broken rule costs. h2 ends the whole connection for a
malformed request, for one stream too many, for a window increment of 0 on a
stream; it forgets answers in flight when a GOAWAY arrives, and cannot drain.
RFC 9113 asks for stream errors and for a graceful end, so frames are read and
answered by what all engines share.
"""

from __future__ import annotations

from typing import ClassVar, cast

from h2.exceptions import ProtocolError
from h2.stream import H2StreamStateMachine, StreamInputs
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple, OversizedHeaderListError

from ...errors import ErrorCode, PeerConnectionError
from ..events import Headers
from .codec import DECODED_SIZE_FACTOR, MAX_ENCODER_TABLE_SIZE, Codec
from .engine import HTTP2Engine
from .stream import Stream


class HPACKCodec(Codec):
    """See ``codec.Codec``. Takes every section that can be decoded."""

    __slots__ = ("_decoder", "_encoder")

    def __init__(self, max_header_list_size: int) -> None:
        self._decoder = Decoder()
        self._decoder.max_header_list_size = max_header_list_size * DECODED_SIZE_FACTOR
        self._encoder = Encoder()

    @property
    def spent(self) -> bool:
        """See ``Codec``."""
        return False

    def decode_request(
        self, block: bytes | bytearray | memoryview, end_stream: bool
    ) -> Headers | None:
        """See ``Codec``."""
        return self.decode_trailers(block)

    def decode_trailers(self, block: bytes | bytearray | memoryview) -> Headers | None:
        """See ``Codec``."""
        try:
            return cast(Headers, self._decoder.decode(bytes(block), raw=True))
        except OversizedHeaderListError:
            raise PeerConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, "field section is too large"
            ) from None
        except HPACKError:
            # Its text may quote the whole block, and would go out in GOAWAY.
            raise PeerConnectionError(
                ErrorCode.COMPRESSION_ERROR, "field block cannot be decoded"
            ) from None

    def encode(self, fields: Headers) -> bytes:
        """See ``Codec``."""
        # Huffman coding costs more time than its few octets are worth: what
        # repeats is one octet from the dynamic table anyway. Cookies stay out
        # of that table (RFC 7541 section 7.1.3).
        return self._encoder.encode(
            [
                NeverIndexedHeaderTuple(name, value) if name == b"set-cookie" else (name, value)
                for name, value in fields
            ],
            huffman=False,
        )

    def resize_encoder_table(self, size: int) -> None:
        """See ``Codec``."""
        encoder = self._encoder
        size = min(size, MAX_ENCODER_TABLE_SIZE)
        if size != encoder.header_table_size:  # hpack forgets a change that is made twice
            encoder.header_table_size = size
            # RFC 7541 section 4.2: what matters is the smallest and the last. A larger one in
            # between may be above what the peer allows by now (section 6.3).
            changes = encoder.table_size_changes
            smallest = min(changes)
            changes[:] = [size] if smallest == size else [smallest, size]


class H2Stream(Stream):
    """A stream whose every step h2's state machine has agreed to."""

    __slots__ = ("_machine",)

    def __init__(self, stream_id: int, send_window: int) -> None:
        super().__init__(stream_id, send_window)
        self._machine = H2StreamStateMachine(stream_id)

    def receive_headers(self, end_stream: bool) -> None:
        """See ``Stream``."""
        self._step(StreamInputs.RECV_HEADERS, end_stream and StreamInputs.RECV_END_STREAM)
        super().receive_headers(end_stream)

    def receive_data(self, end_stream: bool) -> None:
        """See ``Stream``."""
        self._step(StreamInputs.RECV_DATA, end_stream and StreamInputs.RECV_END_STREAM)
        super().receive_data(end_stream)

    def send_informational(self) -> None:
        """See ``Stream``."""
        self._step(StreamInputs.SEND_INFORMATIONAL_HEADERS)

    def send_headers(self, end_stream: bool) -> None:
        """See ``Stream``."""
        self._step(StreamInputs.SEND_HEADERS, end_stream and StreamInputs.SEND_END_STREAM)
        super().send_headers(end_stream)

    def send_data(self, end_stream: bool) -> None:
        """See ``Stream``."""
        self._step(StreamInputs.SEND_DATA, end_stream and StreamInputs.SEND_END_STREAM)
        super().send_data(end_stream)

    def _step(self, step: StreamInputs, end: StreamInputs | bool = False) -> None:
        try:
            self._machine.process_input(step)
            if end:
                self._machine.process_input(cast(StreamInputs, end))
        except ProtocolError as error:
            raise PeerConnectionError(ErrorCode(error.error_code), str(error)) from None


class H2Engine(HTTP2Engine):
    """One HTTP/2 connection; see ``protocol.engine.Engine`` for the rules of use."""

    name: ClassVar[str] = "h2"
    codec_type = HPACKCodec
    stream_type = H2Stream
