"""RFC 9113 sections 5.1, 5.4.2 and 6.4: what a stream's state allows, and how streams end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_ID,
    POST,
    PRIORITY,
    Data,
    Goaway,
    Headers,
    Peer,
    RstStream,
    WindowUpdate,
    data,
    frame,
    priority,
    rst_stream,
    window_update,
)

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import DataReceived, RequestEnded, RequestReceived, StreamReset
from h2asgi.protocol.http2.discards import DISCARD_TIMEOUT

Connect = Callable[..., Peer]

OK = [(b":status", b"200")]

UNFIT = (b"content-length", b"%d" % 2**30)  # a body that would need credit


# Section 5.1.1: identifiers.


def test_an_even_stream_id_is_a_connection_error(peer: Peer) -> None:
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, peer.headers(2))


def test_an_even_stream_id_below_the_highest_is_a_connection_error(peer: Peer) -> None:
    peer.post(5)
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, peer.headers(4))


def test_a_stream_id_that_was_skipped_is_a_connection_error(peer: Peer) -> None:
    """A new id closes all idle ones below it."""
    peer.post(5)
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, peer.headers(3))


def test_the_last_stream_id_there_is_can_be_used(peer: Peer) -> None:
    peer.get(MAX_ID)
    peer.respond(MAX_ID)
    assert peer.received() == [Headers(MAX_ID, OK, True)]


# Section 5.1.2: concurrency.


def test_one_stream_too_many_is_refused_alone(connect: Connect) -> None:
    """Field note 2."""
    peer = connect(max_concurrent_streams=3)
    for stream_id in (1, 3, 5):
        peer.post(stream_id)
    assert peer.exchange(peer.headers(7)) == [RstStream(7, ErrorCode.REFUSED_STREAM)]
    assert peer.events() == []
    peer.respond(3, b"")
    peer.send(data(3, end=True))
    peer.received()
    peer.events()
    peer.get(9)
    peer.respond(9)
    assert peer.received() == [Headers(9, OK, True)]


def test_a_refused_stream_leaves_the_compression_state_right(connect: Connect) -> None:
    """Section 4.3: a field block that is not wanted is decoded all the same."""
    peer = connect(max_concurrent_streams=1)
    peer.post(1)
    peer.send(peer.headers(3, POST, (b"x-new", b"value"), end=False))
    peer.send(peer.headers(1, [], (b"x-new", b"value")))
    assert peer.events() == [RequestEnded(1, [(b"x-new", b"value")])]


def test_the_body_of_a_refused_stream_is_credited(connect: Connect) -> None:
    peer = connect(max_concurrent_streams=1)
    peer.post(1)
    peer.exchange(peer.headers(3, POST, end=False))
    answer = peer.exchange(*[data(3, b"x" * 16_000)] * 40)
    assert WindowUpdate(0, 33 * 16_000) in answer
    assert peer.events() == []


# Section 5.1: idle.


@pytest.mark.parametrize("stream_id", [1, 2], ids=["client's", "server's"])
@pytest.mark.parametrize(
    "late", [data(0, b"x"), rst_stream(0), window_update(0, 1)], ids=["DATA", "RST", "WINDOW"]
)
def test_a_frame_on_an_idle_stream_is_a_connection_error(
    peer: Peer, late: bytes, stream_id: int
) -> None:
    on_stream = late[:8] + bytes([stream_id]) + late[9:]
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, on_stream)


def test_priority_is_allowed_in_every_state(peer: Peer) -> None:
    """Sections 5.1 and 6.3: idle, open, half-closed and closed."""
    assert peer.exchange(priority(1), priority(7, 5), priority(8)) == []
    peer.post(1)
    peer.get(3)
    assert peer.exchange(priority(1, 3), priority(3, 0, 255)) == []
    peer.respond(3)
    peer.received()
    peer.send(rst_stream(1))
    assert peer.exchange(priority(1), priority(3)) == []
    peer.events()
    peer.assert_serves()


def test_priority_fields_in_headers_are_skipped(peer: Peer) -> None:
    """Sections 5.3.2 and 6.2."""
    payload = b"\x80\0\0\3\xff" + peer.block(POST)
    peer.send(frame(HEADERS, 0x24, 1, payload))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.method == "POST"


@pytest.mark.parametrize("kind", ["PRIORITY", "HEADERS"])
def test_a_stream_that_depends_on_itself_is_a_connection_error(peer: Peer, kind: str) -> None:
    """RFC 7540 section 5.3.1, which older peers are tested against."""
    wrong = frame(HEADERS, 0x25, 1, b"\0\0\0\1\0" + peer.block(POST))
    wrong = priority(1, depends_on=1) if kind == "PRIORITY" else wrong
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, wrong)


@pytest.mark.parametrize("ended", [True, False])
def test_a_priority_frame_of_wrong_size_without_a_stream_to_reset(peer: Peer, ended: bool) -> None:
    """Section 6.3, where no stream can be reset: it has ended, or is idle."""
    peer.get(1)
    peer.get(3)
    peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
    peer.respond(3)
    peer.received()
    assert peer.exchange(frame(PRIORITY, 0, 1, b"1234")) == []  # it may be late
    peer.assert_connection_error(
        ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY, 0, 3 if ended else 5, b"1234")
    )


# Section 5.1: half-closed (remote).


def test_data_after_end_stream_is_a_stream_error(peer: Peer) -> None:
    peer.post(1)
    peer.get(3)
    peer.assert_stream_error(ErrorCode.STREAM_CLOSED, data(3, b"more"))


def test_headers_after_end_stream_are_a_stream_error(peer: Peer) -> None:
    peer.post(1)
    peer.get(3)
    peer.assert_stream_error(ErrorCode.STREAM_CLOSED, peer.headers(3, [(b"x", b"y")]))


def test_window_updates_and_resets_are_allowed_after_end_stream(peer: Peer) -> None:
    peer.get(1)
    assert peer.exchange(window_update(1, 1000), priority(1)) == []
    peer.send(rst_stream(1, ErrorCode.CANCEL))
    assert peer.events() == [StreamReset(1, ErrorCode.CANCEL, "reset by the peer", True)]
    peer.assert_serves()


# Section 5.1: closed.


@pytest.mark.parametrize("late", ["DATA", "HEADERS"])
@pytest.mark.parametrize("how", ["both ended", "reset by the peer"])
def test_frames_on_a_closed_stream_are_a_connection_error(peer: Peer, how: str, late: str) -> None:
    """The peer closed it itself, so it must know."""
    peer.get(1)
    if how == "both ended":
        peer.respond(1)
    else:
        peer.send(rst_stream(1))
    peer.received()
    wrong = data(1, b"x") if late == "DATA" else peer.headers(1)
    peer.assert_connection_error(ErrorCode.STREAM_CLOSED, wrong)


@pytest.mark.parametrize("how", ["both ended", "reset by the peer", "reset by us"])
def test_window_updates_and_resets_on_a_closed_stream_are_ignored(peer: Peer, how: str) -> None:
    """Section 5.1, and 6.4: RST_STREAM is never answered by RST_STREAM."""
    peer.get(1)
    if how == "both ended":
        peer.respond(1)
    elif how == "reset by us":
        peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
    else:
        peer.send(rst_stream(1))
    peer.received()
    peer.events()
    late = [window_update(1, 5), window_update(1, 0), window_update(1, MAX_ID), rst_stream(1)]
    assert peer.exchange(*late, *late) == []
    assert peer.events() == []
    peer.assert_serves()


def test_frames_that_cross_our_reset_are_dropped(peer: Peer) -> None:
    """Field note 1 and section 5.1: decoded, credited, otherwise ignored."""
    peer.post(1)
    peer.engine.reset_stream(1, ErrorCode.CANCEL)
    assert peer.received() == [RstStream(1, ErrorCode.CANCEL)]
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, peer.block([(b"x-new", b"value")]))
    assert peer.exchange(data(1, b"x" * 1000), window_update(1, 10), trailers) == []
    assert peer.events() == []
    peer.send(peer.headers(3, POST, (b"x-new", b"value")))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.headers[-1] == (b"x-new", b"value")
    peer.assert_serves()


def test_data_after_an_early_response_is_dropped_and_credited(peer: Peer) -> None:
    """Field note 1: whatever follows an answer uses the connection's credit, and gets it back."""
    peer.post(1, UNFIT)
    peer.respond(1, b"no thanks")
    peer.received()
    credited = 0
    for _ in range(100):
        answer = peer.exchange(*[data(1, b"x" * 16_384)] * 4)
        assert all(isinstance(one, WindowUpdate) and one.stream_id == 0 for one in answer)
        credited += sum(one.increment for one in answer if isinstance(one, WindowUpdate))
    assert credited > 100 * 4 * 16_384 - 600_000
    assert peer.events() == []
    peer.assert_serves()


# Section 8.1: early responses.


def test_an_early_response_ends_with_end_stream_and_then_reset_no_error(peer: Peer) -> None:
    peer.post(1, UNFIT)
    peer.respond(1, b"413, really")
    assert peer.received() == [
        Headers(1, OK, False),
        Data(1, b"413, really", True),
        RstStream(1, ErrorCode.NO_ERROR),
    ]
    assert peer.events() == []
    peer.assert_serves()


def test_an_early_response_without_body_is_reset_after_its_headers(peer: Peer) -> None:
    peer.post(1, UNFIT)
    peer.respond(1)
    assert peer.received() == [Headers(1, OK, True), RstStream(1, ErrorCode.NO_ERROR)]


def test_a_request_that_ends_before_its_early_response_is_taken_is_not_reset(peer: Peer) -> None:
    peer.post(1)
    peer.respond(1)
    peer.send(data(1, end=True))
    assert peer.received() == [Headers(1, OK, True)]


def test_the_rest_of_a_request_that_is_on_its_way_is_awaited(peer: Peer) -> None:
    """A client that is sending may take a reset for an error, and lose its answer."""
    peer.post(1, (b"content-length", b"100000"))
    peer.send(data(1, b"x" * 10_000))
    peer.respond(1, b"no thanks")
    assert peer.received() == [Headers(1, OK, False), Data(1, b"no thanks", True)]
    peer.send(*[data(1, b"x" * 15_000)] * 6)
    assert RstStream(1, ErrorCode.NO_ERROR) not in peer.received()
    peer.send(data(1, end=True))
    assert peer.wait(2 * DISCARD_TIMEOUT) == []
    assert peer.engine.idle
    peer.assert_serves()


def test_a_rest_of_unknown_length_is_awaited_while_its_window_lasts(peer: Peer) -> None:
    peer.post(1)
    peer.respond(1, b"no thanks")
    assert peer.received() == [Headers(1, OK, False), Data(1, b"no thanks", True)]
    left = peer.engine._config.stream_window
    while left > 16_000:
        peer.send(data(1, b"x" * 16_000))
        left -= 16_000
        assert peer.events() == []
        answer = peer.received()
        assert all(isinstance(one, WindowUpdate) and one.stream_id == 0 for one in answer)
    peer.send(data(1, b"x" * left))
    assert RstStream(1, ErrorCode.NO_ERROR) in peer.received()
    peer.assert_serves()


@pytest.mark.parametrize(
    ("trailers", "end"), [([(b"a", b"b")], False), ([(b":method", b"GET")], True)]
)
def test_a_mistake_behind_an_early_response_is_a_mistake(
    peer: Peer, trailers: list, end: bool
) -> None:
    """However quick the response was."""
    peer.post(1)
    peer.respond(1, b"no thanks")
    peer.received()
    peer.send(peer.headers(1, trailers, end=end))
    assert peer.received() == [RstStream(1, ErrorCode.PROTOCOL_ERROR)]


def test_frames_behind_a_reset_behind_an_early_response_break_a_rule(peer: Peer) -> None:
    """Section 5.1, "closed"."""
    peer.post(1)
    peer.respond(1, b"no thanks")
    peer.received()
    peer.send(rst_stream(1, ErrorCode.CANCEL), data(1, b"more"))
    assert peer.received() == [Goaway(1, ErrorCode.STREAM_CLOSED)]


@pytest.mark.parametrize("fields", [(), ((b"content-length", b"10"),)])
def test_the_rest_that_does_not_come_is_given_up(peer: Peer, fields: tuple) -> None:
    peer.post(1, *fields)
    peer.respond(1, b"no thanks")
    peer.received()
    assert peer.engine.next_deadline() == peer.now + DISCARD_TIMEOUT
    assert peer.wait(DISCARD_TIMEOUT / 2) == []
    assert peer.wait(DISCARD_TIMEOUT / 2) == [RstStream(1, ErrorCode.NO_ERROR)]
    assert peer.events() == []
    peer.assert_serves()


@pytest.mark.parametrize(
    "fields",
    [
        [UNFIT],
        [(b"content-length", b"10"), (b"expect", b"100-continue")],
    ],
)
def test_a_rest_that_would_have_to_be_asked_for_is_not(peer: Peer, fields: list) -> None:
    peer.post(1, *fields)
    peer.respond(1, b"no thanks")
    assert peer.received()[-1] == RstStream(1, ErrorCode.NO_ERROR)


def test_a_client_that_resets_the_rest_itself_is_not_answered(peer: Peer) -> None:
    peer.post(1, (b"content-length", b"10"))
    peer.respond(1, b"no thanks")
    peer.received()
    peer.send(rst_stream(1, ErrorCode.CANCEL))
    peer.events()
    assert peer.wait(2 * DISCARD_TIMEOUT) == []
    peer.assert_serves()


@pytest.mark.parametrize("first", ["shutdown", "response"])
def test_a_shutdown_waits_for_no_rest(peer: Peer, first: str) -> None:
    peer.post(1, (b"content-length", b"10"))
    if first == "shutdown":
        peer.engine.begin_shutdown(peer.now)
        peer.respond(1, b"no thanks")
    else:
        peer.respond(1, b"no thanks")
        peer.received()
        peer.engine.begin_shutdown(peer.now)
    assert peer.received()[-1] == RstStream(1, ErrorCode.NO_ERROR)


# Section 6.4: RST_STREAM.


def test_a_reset_is_reported_and_silences_the_stream(peer: Peer) -> None:
    """After RST_STREAM nothing is sent on the stream; queued data is dropped."""
    peer.post(1)
    peer.respond(1, b"x" * 200_000, end=False)
    peer.received(20_000)
    peer.send(rst_stream(1, ErrorCode.CANCEL))
    assert peer.events() == [StreamReset(1, ErrorCode.CANCEL, "reset by the peer", True)]
    assert peer.received() == []
    assert peer.engine.send_data(1, b"late", True) == 0
    peer.engine.send_trailers(1, [(b"late", b"too")])
    peer.engine.acknowledge_received_data(1, 5)
    peer.engine.reset_stream(1, ErrorCode.CANCEL)
    assert peer.received() == []
    peer.assert_serves()


def test_a_reset_that_crosses_ours_is_not_reported(peer: Peer) -> None:
    peer.post(1)
    peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
    assert peer.exchange(rst_stream(1)) == [RstStream(1, ErrorCode.INTERNAL_ERROR)]
    assert peer.events() == []


def test_a_reset_that_crosses_the_end_of_an_answer_is_taken(peer: Peer) -> None:
    peer.post(1)
    peer.respond(1)
    peer.get(3)
    peer.respond(3, b"queued")
    peer.send(rst_stream(1), rst_stream(3))
    assert peer.received() == [
        Headers(1, OK, True),
        Headers(3, OK, False),
        Data(3, b"queued", True),
    ]
    peer.assert_serves()


def test_many_streams_later_the_last_resets_are_still_known(peer: Peer) -> None:
    for stream_id in range(1, 4001, 2):
        peer.send(peer.headers(stream_id))
        peer.engine.reset_stream(stream_id, ErrorCode.INTERNAL_ERROR)
        peer.received()
    peer.events()
    assert peer.exchange(data(3999, b"x"), data(2101, b"x")) == []
    assert peer.exchange(data(1, b"x")) == [Goaway(3999, ErrorCode.PROTOCOL_ERROR)]


# Calls on streams that are gone.


@pytest.mark.parametrize("how", ["both ended", "reset by the peer", "reset by us", "never opened"])
def test_calls_on_a_finished_stream_do_nothing(peer: Peer, how: str) -> None:
    if how != "never opened":
        peer.get(1)
    if how == "both ended":
        peer.respond(1)
    elif how == "reset by us":
        peer.engine.reset_stream(1, ErrorCode.CANCEL)
    elif how == "reset by the peer":
        peer.send(rst_stream(1))
    peer.received()
    peer.events()
    engine = peer.engine
    engine.send_informational(1, 103, [(b"link", b"</x>")])
    engine.send_headers(1, 200, [(b"a", b"b")], False)
    assert engine.send_data(1, b"late", True) == 0
    engine.send_trailers(1, [(b"a", b"b")])
    engine.acknowledge_received_data(1, 100)
    engine.reset_stream(1, ErrorCode.CANCEL)
    assert peer.received() == []
    assert peer.events() == []
    peer.assert_serves()


def test_calls_out_of_order_on_a_live_stream_do_nothing(peer: Peer) -> None:
    """The application's mistakes are caught above; here they must not break the wire."""
    engine = peer.engine
    peer.get(1)
    assert engine.send_data(1, b"before headers", True) == 0
    engine.send_trailers(1, [(b"before", b"headers")])
    engine.send_headers(1, 200, [], False)
    engine.send_headers(1, 500, [], True)
    engine.send_informational(1, 103, [])
    engine.send_data(1, b"body", True)
    assert engine.send_data(1, b"after the end", True) == 0
    engine.send_trailers(1, [(b"after", b"the end")])
    assert peer.received() == [Headers(1, OK, False), Data(1, b"body", True)]


def test_a_body_is_given_as_it_arrives(peer: Peer) -> None:
    """Field note 19: dispatch on headers, every octet its own, the end at the end."""
    peer.post(1)
    peer.send(data(1, b"first"))
    assert peer.events() == [DataReceived(1, b"first")]
    peer.send(data(1, b""), data(1, b"second", end=True))
    assert peer.events() == [DataReceived(1, b"second"), RequestEnded(1)]
