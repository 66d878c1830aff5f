"""What an engine's library does for it: field sections to and from octets (RFC 7541).

The rules of the protocol are the same for every engine and live beside this
file. A library is chosen for what costs time, which is header compression.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from ..events import Headers

DECODED_SIZE_FACTOR: Final = 2
"""A block that is, or decodes to, this many times the advertised list size ends the connection.
Between one and this, the request gets a 431 and the compression state stays whole. More would not
be kind: hpack's work grows with the square of a block of many short literals."""

MAX_ENCODER_TABLE_SIZE: Final = 4096
"""The RFC 7541 default. A peer may offer more, but the memory for it would be ours."""


class Codec(ABC):
    """Both compression states of one connection.

    Every block is to be decoded, in the order of arrival, whatever becomes of
    its stream: the state belongs to the connection (RFC 9113 section 4.3).
    Decoding raises PeerConnectionError when it cannot go on. A codec that
    checks what it decodes gives None for a section that is malformed.
    """

    def __init__(self, max_header_list_size: int) -> None:  # noqa: B027 (mypyc calls it)
        """Begin with empty tables."""

    @property
    @abstractmethod
    def spent(self) -> bool:
        """Whether the connection should end, since the codec cannot go on much longer."""

    @abstractmethod
    def decode_request(
        self, block: bytes | bytearray | memoryview, end_stream: bool
    ) -> Headers | None:
        """Give the fields of a block that may be a request."""

    @abstractmethod
    def decode_trailers(self, block: bytes | bytearray | memoryview) -> Headers | None:
        """Give the fields of a block that follows a request on its stream."""

    @abstractmethod
    def encode(self, fields: Headers) -> bytes:
        """Give the block for a field section: a response, or its trailers."""

    @abstractmethod
    def resize_encoder_table(self, size: int) -> None:
        """Take SETTINGS_HEADER_TABLE_SIZE (RFC 9113 section 6.5.2)."""
