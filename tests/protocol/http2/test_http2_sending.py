"""What waits to be sent: water marks, turns, and how much a peer that never reads can make wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    INITIAL_WINDOW_SIZE,
    MAX_ID,
    Data,
    Headers,
    Peer,
    ServerFrame,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER, SEND_LOW_WATER
from h2asgi.protocol.events import (
    ConnectionTerminated,
    RequestReceived,
    SendQueueDrained,
    StreamReset,
)

Connect = Callable[..., Peer]


@pytest.fixture
def wide(connect: Connect) -> Peer:
    """A peer whose windows never close."""
    peer = connect((INITIAL_WINDOW_SIZE, MAX_ID))
    peer.send(window_update(0, MAX_ID - 65_535))
    return peer


def ids(frames: list[ServerFrame]) -> list[int]:
    return [one.stream_id for one in frames if isinstance(one, Data)]


def test_send_data_says_how_much_waits(wide: Peer) -> None:
    wide.get(1)
    wide.engine.send_headers(1, 200, [], False)
    assert wide.engine.send_data(1, b"x" * 1_000, False) == 0, "it needs no turn"
    assert wide.engine.send_data(1, b"x" * 20_000, False) == 20_000
    assert wide.engine.send_data(1, b"x" * 500, False) == 20_500
    wide.received()
    assert wide.engine.send_data(1, b"x", True) == 1


def test_small_answers_need_no_turns_up_to_a_bound(wide: Peer) -> None:
    """A queue, and with it an order, forms when more is sent than a peer takes at once."""
    piece = b"x" * 16_384
    for stream_id in (1, 3, 5):
        wide.get(stream_id)
        wide.engine.send_headers(stream_id, 200, [], False)
    assert [wide.engine.send_data(i, piece, True) for i in (1, 3, 5)] == [0, 0, 16_384]


def test_a_small_answer_does_not_overtake_what_waits(connect: Connect) -> None:
    peer = connect()
    peer.get(1)
    peer.get(3)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_headers(3, 200, [], False)
    assert peer.engine.send_data(1, b"x" * 20_000, True) == 20_000
    assert peer.engine.send_data(3, b"y", True) == 1
    assert ids(peer.received()) == [1, 3, 1]


def test_a_writer_is_woken_once_when_its_queue_has_drained(connect: Connect) -> None:
    """Field note 21: held above the high-water mark, woken at the low-water mark."""
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    queued = peer.engine.send_data(1, b"x" * (SEND_HIGH_WATER + 1), False)
    assert queued == SEND_HIGH_WATER + 1
    peer.exchange(window_update(0, 10**6), window_update(1, queued - SEND_LOW_WATER - 1))
    assert peer.events() == []
    peer.exchange(window_update(1, 1))
    assert peer.events() == [SendQueueDrained(1)]
    peer.exchange(window_update(1, SEND_LOW_WATER))
    assert peer.events() == []
    peer.engine.send_data(1, b"x" * SEND_HIGH_WATER, False)
    peer.exchange(window_update(1, 10**6))
    assert peer.events() == [], "at the mark nobody waits"
    peer.engine.send_data(1, b"x" * (SEND_HIGH_WATER + 1), True)
    peer.received()
    assert peer.events() == [SendQueueDrained(1)]


def test_a_reset_stream_wakes_nobody_by_draining(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.respond(1, b"x" * 100_000)
    peer.exchange(rst_stream(1))
    assert [type(event) for event in peer.events()] == [StreamReset]


def test_small_answers_overtake_a_download(wide: Peer) -> None:
    """One frame each, in turns."""
    wide.get(1)
    wide.respond(1, b"x" * 1_000_000)
    wide.received(1)
    for stream_id in (3, 5, 7):
        wide.get(stream_id)
        wide.respond(stream_id, b"small")
    assert ids(wide.received(20_000))[:4] == [1, 3, 5, 7]


def test_downloads_share_the_connection_fairly(wide: Peer) -> None:
    for stream_id in (1, 3, 5):
        wide.get(stream_id)
        wide.respond(stream_id, b"x" * 10 * 16_384)
    assert ids(wide.received()) == [1, 3, 5] * 10


def test_downloads_share_a_small_connection_window_fairly(peer: Peer) -> None:
    for stream_id in (1, 3, 5):
        peer.get(stream_id)
        peer.respond(stream_id, b"x" * 60_000)
    sent = ids(peer.received())
    for _ in range(8):
        sent += ids(peer.exchange(window_update(0, 16_384)))
    counts = [sent.count(stream_id) for stream_id in (1, 3, 5)]
    assert max(counts) - min(counts) <= 1


def test_octets_arrive_in_order_however_they_were_cut(wide: Peer) -> None:
    wide.get(1)
    wide.engine.send_headers(1, 200, [], False)
    body = bytes(range(256)) * 800
    start = 0
    for size in (1, 16_383, 16_384, 16_385, 3, 50_000, 100_000, 20_000, 10_000):
        wide.engine.send_data(1, body[start : start + size], False)
        start += size
    wide.engine.send_data(1, body[start:], True)
    frames = wide.received()
    assert b"".join(one.data for one in frames if isinstance(one, Data)) == body


def test_trailers_wait_for_the_data(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 10))
    peer.get(1)
    peer.respond(1, b"x" * 25, end=False)
    peer.engine.send_trailers(1, [(b"x", b"y")])
    assert peer.received()[1:] == [Data(1, b"x" * 10, False)]
    assert peer.exchange(window_update(1, 10)) == [Data(1, b"x" * 10, False)]
    assert peer.exchange(window_update(1, 10)) == [
        Data(1, b"x" * 5, False),
        Headers(1, [(b"x", b"y")], True),
    ]


def test_the_limit_is_kept_about(wide: Peer) -> None:
    wide.get(1)
    wide.respond(1, b"x" * 1_000_000)
    assert 50_000 <= len(wide.engine.data_to_send(50_000, 0.0)) < 50_000 + 17_000


def test_less_than_the_limit_means_that_nothing_more_can_be_sent(connect: Connect) -> None:
    """The driver asks again only after a full measure."""
    peer = connect((INITIAL_WINDOW_SIZE, 100_000))
    peer.send(window_update(0, 10**7))
    for stream_id in range(1, 201, 2):
        peer.get(stream_id)
        peer.respond(stream_id, b"x" * 1_000, end=False)
    peer.received()
    for stream_id in range(1, 201, 2):
        peer.engine.send_data(stream_id, b"x" * 99_000, True)
    peer.send(settings((INITIAL_WINDOW_SIZE, 1_000)), window_update(199, 99_000))
    total = 0
    while True:
        output = peer.engine.data_to_send(16_384, 0.0)
        total += len(output)
        if len(output) < 16_384:
            break
    assert total > 99_000
    assert peer.received() == []


@pytest.mark.parametrize("body", [None, b"", b"small"], ids=["no body", "empty", "small"])
def test_a_peer_that_never_reads_makes_no_more_wait_than_its_streams(
    peer: Peer, body: bytes | None
) -> None:
    """Requests go on coming while nothing is taken: the open streams bound what is kept."""
    answered = 0
    for stream_id in range(1, 6_001, 2):
        peer.send(peer.headers(stream_id))
        for event in peer.events():
            if isinstance(event, RequestReceived):
                answered += 1
                peer.respond(stream_id, body)
            else:
                assert isinstance(event, ConnectionTerminated)
                assert event.error_code == ErrorCode.ENHANCE_YOUR_CALM
    assert answered == 128
    peer.received()
    assert peer.log.octets < 50_000


def test_an_answer_as_large_as_its_window_does_not_wait(connect: Connect) -> None:
    for first, second in ((100, 0), (101, 1)):
        peer = connect((INITIAL_WINDOW_SIZE, 100))
        peer.get(1)
        peer.engine.send_headers(1, 200, [], False)
        assert peer.engine.send_data(1, b"x" * first, False) == (first if second else 0)
        peer.received()
        assert peer.engine.unsent == second


def test_an_answer_as_large_as_the_connection_window_does_not_wait(wide: Peer) -> None:
    peer = wide
    peer.engine._sender.window = 100  # type: ignore[attr-defined]
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    assert peer.engine.send_data(1, b"x" * 100, False) == 0


def test_nothing_to_send_makes_nothing_wait(wide: Peer) -> None:
    wide.get(1)
    wide.engine.send_headers(1, 200, [], False)
    assert wide.engine.send_data(1, b"", False) == 0
    assert wide.engine.send_data(1, b"", True) == 0


def test_nothing_comes_behind_trailers_that_wait(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"body", False)
    peer.engine.send_trailers(1, [(b"x", b"y")])
    assert peer.engine.send_data(1, b"more", True) == 0
    peer.engine.send_trailers(1, [(b"x", b"z")])
    peer.received()
    last = peer.exchange(window_update(1, 100))
    assert last == [Data(1, b"body", False), Headers(1, [(b"x", b"y")], True)]


@pytest.mark.parametrize("gone", [1, 3, 5])
def test_a_stream_that_is_reset_takes_no_other_out_of_the_queue(peer: Peer, gone: int) -> None:
    """All wait for the connection, and nobody has had the last turn."""
    for stream_id in (1, 3, 5):
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, [], False)
        peer.engine.send_data(stream_id, b"x" * 40_000, True)
    peer.received()
    peer.send(rst_stream(gone))
    found = peer.exchange(window_update(0, 2**20))
    ended = {one.stream_id for one in found if isinstance(one, Data) and one.end_stream}
    assert ended == {1, 3, 5} - {gone}
    assert peer.engine.unsent == 0


def test_tiny_pieces_that_nobody_takes_are_few(wide: Peer) -> None:
    """Each that is a frame of its own costs 50 times what it says; in the queue they are joined."""
    wide.get(1)
    wide.engine.send_headers(1, 200, [], False)
    for _ in range(30_000):
        wide.engine.send_data(1, b"xy", False)
    frames = [frame for frame in wide.received() if isinstance(frame, Data)]
    assert sum(len(frame.data) for frame in frames) == 60_000
    assert len(frames) < 3_500
