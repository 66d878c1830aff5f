"""How a WebSocket ends (RFC 6455 sections 5.5.1 and 7)."""

from __future__ import annotations

import pytest
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Sent,
    close_frame,
    closing,
    failed_with,
    frame,
    frames,
)

from h2asgi.errors import IllegalMessage
from h2asgi.protocol.websocket.codec import (
    CloseReceived,
    Codec,
    ConnectionFailed,
)

LEGAL = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
ILLEGAL = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


@pytest.mark.parametrize("code", LEGAL)
def test_a_close_is_answered_with_its_code(codec: Codec, code: int) -> None:
    assert codec.receive_data(close_frame(code, b"bye")) == [CloseReceived(code, "bye")]
    assert frames(codec.take_answers()) == [closing(code)]
    assert codec.over
    assert codec.close_sent


def test_a_close_without_a_code_is_1005_and_answered_without_one(codec: Codec) -> None:
    assert codec.receive_data(close_frame()) == [CloseReceived(1005, "")]
    assert frames(codec.take_answers()) == [closing(None)]


@pytest.mark.parametrize("code", ILLEGAL)
def test_a_code_that_must_not_be_sent_fails_the_connection(codec: Codec, code: int) -> None:
    assert failed_with(codec, codec.receive_data(close_frame(code))) == 1002


def test_a_close_of_one_octet_fails_the_connection(codec: Codec) -> None:
    assert failed_with(codec, codec.receive_data(frame(CLOSE, b"\x03"))) == 1002


def test_a_reason_of_123_octets_is_taken(codec: Codec) -> None:
    reason = "é" * 61 + "x"
    assert codec.receive_data(close_frame(1000, reason.encode())) == [CloseReceived(1000, reason)]


@pytest.mark.parametrize("reason", [b"\xff", b"\xce", b"\xed\xa0\x80"])
def test_a_reason_must_be_utf_8(codec: Codec, reason: bytes) -> None:
    assert failed_with(codec, codec.receive_data(close_frame(1000, reason))) == 1007


def test_nothing_is_looked_at_after_a_close(codec: Codec) -> None:
    octets = close_frame(1000) + frame(TEXT, b"x") + frame(PING) + frame(3) + close_frame(1001)
    assert codec.receive_data(octets) == [CloseReceived(1000, "")]
    assert frames(codec.take_answers()) == [closing(1000)]
    assert codec.receive_data(octets) == []
    assert codec.take_answers() == b""


def test_a_close_may_come_inside_a_message(codec: Codec) -> None:
    octets = frame(TEXT, b"x", fin=False) + close_frame(1000) + frame(CONTINUATION, b"y")
    assert codec.receive_data(octets) == [CloseReceived(1000, "")]


@pytest.mark.parametrize("code", LEGAL)
def test_our_close_has_code_and_reason(codec: Codec, code: int) -> None:
    assert frames(codec.close(code, "bye")) == [closing(code, "bye")]
    assert codec.close_sent
    assert not codec.over


def test_our_close_may_go_without_a_code(codec: Codec) -> None:
    assert frames(codec.close(1005, "")) == [closing(None)]


@pytest.mark.parametrize("code", [code for code in ILLEGAL if code != 1005])
def test_a_code_that_no_endpoint_may_send_is_the_applications_mistake(
    codec: Codec, code: int
) -> None:
    with pytest.raises(IllegalMessage, match="close code"):
        codec.close(code, "")
    assert not codec.close_sent


def test_a_long_reason_is_cut_between_characters(codec: Codec) -> None:
    assert frames(codec.close(1000, "x" + "é" * 100)) == [closing(1000, "x" + "é" * 61)]


def test_nothing_is_sent_after_our_close(codec: Codec) -> None:
    assert codec.close(1000, "")
    assert codec.send_message("x") == b""
    assert codec.ping(b"x") == b""
    assert codec.close(1001, "") == b""


def test_the_answer_to_our_close_gets_none(codec: Codec) -> None:
    codec.close(1000, "")
    assert codec.receive_data(close_frame(1000)) == [CloseReceived(1000, "")]
    assert codec.take_answers() == b""
    assert codec.over


def test_messages_that_cross_our_close_are_dropped(codec: Codec) -> None:
    codec.receive_data(frame(TEXT, b"begun", fin=False))
    codec.close(1000, "")
    octets = frame(CONTINUATION, b"\xff") + frame(BINARY, b"x") + frame(PONG, b"p")
    assert codec.receive_data(octets) == []
    assert codec.receive_data(close_frame(1001, b"y")) == [CloseReceived(1001, "y")]


def test_pings_are_answered_until_the_peer_closes(codec: Codec) -> None:
    codec.close(1000, "")
    codec.receive_data(frame(PING, b"x"))
    assert frames(codec.take_answers()) == [Sent(PONG, b"x")]


def test_a_broken_rule_after_our_close_is_not_answered(codec: Codec) -> None:
    codec.close(1000, "")
    (failure,) = codec.receive_data(frame(3))
    assert isinstance(failure, ConnectionFailed)
    assert failure.code == 1002
    assert codec.take_answers() == b""
    assert codec.over


def test_what_came_before_a_close_is_given(codec: Codec) -> None:
    events = codec.receive_data(frame(TEXT, b"x") + close_frame(1000))
    assert events == ["x", CloseReceived(1000, "")]
