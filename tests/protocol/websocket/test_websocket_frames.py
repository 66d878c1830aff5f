"""How frames are laid out, both ways (RFC 6455 section 5)."""

from __future__ import annotations

import struct

import pytest
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Sent,
    closing,
    failed_with,
    frame,
    frames,
    header,
)

from h2asgi.protocol.websocket.codec import Codec, ConnectionFailed

LENGTHS = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_of_any_length_arrives(codec: Codec, length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    data = data[:length]
    assert codec.receive_data(frame(BINARY, data)) == [data]
    text = "é" * (length // 2)
    assert codec.receive_data(frame(TEXT, text.encode())) == [text]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_of_any_length_goes_out_in_one_frame(codec: Codec, length: int) -> None:
    assert frames(codec.send_message(b"\xff" * length)) == [Sent(BINARY, b"\xff" * length)]
    assert frames(codec.send_message("x" * length)) == [Sent(TEXT, b"x" * length)]


def test_the_examples_of_the_standard(codec: Codec) -> None:
    assert codec.receive_data(bytes.fromhex("818537fa213d7f9f4d5158")) == ["Hello"]
    assert codec.send_message("Hello") == bytes.fromhex("810548656c6c6f")
    assert codec.ping(b"Hello") == bytes.fromhex("890548656c6c6f")
    assert codec.receive_data(bytes.fromhex("8a8537fa213d7f9f4d5158")) == []
    assert codec.send_message(bytes(256))[:4] == bytes.fromhex("827e0100")
    assert codec.send_message(bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


def test_every_octet_and_mask_is_unmasked(codec: Codec) -> None:
    data = bytes(range(256)) * 3 + b"xyz"
    for mask in (b"\x00\x00\x00\x00", b"\xff\x00\x01\x80", MASK):
        assert codec.receive_data(frame(BINARY, data, mask=mask)) == [data]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_a_frame_without_a_mask_fails_the_connection(codec: Codec, opcode: int) -> None:
    assert failed_with(codec, codec.receive_data(bytes((0x80 | opcode, 0)))) == 1002


def test_a_long_frame_without_a_mask_fails_the_connection(codec: Codec) -> None:
    events = codec.receive_data(struct.pack("!BBH", 0x82, 126, 1000) + bytes(1000))
    assert failed_with(codec, events) == 1002


@pytest.mark.parametrize("reserved", [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_a_reserved_bit_fails_the_connection(codec: Codec, opcode: int, reserved: int) -> None:
    assert failed_with(codec, codec.receive_data(frame(opcode, reserved=reserved))) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_a_reserved_opcode_fails_the_connection(codec: Codec, opcode: int) -> None:
    assert failed_with(codec, codec.receive_data(frame(opcode, b"x"))) == 1002


@pytest.mark.parametrize(
    ("length", "form"), [(0, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65_535, 64)]
)
def test_a_length_must_have_its_shortest_form(codec: Codec, length: int, form: int) -> None:
    assert failed_with(codec, codec.receive_data(header(BINARY, length, form=form))) == 1002


def test_the_most_significant_bit_of_a_length_must_be_0(codec: Codec) -> None:
    events = codec.receive_data(header(BINARY, 1 << 63))
    assert failed_with(codec, events) == 1002


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_holds_125_octets_at_most(codec: Codec, opcode: int) -> None:
    assert failed_with(codec, codec.receive_data(frame(opcode, bytes(126)))) == 1002


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_is_never_fragmented(codec: Codec, opcode: int) -> None:
    assert failed_with(codec, codec.receive_data(frame(opcode, fin=False))) == 1002


@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(codec: Codec, payload: bytes) -> None:
    assert codec.receive_data(frame(PING, payload)) == []
    assert frames(codec.take_answers()) == [Sent(PONG, payload)]
    assert codec.take_answers() == b""


def test_several_pings_are_answered_in_order(codec: Codec) -> None:
    codec.receive_data(b"".join(frame(PING, b"%d" % n) for n in range(10)))
    assert frames(codec.take_answers()) == [Sent(PONG, b"%d" % n) for n in range(10)]


def test_answers_never_outgrow_what_was_received(codec: Codec) -> None:
    for size in (0, 1, 125):
        octets = frame(PING, bytes(size)) * 20
        codec.receive_data(octets)
        assert 0 < len(codec.take_answers()) < len(octets)


def test_a_pong_that_nobody_asked_for_gets_no_answer(codec: Codec) -> None:
    assert codec.receive_data(frame(PONG, b"x")) == []
    assert codec.take_answers() == b""


def test_control_frames_may_stand_between_fragments(codec: Codec) -> None:
    events = codec.receive_data(
        frame(TEXT, b"Hel", fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, fin=False)
        + frame(PONG, b"q")
        + frame(CONTINUATION, b"lo")
    )
    assert events == ["Hello"]
    assert frames(codec.take_answers()) == [Sent(PONG, b"p")]


def test_a_message_may_have_any_number_of_fragments(codec: Codec) -> None:
    pieces = [b"%d," % n for n in range(100)]
    octets = frame(BINARY, fin=False)
    octets += b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces)
    assert codec.receive_data(octets) == []
    assert codec.receive_data(frame(CONTINUATION)) == [b"".join(pieces)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_empty_message_is_one(codec: Codec, opcode: int) -> None:
    empty = "" if opcode == TEXT else b""
    assert codec.receive_data(frame(opcode)) == [empty]
    fragments = frame(opcode, fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION)
    assert codec.receive_data(fragments) == [empty]


@pytest.mark.parametrize("fin", [True, False])
def test_there_must_be_a_message_to_continue(codec: Codec, fin: bool) -> None:
    assert failed_with(codec, codec.receive_data(frame(CONTINUATION, b"x", fin=fin))) == 1002


def test_a_finished_message_cannot_be_continued(codec: Codec) -> None:
    events = codec.receive_data(frame(TEXT, b"a") + frame(CONTINUATION, b"b"))
    assert events[0] == "a"
    assert failed_with(codec, events) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_no_message_begins_inside_another(codec: Codec, opcode: int) -> None:
    codec.receive_data(frame(TEXT, b"a", fin=False))
    assert failed_with(codec, codec.receive_data(frame(opcode, b"b"))) == 1002


def test_what_came_before_a_broken_rule_is_given(codec: Codec) -> None:
    octets = frame(TEXT, b"a") + frame(PING, b"p") + frame(3) + frame(TEXT, b"b")
    message, failure = codec.receive_data(octets)
    assert message == "a"
    assert isinstance(failure, ConnectionFailed)
    pong, close = frames(codec.take_answers())
    assert pong == Sent(PONG, b"p")
    assert close == closing(1002, failure.reason)


@pytest.mark.parametrize("opcode", [3, CONTINUATION])
def test_a_header_is_judged_before_its_payload_is_there(codec: Codec, opcode: int) -> None:
    assert failed_with(codec, codec.receive_data(header(opcode, 1000))) == 1002
