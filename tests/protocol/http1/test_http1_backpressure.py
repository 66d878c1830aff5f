"""Memory is bounded both ways: reading stops, writers wait, and both go on again."""

from __future__ import annotations

from collections.abc import Callable

from http1_peer import GET, POST_CHUNKED, Peer, post

from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER, SEND_LOW_WATER
from h2asgi.protocol.events import SendQueueDrained

KIB = 1024
MIB = 1024 * KIB


def test_reading_stops_at_the_window_and_goes_on_below_it(connect: Callable[..., Peer]) -> None:
    peer = connect(receive_window=8 * KIB)
    peer.feed(post(100 * KIB))
    assert not peer.engine.reading_suspended
    peer.feed(b"x" * (8 * KIB - 1))
    assert not peer.engine.reading_suspended
    peer.feed(b"x")
    assert peer.engine.reading_suspended
    peer.engine.acknowledge_received_data(1, 1)
    assert not peer.engine.reading_suspended


def test_acknowledging_more_than_was_received_gains_nothing(connect: Callable[..., Peer]) -> None:
    peer = connect(receive_window=8 * KIB)
    peer.feed(post(100 * KIB, b"x"))
    peer.engine.acknowledge_received_data(1, 1000)
    peer.engine.acknowledge_received_data(7, 1000)
    peer.feed(b"x" * 8 * KIB)
    assert peer.engine.reading_suspended


def test_body_that_is_complete_but_unread_does_not_stop_reading(
    connect: Callable[..., Peer],
) -> None:
    """The end of the connection can still be seen."""
    peer = connect(receive_window=8 * KIB)
    peer.feed(post(8 * KIB, b"x" * 8 * KIB))
    assert not peer.engine.reading_suspended


def test_reading_stops_when_too_much_is_pipelined(peer: Peer) -> None:
    requests = GET * (64 * KIB // len(GET))
    peer.feed(GET + requests)
    assert not peer.engine.reading_suspended
    peer.feed(GET)
    assert peer.engine.reading_suspended
    peer.answer(1)
    assert not peer.engine.reading_suspended


def test_response_that_ends_early_lets_the_body_be_discarded(connect: Callable[..., Peer]) -> None:
    """What is unread when the response ends needs no acknowledgement."""
    peer = connect(receive_window=8 * KIB)
    peer.feed(post(20 * KIB, b"x" * 10 * KIB))
    assert peer.engine.reading_suspended
    peer.answer(1)
    assert not peer.engine.reading_suspended
    assert [event.stream_id for event in peer.feed(b"x" * 10 * KIB + GET)] == [2]
    assert not peer.engine.reading_suspended


def test_reading_is_never_suspended_on_a_closed_connection(connect: Callable[..., Peer]) -> None:
    peer = connect(receive_window=8 * KIB)
    peer.feed(post(20 * KIB, b"x" * 10 * KIB))
    peer.engine.terminate(ErrorCode.NO_ERROR, "enough")
    assert not peer.engine.reading_suspended


def test_writer_waits_above_the_high_water_mark_and_is_woken_at_the_low_one(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"1000000")], False)
    peer.received()
    assert peer.engine.send_data(1, b"x" * SEND_HIGH_WATER, False) == SEND_HIGH_WATER
    assert peer.engine.send_data(1, b"x", False) == SEND_HIGH_WATER + 1
    peer.engine.data_to_send(SEND_HIGH_WATER - SEND_LOW_WATER, 0.0)
    assert peer.engine.take_events() == []
    peer.engine.data_to_send(1, 0.0)
    assert peer.engine.take_events() == [SendQueueDrained(1)]
    peer.received()
    assert peer.engine.take_events() == []


def test_writer_that_never_waited_is_not_woken(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    assert peer.engine.send_data(1, b"x" * 1000, False) <= SEND_HIGH_WATER
    peer.received()
    assert peer.engine.take_events() == []


def test_writer_is_woken_behind_the_end_of_its_response(peer: Peer) -> None:
    peer.feed(b"GET / HTTP/1.0\r\n\r\n")
    peer.engine.send_headers(1, 200, [], False)
    assert peer.engine.send_data(1, b"x" * 100 * KIB, True) > SEND_HIGH_WATER
    assert peer.engine.take_events() == []
    drained, _end = peer.leave()
    assert drained == SendQueueDrained(1)


def test_large_body_leaves_in_pieces_of_the_size_asked_for(peer: Peer) -> None:
    body = bytes(range(256)) * 4 * KIB
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"%d" % len(body))], False)
    head = len(peer.received())
    assert head > 0
    peer.engine.send_data(1, body, True)
    pieces = []
    while piece := peer.engine.data_to_send(10_000, 0.0):
        pieces.append(piece)
    assert {len(piece) for piece in pieces[:-1]} == {10_000}
    assert b"".join(pieces) == body


def test_large_body_is_not_copied(peer: Peer) -> None:
    """What is asked for in pieces is a view of what the application gave."""
    body = bytes(MIB)
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [(b"content-length", b"%d" % len(body))], False)
    peer.received()
    peer.engine.send_data(1, body, True)
    while piece := peer.engine.data_to_send(128 * KIB, 0.0):
        assert isinstance(piece, memoryview)
        assert piece.obj is body
    peer.feed(GET)
    peer.engine.send_headers(2, 200, [(b"content-length", b"%d" % len(body))], False)
    peer.received()
    peer.engine.send_data(2, body, True)
    assert peer.engine.data_to_send(2 * MIB, 0.0) is body


def test_chunk_framing_is_counted_and_cut_like_any_octets(peer: Peer) -> None:
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.received()
    assert peer.engine.send_data(1, b"hello", False) == len(b"5\r\nhello\r\n")
    peer.engine.send_data(1, b"", True)
    octets = iter(lambda: peer.engine.data_to_send(1, 0.0), b"")
    assert b"".join(octets) == b"5\r\nhello\r\n0\r\n\r\n"


def test_nothing_asked_for_is_nothing_given(peer: Peer) -> None:
    peer.feed(GET)
    peer.answer(1, b"x")
    assert peer.engine.data_to_send(0, 0.0) == b""
    assert peer.received().endswith(b"x")


def test_discarded_body_is_not_kept(peer: Peer) -> None:
    """Octets behind a response that is still leaving are dropped, not stored."""
    peer.feed(POST_CHUNKED)
    peer.answer(1, b"x" * 300 * KIB)
    assert peer.feed(b"10000\r\n" + b"x" * 64 * KIB + b"\r\n") == []
    assert not peer.engine.reading_suspended
    peer.received()
    peer.engine.take_events()
    assert [event.stream_id for event in peer.feed(b"0\r\n\r\n" + GET)] == [2]


def test_large_piece_leaves_at_once_and_small_ones_are_joined(peer: Peer) -> None:
    large = bytes(300 * KIB)
    peer.feed(GET)
    peer.engine.send_headers(1, 200, [], False)
    peer.received()
    for body in (large, bytes(10)):
        peer.engine.send_data(1, body, False)
    first = peer.engine.data_to_send(MIB, 0.0)
    assert first.startswith(b"%x\r\n" % len(large))
    assert len(first) == 128 * KIB  # joined to the line with its size
    second = peer.engine.data_to_send(MIB, 0.0)
    assert isinstance(second, memoryview)
    assert second.obj is large
    assert len(first) + len(second) == len(b"4b000\r\n") + len(large)
    assert peer.received() == b"\r\na\r\n" + bytes(10) + b"\r\n"
