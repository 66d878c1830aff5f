"""Frames to messages and back (RFC 6455 sections 5 to 7): the interface and its events.

A codec knows nothing of HTTP: octets of the tunnel go in by ``receive_data``
and messages come out; what goes out is returned as octets. It never raises for
what a peer does: a peer's mistake becomes ``ConnectionFailed``.

Here are the rules; how frames are cut and unmasked is what codecs differ in.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
from dataclasses import dataclass
from struct import pack
from typing import ClassVar, Final, NoReturn

from ...errors import IllegalMessage
from .deflate import TAIL, PerMessageDeflate

# RFC 6455 section 5.2. Plain integers: they are compared for every frame.
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80
RSV1: Final = 0x40

MAX_CONTROL_PAYLOAD: Final = 125
"""Octets; RFC 6455 section 5.5."""

UNLIMITED: Final = 1 << 62
"""More octets than there are."""

NO_STATUS_RECEIVED: Final = 1005
PROTOCOL_ERROR: Final = 1002
INVALID_PAYLOAD: Final = 1007
MESSAGE_TOO_BIG: Final = 1009

_NOT_UTF_8 = "the text is not UTF-8"

_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
"""What a Close frame may say: RFC 6455 section 7.4, and 1012 to 1014 by IANA's registry."""


@dataclass(slots=True)
class CloseReceived:
    """The peer's Close frame, the last event; 1005 if it has no code (RFC 6455 section 7.1.5).

    If it began the closing handshake, its answer waits in ``take_answers``.
    """

    code: int
    reason: str


@dataclass(slots=True)
class ConnectionFailed:
    """The peer broke a rule, the last event; its Close frame waits in ``take_answers``.

    ``code`` is 1002, 1007 or 1009 (RFC 6455 sections 7.1.7 and 7.4.1).
    """

    code: int
    reason: str


WebSocketEvent = str | bytes | CloseReceived | ConnectionFailed
"""A whole message is given as it is: ``str`` if it is text, ``bytes`` if it is binary (RFC 6455
section 5.6). Pings are answered, and Pongs need no more than to have come."""


class BrokenRule(Exception):
    """What the peer did wrong, on its way from a rule to ``Codec.receive_data``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Codec:
    """The server's end of one WebSocket, open from the start.

    ``close_sent`` says that our Close frame is out or waits in ``take_answers``:
    after it nothing may be sent (RFC 6455 section 5.5.1), so that whatever would
    be sent then is empty. ``over`` says that the last event has been given, and
    ``taken`` how many octets of what ``receive_data`` was last given it has taken.

    A codec implements ``_receive_frames``, from which it calls
    ``_check_header``, then ``_take_control``, or ``_begin_message`` for a frame
    that is no continuation, ``_take_data`` for its octets as they come, and
    ``_end_message`` after those of the last frame.
    """

    name: ClassVar[str]

    __slots__ = (
        "_answers",
        "_checked",
        "_compressed",
        "_deflate",
        "_is_text",
        "_max_message_size",
        "_message",
        "close_sent",
        "over",
        "taken",
    )

    def __init__(self, max_message_size: int, deflate: PerMessageDeflate | None = None) -> None:
        self.close_sent = False
        self.over = False
        self.taken = 0
        self._max_message_size = max_message_size
        self._deflate = deflate
        self._answers: list[bytes] = []
        self._message: bytearray | None = None  # the message that is under way
        self._is_text = False
        self._compressed = False
        self._checked = 0  # octets of its text that are whole characters

    def receive_data(
        self, data: bytes | memoryview, limit: int = UNLIMITED
    ) -> list[WebSocketEvent]:
        """Take octets from the peer and give what they complete, oldest first.

        ``data`` is borrowed for the length of the call. No frame is begun behind ``limit``
        octets: what has not been ``taken`` then is to be given again. Messages that come
        after our own Close are dropped, and after ``CloseReceived`` and ``ConnectionFailed``
        nothing is looked at any more.
        """
        events: list[WebSocketEvent] = []
        if not self.over:
            try:
                self.taken = self._receive_frames(data, limit, events)
            except BrokenRule as broken:
                events.append(ConnectionFailed(broken.code, broken.reason))
                self._end(_close_payload(broken.code, broken.reason))
        if self.over:
            self.taken = len(data)
        return events

    def take_answers(self) -> bytes:
        """Give the Pong and Close frames that are owed.

        Pongs are shorter than their Pings, so that, but for the one Close, there
        is less than has been received. To be called after ``receive_data``, and
        sent before anything else.
        """
        answers = self._answers
        if not answers:
            return b""
        self._answers = []
        return b"".join(answers)

    def send_message(self, data: str | bytes) -> bytes:
        """Give the frame of a whole message: text if ``data`` is ``str``, binary if ``bytes``."""
        if self.close_sent:
            return b""
        if isinstance(data, str):
            first, payload = FIN | TEXT, data.encode()
        else:
            first, payload = FIN | BINARY, data
        if self._deflate is not None and payload:
            first |= RSV1
            payload = self._deflate.deflate(payload)
        return _frame(first, payload)

    def ping(self, payload: bytes) -> bytes:
        """Give a Ping frame with at most 125 octets (RFC 6455 section 5.5.2)."""
        assert len(payload) <= MAX_CONTROL_PAYLOAD
        return b"" if self.close_sent else _frame(FIN | PING, payload)

    def close(self, code: int, reason: str) -> bytes:
        """Give the Close frame that begins the closing handshake.

        1005 leaves the code out. A reason is cut to 123 octets of UTF-8. Raises
        ``IllegalMessage`` for a code that no endpoint may send (RFC 6455 section 7.4).
        """
        if code != NO_STATUS_RECEIVED and code not in _CLOSE_CODES:
            raise IllegalMessage(f"illegal close code: {code!r}")
        if self.close_sent:
            return b""
        payload = _close_payload(code, reason)  # raises for a text that has no UTF-8
        self.close_sent = True
        return _frame(FIN | CLOSE, payload)

    # What the codecs are made with.

    def _receive_frames(
        self, data: bytes | memoryview, limit: int, events: list[WebSocketEvent]
    ) -> int:
        """Cut ``data`` into frames, add their events, give what was taken; raises ``BrokenRule``.

        ``limit`` as for ``receive_data``; a codec that keeps what it has not cut yet may
        take exactly that much.
        """
        raise NotImplementedError

    def _check_header(self, opcode: int, reserved: int, length: int) -> None:
        """Check what a header says in the light of what came before; changes nothing.

        ``reserved`` are the reserved bits where they stand in the first octet.
        """
        if reserved and (reserved != RSV1 or self._deflate is None or opcode not in (TEXT, BINARY)):
            # RFC 6455 section 5.2, RFC 7692 section 6.1.
            _protocol_error("a reserved bit is set")
        if opcode >= CLOSE:
            return
        message = self._message
        if opcode != CONTINUATION:
            if message is not None:
                _protocol_error("a message begins inside another")  # section 5.4
            compressed = reserved != 0
        else:
            if message is None:
                _protocol_error("there is no message to continue")
            compressed = self._compressed
        # What is compressed is bounded as it is inflated: its own length says nothing.
        if not compressed and length + len(message or b"") > self._max_message_size:
            self._too_big()

    def _begin_message(self, opcode: int, compressed: bool) -> None:
        self._message = bytearray()
        self._is_text = opcode == TEXT
        self._compressed = compressed
        self._checked = 0

    def _take_data(self, data: bytes) -> None:
        """Take octets of the message that is under way, unmasked."""
        message = self._message
        assert message is not None
        if self.close_sent:
            message.clear()
            return
        if self._compressed:
            self._inflate(data, message)
            return
        message += data
        if self._is_text:
            self._check_text(message)

    def _end_message(self, events: list[WebSocketEvent]) -> None:
        message = self._message
        assert message is not None
        self._message = None
        if self.close_sent:
            return
        if self._compressed:
            assert self._deflate is not None
            self._inflate(TAIL, message)
            self._deflate.end_message()
        events.append(decode_text(message) if self._is_text else bytes(message))

    def _take_control(self, opcode: int, payload: bytes, events: list[WebSocketEvent]) -> None:
        if opcode == PING:
            # Section 5.5.2: answered until a Close has been received.
            self._answers.append(_frame(FIN | PONG, payload))
        elif opcode == CLOSE:
            code, reason = _close_reason(payload)
            events.append(CloseReceived(code, reason))
            self._end(payload[:2])  # section 5.5.1: the answer echoes the code

    def _end(self, close_payload: bytes) -> None:
        """Look at nothing more, and send the Close frame unless there has been one."""
        self.over = True
        self._message = None
        if not self.close_sent:
            self.close_sent = True
            self._answers.append(_frame(FIN | CLOSE, close_payload))

    def _inflate(self, data: bytes, message: bytearray) -> None:
        assert self._deflate is not None
        try:
            self._deflate.inflate(data, message, self._max_message_size)
        except zlib.error:
            raise BrokenRule(INVALID_PAYLOAD, "the data is not compressed rightly") from None
        if self._is_text:
            self._check_text(message)
        if len(message) > self._max_message_size:
            self._too_big()

    def _check_text(self, message: bytearray) -> None:
        """Check as much of a text as is there: what is broken will not get better (section 8.1)."""
        with memoryview(message) as whole, whole[self._checked :] as rest:
            try:
                self._checked += utf_8_decode(rest, "strict", False)[1]
            except UnicodeDecodeError:
                raise BrokenRule(INVALID_PAYLOAD, _NOT_UTF_8) from None

    def _too_big(self) -> NoReturn:
        raise BrokenRule(MESSAGE_TOO_BIG, f"more than {self._max_message_size} octets")


def decode_text(data: bytes | bytearray) -> str:
    """Give the text of a whole message, which must be UTF-8 (RFC 6455 section 8.1)."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise BrokenRule(INVALID_PAYLOAD, _NOT_UTF_8) from None


def _protocol_error(reason: str) -> NoReturn:
    raise BrokenRule(PROTOCOL_ERROR, reason)


def _close_reason(payload: bytes) -> tuple[int, str]:
    """Code and reason of a Close frame (RFC 6455 sections 5.5.1 and 7.4)."""
    if not payload:
        return NO_STATUS_RECEIVED, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in _CLOSE_CODES:
        _protocol_error("a Close frame without a legal code")
    return code, decode_text(payload[2:])


def _close_payload(code: int, reason: str) -> bytes:
    if code == NO_STATUS_RECEIVED:
        return b""
    text = reason.encode()
    if len(text) > MAX_CONTROL_PAYLOAD - 2:
        # Section 5.5.1: the reason is UTF-8, so no character is cut in two.
        text = text[: MAX_CONTROL_PAYLOAD - 2].decode("utf-8", "ignore").encode()
    return pack("!H", code) + text


_SHORT_HEADERS: Final = {
    first: [bytes((first, length)) for length in range(MAX_CONTROL_PAYLOAD + 1)]
    for first in (
        *(FIN | TEXT, FIN | BINARY, FIN | RSV1 | TEXT, FIN | RSV1 | BINARY),
        *(FIN | CLOSE, FIN | PING, FIN | PONG),
    )
}


def _frame(first: int, payload: bytes) -> bytes:
    """Give an unmasked frame; ``first`` is its first octet (RFC 6455 section 5.2)."""
    length = len(payload)
    if length <= MAX_CONTROL_PAYLOAD:
        return _SHORT_HEADERS[first][length] + payload
    if length < 1 << 16:
        return pack("!BBH", first, 126, length) + payload
    return pack("!BBQ", first, 127, length) + payload
