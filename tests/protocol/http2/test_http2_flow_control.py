"""RFC 9113 sections 5.2 and 6.9: credit for what we receive, and keeping to the peer's windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_ID,
    POST,
    Data,
    Goaway,
    Headers,
    Peer,
    RstStream,
    ServerFrame,
    SettingsAck,
    WindowUpdate,
    data,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import DataReceived, RequestEnded

Connect = Callable[..., Peer]

OK = [(b":status", b"200")]
FRAME = 16_384
STREAM_WINDOW = 16 * FRAME


def fill(peer: Peer, stream_id: int, octets: int = STREAM_WINDOW) -> list[ServerFrame]:
    """Send a body, without its end."""
    whole, rest = divmod(octets, FRAME)
    frames = [data(stream_id, b"x" * FRAME)] * whole
    return peer.exchange(*frames, *([data(stream_id, b"x" * rest)] if rest else []))


def credit(frames: list[ServerFrame], stream_id: int) -> int:
    return sum(
        one.increment
        for one in frames
        if isinstance(one, WindowUpdate) and one.stream_id == stream_id
    )


def sent(frames: list[ServerFrame], stream_id: int) -> int:
    return sum(
        len(one.data) for one in frames if isinstance(one, Data) and one.stream_id == stream_id
    )


# What we receive: sections 5.2 and 6.9.1.


def test_a_whole_stream_window_may_be_sent_at_once(peer: Peer) -> None:
    peer.post(1)
    fill(peer, 1)
    assert (
        sum(len(event.data) for event in peer.events() if isinstance(event, DataReceived)) == 2**18
    )


def test_data_beyond_the_stream_window_is_a_stream_error(peer: Peer) -> None:
    peer.post(1)
    peer.post(3)
    fill(peer, 3)
    peer.events()
    peer.send(data(3, b"x"))
    peer.assert_stream_error(ErrorCode.FLOW_CONTROL_ERROR)


def test_data_beyond_the_connection_window_is_a_connection_error(connect: Connect) -> None:
    peer = connect(connection_window=65_535, max_connection_window=65_535)
    peer.post(1)
    assert fill(peer, 1, 65_535) == []
    peer.assert_connection_error(ErrorCode.FLOW_CONTROL_ERROR, data(1, b"x"))


def test_padding_counts_against_the_window(connect: Connect) -> None:
    """Section 6.1: the whole payload does, the length octet too."""
    peer = connect(connection_window=65_535, max_connection_window=65_535)
    peer.post(1)
    fill(peer, 1, 65_535 - 10)
    peer.assert_connection_error(ErrorCode.FLOW_CONTROL_ERROR, data(1, b"x" * 5, padding=5))


def test_credit_is_given_on_consumption_from_half_a_window_on(peer: Peer) -> None:
    """Field notes 19 and 27: never on arrival, and not only when the window is exhausted."""
    peer.post(1)
    assert fill(peer, 1) == []
    peer.engine.acknowledge_received_data(1, STREAM_WINDOW // 2 - 1)
    assert peer.received() == []
    peer.engine.acknowledge_received_data(1, 1)
    assert WindowUpdate(1, STREAM_WINDOW // 2) in peer.received()


@pytest.mark.parametrize("piece", [1_000, 16_384, 60_000, 131_072])
def test_a_reader_that_keeps_up_never_exhausts_a_window(peer: Peer, piece: int) -> None:
    """Field note 27: no exchange of reads and credits ends with both sides waiting."""
    peer.post(1)
    stream_window, connection_window = STREAM_WINDOW, 2**20
    for _ in range(5_000_000 // piece):
        stream_window -= piece
        connection_window -= piece
        assert min(stream_window, connection_window) >= 0
        answer = fill(peer, 1, piece)
        peer.engine.acknowledge_received_data(1, piece)
        answer += peer.received()
        stream_window += credit(answer, 1)
        connection_window += credit(answer, 0)
    assert stream_window > STREAM_WINDOW // 2
    assert connection_window > 2**19


def test_padding_is_credited_at_once(peer: Peer) -> None:
    """Nobody consumes it."""
    peer.post(1)
    answer = peer.exchange(*[data(1, b"x", padding=255)] * 600)
    assert credit(answer, 1) >= STREAM_WINDOW // 2
    assert {type(one) for one in answer} == {WindowUpdate}


def test_a_stream_whose_request_has_ended_gets_no_credit(peer: Peer) -> None:
    peer.post(1)
    fill(peer, 1)
    peer.send(data(1, end=True))
    peer.engine.acknowledge_received_data(1, STREAM_WINDOW)
    assert credit(peer.received(), 1) == 0


def test_unread_streams_do_not_starve_a_sibling(peer: Peer) -> None:
    """Field note 20: sixteen streams with full windows, and a whole window left beside them."""
    connection_window = 2**20
    for stream_id in range(1, 33, 2):
        peer.post(stream_id)
        connection_window += credit(fill(peer, stream_id), 0) - STREAM_WINDOW
        assert connection_window >= STREAM_WINDOW
        peer.events()
    peer.post(33)
    fill(peer, 33)
    peer.send(data(33, end=True))
    assert peer.events()[-1] == RequestEnded(33)


def test_the_connection_window_grows_no_further_than_its_maximum(connect: Connect) -> None:
    peer = connect(max_connection_window=2**21)
    allowed = 2**20
    for stream_id in range(1, 15, 2):
        peer.post(stream_id)
        allowed += credit(fill(peer, stream_id), 0)
        peer.events()
    assert 2**21 - STREAM_WINDOW // 2 < allowed <= 2**21
    peer.post(15)
    assert fill(peer, 15, allowed - 7 * STREAM_WINDOW) == []
    peer.events()
    peer.post(17)
    peer.assert_connection_error(ErrorCode.FLOW_CONTROL_ERROR, data(17, b"x"))


@pytest.mark.parametrize(
    "how", ["reset by the peer", "reset by us", "early response", "malformed", "both ended"]
)
def test_what_is_unread_when_a_stream_ends_is_credited_to_the_connection(
    peer: Peer, how: str
) -> None:
    """Field note 1, and section 6.9: the connection's window outlives the stream."""
    balance = 2**20
    for stream_id in range(1, 101, 2):
        extra = [(b"content-length", b"%d" % STREAM_WINDOW)] if how == "malformed" else []
        peer.post(stream_id, *extra)
        balance += credit(fill(peer, stream_id), 0) - STREAM_WINDOW
        if how == "reset by the peer":
            peer.send(rst_stream(stream_id))
        elif how == "reset by us":
            peer.engine.reset_stream(stream_id, ErrorCode.CANCEL)
        elif how == "early response":
            peer.respond(stream_id)
        elif how == "malformed":
            peer.send(data(stream_id, b"one too many", end=True))
            balance -= 12
        else:
            peer.send(data(stream_id, end=True))
            peer.respond(stream_id)
        peer.events()
        balance += credit(peer.received(), 0)
        assert balance > 2**19
    assert balance <= 2**20


# What we send: sections 6.9.1 and 6.9.2.


def test_data_keeps_to_the_stream_window(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 1_000))
    peer.get(1)
    peer.respond(1, b"x" * 2_500)
    assert peer.received()[1:] == [Data(1, b"x" * 1_000, False)]
    assert peer.exchange(window_update(1, 1_000)) == [Data(1, b"x" * 1_000, False)]
    assert peer.exchange(window_update(0, 1_000)) == []
    assert peer.exchange(window_update(1, 501)) == [Data(1, b"x" * 500, True)]


def test_data_keeps_to_the_connection_window(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 100_000))
    peer.get(1)
    peer.respond(1, b"x" * 70_000)
    assert sent(peer.received(), 1) == 65_535
    assert peer.exchange(window_update(1, 1_000)) == []
    assert sent(peer.exchange(window_update(0, 1_000)), 1) == 1_000
    assert sent(peer.exchange(window_update(0, 10_000)), 1) == 70_000 - 66_535


def test_settings_do_not_change_the_connection_window(connect: Connect) -> None:
    """Section 6.9.2."""
    peer = connect((INITIAL_WINDOW_SIZE, 100_000))
    peer.get(1)
    peer.respond(1, b"x" * 70_000)
    peer.received()
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 1_000_000))) == [SettingsAck()]


def test_a_larger_initial_window_opens_streams_that_wait(connect: Connect) -> None:
    """Section 6.9.2: changes apply to streams that are open."""
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.respond(1, b"x" * 100)
    assert peer.received() == [Headers(1, OK, False)]
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 60))) == [
        SettingsAck(),
        Data(1, b"x" * 60, False),
    ]
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 100))) == [
        SettingsAck(),
        Data(1, b"x" * 40, True),
    ]


def test_a_window_may_become_negative(peer: Peer) -> None:
    """Section 6.9.2: nothing is sent until it is positive again."""
    peer.get(1)
    peer.respond(1, b"x" * 40_000, end=False)
    assert sent(peer.received(), 1) == 40_000
    peer.engine.send_data(1, b"y" * 100, True)
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 10_000))) == [SettingsAck()]
    assert peer.exchange(window_update(1, 30_000)) == []
    assert peer.exchange(window_update(1, 60)) == [Data(1, b"y" * 60, False)]
    assert peer.exchange(window_update(1, 40)) == [Data(1, b"y" * 40, True)]


def test_a_negative_window_opens_by_settings(peer: Peer) -> None:
    peer.get(1)
    peer.respond(1, b"x" * 40_000, end=False)
    peer.received()
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 0))) == [SettingsAck()]
    peer.engine.send_data(1, b"y" * 100, True)
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 40_000))) == [SettingsAck()]
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, 40_100)))[1:] == [Data(1, b"y" * 100, True)]


def test_window_updates_before_the_answer_count(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.post(1)
    assert peer.exchange(window_update(1, 50)) == []
    peer.respond(1, b"x" * 50)
    assert Data(1, b"x" * 50, True) in peer.received()


def test_a_window_update_of_0_on_a_stream_is_a_stream_error(peer: Peer) -> None:
    """Section 6.9."""
    peer.post(1)
    peer.post(3)
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR, window_update(3, 0))


def test_a_window_update_of_0_on_the_connection_is_a_connection_error(peer: Peer) -> None:
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, window_update(0, 0))


def test_a_stream_window_beyond_its_maximum_is_a_stream_error(peer: Peer) -> None:
    """Section 6.9.1."""
    peer.post(1)
    peer.post(3)
    assert peer.exchange(window_update(3, MAX_ID - 65_535)) == []
    peer.assert_stream_error(ErrorCode.FLOW_CONTROL_ERROR, window_update(3, 1))


def test_a_connection_window_beyond_its_maximum_is_a_connection_error(peer: Peer) -> None:
    assert peer.exchange(window_update(0, MAX_ID - 65_535)) == []
    peer.assert_connection_error(ErrorCode.FLOW_CONTROL_ERROR, window_update(0, 1))


def test_settings_that_push_a_window_beyond_its_maximum_are_a_connection_error(peer: Peer) -> None:
    """Section 6.9.2."""
    peer.post(1)
    peer.send(window_update(1, 1_000))
    wrong = settings((INITIAL_WINDOW_SIZE, MAX_ID))
    peer.assert_connection_error(ErrorCode.FLOW_CONTROL_ERROR, wrong)


def test_an_octet_of_credit_lets_an_octet_through(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 1))
    peer.get(1)
    peer.respond(1, b"abc")
    assert sent(peer.received(), 1) == 1
    assert peer.exchange(window_update(1, 1)) == [Data(1, b"b", False)]
    peer = connect((INITIAL_WINDOW_SIZE, 70_000))
    peer.get(1)
    peer.respond(1, b"x" * 65_537)
    assert sent(peer.received(), 1) == 65_535
    assert peer.exchange(window_update(0, 1)) == [Data(1, b"x", False)]
    assert peer.exchange(window_update(0, 1)) == [Data(1, b"x", True)]


def test_settings_may_open_a_stream_to_its_maximum(peer: Peer) -> None:
    peer.get(1)
    peer.send(window_update(1, 1_000), settings((INITIAL_WINDOW_SIZE, MAX_ID - 1_000)))
    assert peer.received() == [SettingsAck()]
    peer.respond(1)
    peer.received()
    peer.assert_serves()


def test_the_largest_initial_window_is_taken(peer: Peer) -> None:
    assert peer.exchange(settings((INITIAL_WINDOW_SIZE, MAX_ID))) == [SettingsAck()]
    peer.assert_serves()


@pytest.mark.parametrize("offered", [16_384, 16_777_215])
def test_data_frames_stay_short_enough_to_take_turns(connect: Connect, offered: int) -> None:
    """Sections 4.2 and 6.5.2: never above the peer's size, and never above 16 KiB of our own."""
    peer = connect((MAX_FRAME_SIZE, offered), (INITIAL_WINDOW_SIZE, 10**6))
    peer.get(1)
    peer.respond(1, b"x" * 50_000)
    assert [len(one.data) for one in peer.received() if isinstance(one, Data)] == [16_384] * 3 + [
        848
    ]


def test_header_sections_use_the_larger_frames_of_a_peer(connect: Connect) -> None:
    peer = connect((MAX_FRAME_SIZE, 100_000))
    peer.log.max_frame_size = 100_000
    peer.get(1)
    peer.engine.send_headers(1, 200, [(b"x", b"v" * 60_000)], True)
    assert peer.received() == [Headers(1, [*OK, (b"x", b"v" * 60_000)], True)]
    assert peer.log.sizes[-1][1] > 50_000  # Huffman coding may shorten it


def test_an_empty_end_needs_no_window(connect: Connect) -> None:
    """Section 6.9.1: a frame of length zero with END_STREAM may be sent with no space left."""
    peer = connect((INITIAL_WINDOW_SIZE, 0))
    peer.get(1)
    peer.respond(1, b"")
    assert peer.received() == [Headers(1, OK, False), Data(1, b"", True)]


def test_ends_and_headers_pass_a_closed_connection_window(peer: Peer) -> None:
    peer.get(1)
    peer.respond(1, b"x" * 65_535, end=False)
    assert sent(peer.received(), 1) == 65_535
    peer.get(3)
    peer.respond(3, b"")
    assert peer.received() == [Headers(3, OK, False), Data(3, b"", True)]
    peer.engine.send_trailers(1, [(b"x", b"y")])
    assert peer.received() == [Headers(1, [(b"x", b"y")], True)]


@pytest.mark.parametrize("how", ["end", "trailers"])
def test_an_answer_that_fits_the_connection_window_exactly_ends_at_once(
    peer: Peer, how: str
) -> None:
    """No WINDOW_UPDATE may be needed for it: a client may wait for the end before it sends one."""
    peer.get(1)
    peer.respond(1, b"x" * 65_535, end=how == "end")
    if how == "trailers":
        peer.engine.send_trailers(1, [(b"x", b"y")])
    last = peer.received()[-1]
    assert isinstance(last, Headers | Data)
    assert last.end_stream


def test_a_stream_that_waits_for_its_window_does_not_block_others(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 100))
    for stream_id in (1, 3, 5):
        peer.get(stream_id)
        peer.respond(stream_id, b"x" * 200)
    assert sent(peer.received(), 5) == 100
    assert peer.exchange(window_update(5, 100)) == [Data(5, b"x" * 100, True)]


def test_credit_comes_before_an_error_ends_the_connection(peer: Peer) -> None:
    """A broken frame does not undo what the frames before it did."""
    peer.post(1)
    answer = peer.exchange(data(1, b"x"), peer.headers(3, POST, (b"X", b"y")), data(0))
    assert answer == [RstStream(3, ErrorCode.PROTOCOL_ERROR), Goaway(3, ErrorCode.PROTOCOL_ERROR)]
    assert peer.events()[0] == DataReceived(1, b"x")
