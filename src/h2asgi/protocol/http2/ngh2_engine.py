"""HTTP/2 on ngh2 (libnghttp2), the fast engine, from ``pip install 'h2asgi[fast]'``.

What ngh2 does here is header compression, which is where a pure Python engine
spends half of its time. Frames, streams and windows stay with the code that
all engines share, for two reasons. The verdicts on what a peer does are then
the same by construction: libnghttp2 ends a connection where RFC 9113 asks for
less, destroys its session without a GOAWAY, and loses window when a stream is
reset in the middle of a DATA frame. And it is not slower: octets of bodies are
written from where the application left them, where libnghttp2 copies them
twice.

ngh2 offers no coder of field sections by itself, only whole connections. So
one is kept in memory, to which every section is a message of its own: stream
ids here are counted on this side and have nothing to do with those on the wire.
"""

from __future__ import annotations

from struct import Struct
from typing import ClassVar, Final

from ngh2 import (
    Configuration,
    Connection,
    DenialOfServiceError,
    NeverIndexedHeader,
    RequestReceived,
    Role,
    TrailersReceived,
    __version__,
)

from ...errors import ErrorCode, PeerConnectionError
from ..events import Headers
from . import frames
from .codec import DECODED_SIZE_FACTOR, MAX_ENCODER_TABLE_SIZE, Codec
from .engine import HTTP2Engine
from .frames import HEADER_SIZE, Flag, FrameType
from .peer_settings import (
    ENABLE_CONNECT_PROTOCOL,
    HEADER_TABLE_SIZE,
    LARGEST_FRAME_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    SMALLEST_FRAME_SIZE,
)
from .stream import Stream

if not __version__.startswith("0.3."):
    # Its interface is not stable yet: another minor version is tried before it is allowed.
    raise ImportError(f"ngh2 {__version__} is installed, and only 0.3 is known to fit")

_NEVER: Final = 2**62
"""For ngh2's limits on rates and counts: the receiver has its own, and they come first."""

_FIELD_OVERHEAD: Final = 32  # RFC 9113 section 6.5.2

_MAX_STRING: Final = 65_536
"""libnghttp2 gives up on a name or value that takes more octets, as if it could not decode it."""

_GET: Final = b"\x82\x87\x84\x01\x01h"
"""``GET https://h/`` out of the static table alone, so that it leaves no trace in either state."""

_MAX_SPARE: Final = 128
"""ngh2 streams kept open for answers that never come, because their requests were reset."""

_LAST_STREAM_ID: Final = 2**31 - 1 - 2**20
"""Above it the connection is to end: enough is left for what is open then."""

_HEADERS_HEAD: Final = Struct(">HBBBL")


class NGH2Codec(Codec):
    """See ``codec.Codec``. nghttp2 checks requests while it decodes them."""

    def __init__(self, max_header_list_size: int) -> None:
        self._limit = max_header_list_size * DECODED_SIZE_FACTOR
        self._connection: Connection | None = None
        self._next_id = 1
        self._spare: list[int] = []  # ngh2 streams that wait for an answer, whichever
        self._unended: set[int] = set()  # those whose requests did not end
        self._table_sizes: list[int] = []  # from SETTINGS ahead of the first field section

    @property
    def _ngh2(self) -> Connection:
        """Made for the first field section: connections that only wait do without its 20 KiB."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Connection:
        connection = Connection(
            Role.SERVER,
            Configuration(
                auto_window_update=False,
                max_send_header_block_length=2**31 - 1,
                max_deflate_dynamic_table_size=MAX_ENCODER_TABLE_SIZE,
                stream_reset_rate_limit=(_NEVER, _NEVER),
                glitch_rate_limit=(_NEVER, _NEVER),
                max_inbound_header_list_size=self._limit,
                max_inbound_header_count=self._limit // _FIELD_OVERHEAD + 1,
            ),
        )
        connection.initiate_connection(
            {
                ENABLE_CONNECT_PROTOCOL: 1,  # whether it is, is not for ngh2 to say
                MAX_CONCURRENT_STREAMS: 2**31 - 1,
                MAX_FRAME_SIZE: LARGEST_FRAME_SIZE,  # a block goes in as one frame
            }
        )
        sizes = [frames.settings({HEADER_TABLE_SIZE: size}) for size in self._table_sizes]
        connection.receive_data(
            b"".join([frames.PREFACE, frames.settings({}), frames.SETTINGS_ACK, *sizes])
        )
        connection.data_to_send()
        connection.events()
        return connection

    @property
    def spent(self) -> bool:
        """See ``Codec``: a connection in ngh2 has 2^30 streams as well."""
        return self._next_id > _LAST_STREAM_ID

    def decode_request(
        self, block: bytes | bytearray | memoryview, end_stream: bool
    ) -> Headers | None:
        """See ``Codec``."""
        stream_id = self._next_id
        self._next_id = stream_id + 2
        size = len(block)
        flags = 0x5 if end_stream else 0x4  # END_HEADERS, END_STREAM
        try:
            self._ngh2.receive_data(
                _HEADERS_HEAD.pack(size >> 8, size & 0xFF, 0x1, flags, stream_id) + block
            )
        except DenialOfServiceError:
            raise _too_large() from None
        events = self._ngh2.events()
        if not events or type(events[-1]) is not RequestReceived:
            self._forget(size)  # it would reset the stream
            return None
        spare = self._spare
        spare.append(stream_id)
        if not end_stream:
            self._unended.add(stream_id)
        if len(spare) > _MAX_SPARE:
            self._drop(spare.pop(0))
        return list(events[-1].headers)

    def decode_trailers(self, block: bytes | bytearray | memoryview) -> Headers | None:
        """See ``Codec``. Trailers need a request ahead of them."""
        stream_id = self._open(Flag.END_HEADERS)
        flags = Flag.END_HEADERS | Flag.END_STREAM
        self._feed(frames.frame_header(len(block), FrameType.HEADERS, flags, stream_id), block)
        events = self._ngh2.events()
        if not events or not isinstance(events[-1], TrailersReceived):
            self._forget(len(block))
            return None
        self._drop(stream_id)
        return list(events[-1].headers)

    def encode(self, fields: Headers) -> bytes:
        """See ``Codec``."""
        ngh2 = self._ngh2
        spare = self._spare
        stream_id = spare.pop() if spare else self._open(Flag.END_HEADERS | Flag.END_STREAM)
        for name, _ in fields:
            if name == b"set-cookie":
                fields = _keep_cookies_out_of_the_table(fields)
                break
        ngh2.send_response(stream_id, fields, end_stream=True)
        output: bytes = ngh2.data_to_send()
        if stream_id in self._unended:
            self._drop(stream_id)
        size = len(output) - HEADER_SIZE
        if size <= SMALLEST_FRAME_SIZE:
            return output[HEADER_SIZE:]
        return _join_block(output)

    def resize_encoder_table(self, size: int) -> None:
        """See ``Codec``. ngh2 keeps below ``MAX_ENCODER_TABLE_SIZE`` by itself."""
        if self._next_id == 1:
            # RFC 7541 section 4.2: what matters is the smallest and the last.
            self._table_sizes = [min([size, *self._table_sizes]), size]
            return
        self._feed(frames.settings({HEADER_TABLE_SIZE: size}))
        self._forget()

    def _open(self, flags: int) -> int:
        """Open a stream in ngh2 that is none on the wire."""
        stream_id = self._next_id
        self._next_id = stream_id + 2
        self._feed(frames.frame_header(len(_GET), FrameType.HEADERS, flags, stream_id), _GET)
        self._ngh2.events()
        return stream_id

    def _drop(self, stream_id: int) -> None:
        """Let ngh2 forget a stream, as if the peer had reset it: that needs no answer."""
        self._unended.discard(stream_id)
        self._feed(frames.rst_stream(stream_id, ErrorCode.CANCEL))

    def _feed(self, *pieces: bytes | bytearray | memoryview) -> None:
        try:
            self._ngh2.receive_data(b"".join(pieces))
        except DenialOfServiceError:
            raise _too_large() from None

    def _forget(self, block_size: int = 0) -> None:
        """Drop what ngh2 would tell a peer: acknowledgements, and resets of malformed requests.

        But not its GOAWAY, the one way in which it says that decoding has failed.
        """
        self._ngh2.data_to_send()
        self._ngh2.events()
        if not self._ngh2.want_read:
            if block_size > _MAX_STRING:
                raise _too_large()
            raise PeerConnectionError(ErrorCode.COMPRESSION_ERROR, "field block cannot be decoded")


def _too_large() -> PeerConnectionError:
    return PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "field section is too large")


def _keep_cookies_out_of_the_table(fields: Headers) -> Headers:
    """RFC 7541 section 7.1.3."""
    return [
        NeverIndexedHeader(name, value) if name == b"set-cookie" else (name, value)
        for name, value in fields
    ]


def _join_block(output: bytes) -> bytes:
    """Take the frame headers out of HEADERS and CONTINUATION frames."""
    pieces = []
    while output:
        end = HEADER_SIZE + int.from_bytes(output[:3], "big")
        pieces.append(output[HEADER_SIZE:end])
        output = output[end:]
    return b"".join(pieces)


class NGH2Engine(HTTP2Engine):
    """One HTTP/2 connection; see ``protocol.engine.Engine`` for the rules of use."""

    name: ClassVar[str] = "ngh2"
    codec_type = NGH2Codec
    stream_type = Stream
