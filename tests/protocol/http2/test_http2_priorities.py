"""RFC 9218: where priorities come from, and whom they let go first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    GET,
    INITIAL_WINDOW_SIZE,
    MAX_ID,
    NO_RFC7540_PRIORITIES,
    PREFACE,
    PRIORITY_UPDATE,
    SETTINGS_ACK,
    Data,
    EngineFactory,
    Headers,
    Peer,
    Settings,
    frame,
    priority_update,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER
from h2asgi.protocol.events import SendQueueDrained
from h2asgi.protocol.http2.priorities import MAX_EARLY_UPDATES

Connect = Callable[..., Peer]

FRAME = 16_384
BODY = b"x" * (3 * FRAME)


def widen(peer: Peer) -> Peer:
    peer.send(window_update(0, MAX_ID - 65_535))
    return peer


@pytest.fixture
def wide(connect: Connect) -> Peer:
    """A peer whose windows never close."""
    return widen(connect((INITIAL_WINDOW_SIZE, MAX_ID)))


def ask(peer: Peer, **priorities: str | None) -> None:
    """Ask for responses, by ``s`` and the stream id, with that ``priority`` field; all answer."""
    for name, value in priorities.items():
        fields = [] if value is None else [(b"priority", value.encode())]
        peer.get(int(name[1:]), *fields)
    for name in priorities:
        peer.respond(int(name[1:]), BODY)


def order(peer: Peer) -> list[int]:
    """The streams of the DATA frames that go now, waiting for no writer."""
    streams: list[int] = []
    while True:
        streams += [one.stream_id for one in peer.received() if isinstance(one, Data)]
        if not peer.engine.awaits_writer:
            return streams


# What the client says.


def test_the_more_urgent_go_first(wide: Peer) -> None:
    ask(wide, s1="u=5", s3="u=0", s5="u=7", s7="u=3")
    assert order(wide) == [3] * 3 + [7] * 3 + [1] * 3 + [5] * 3


def test_what_is_of_use_as_a_whole_goes_one_after_another(wide: Peer) -> None:
    """Section 10: in ascending order of the stream id, whoever was ready first."""
    for stream_id in (1, 3, 5):
        wide.get(stream_id, (b"priority", b"u=2"))
    for stream_id in (5, 1, 3):
        wide.respond(stream_id, BODY)
    assert order(wide) == [1] * 3 + [3] * 3 + [5] * 3


def test_what_is_used_as_it_arrives_takes_turns(wide: Peer) -> None:
    ask(wide, s1="u=2, i", s3="u=2, i", s5="u=2, i")
    assert order(wide) == [1, 3, 5] * 3


def test_who_comes_back_goes_to_the_end(wide: Peer) -> None:
    for stream_id in (1, 3):
        wide.get(stream_id, (b"priority", b"u=2, i"))
    wide.respond(1, b"x" * 2 * FRAME, end=False)
    wide.respond(3, BODY + BODY)
    wide.received(3 * FRAME)
    wide.engine.send_data(1, BODY, True)
    assert order(wide) == [3, 1, 3, 1, 3, 1, 3, 3]


def test_the_two_kinds_have_every_other_turn(wide: Peer) -> None:
    """Section 10 recommends that neither starves the other."""
    ask(wide, s1="u=2", s3="u=2, i", s5="u=2", s7="u=2, i")
    assert order(wide) == [1, 3, 1, 7, 1, 3, 5, 7, 5, 3, 5, 7]


def test_requests_without_the_field_share_fairly(wide: Peer) -> None:
    """With urgency 3, and so ahead of what is less urgent."""
    ask(wide, s1="u=4", s3=None, s5=None, s7="u=2")
    assert order(wide) == [7] * 3 + [3, 5] * 3 + [1] * 3


def test_a_field_without_parameters_means_the_defaults(wide: Peer) -> None:
    """Section 4: urgency 3 and not incremental; and one that cannot be read means nothing."""
    ask(wide, s1="x", s3="", s5="u=4", s7="u=9")
    assert order(wide) == [1] * 3 + [3] * 3 + [7] * 3 + [5] * 3
    ask(wide, s9="(", s11="u=1,")
    assert order(wide) == [9, 11] * 3


def test_the_lines_of_a_field_are_one(wide: Peer) -> None:
    wide.get(1)
    wide.get(3, (b"priority", b"u=0"), (b"priority", b"i"))
    wide.get(5, (b"priority", b"u=0, i"))
    for stream_id in (1, 3, 5):
        wide.respond(stream_id, BODY)
    assert order(wide) == [3, 5] * 3 + [1] * 3


def test_the_application_sees_the_field(wide: Peer) -> None:
    assert (b"priority", b"u=0, i") in wide.get(1, (b"priority", b"u=0, i")).headers


def test_a_request_seen_before_has_its_priority_too(wide: Peer) -> None:
    """Field sections are remembered once they change nothing any more."""
    for stream_id in (1, 3, 5):
        wide.get(stream_id, (b"priority", b"u=6"))
    wide.get(7)
    for stream_id in (1, 3, 5, 7):
        wide.respond(stream_id, BODY)
    assert order(wide)[:3] == [7] * 3


def test_a_closed_stream_window_lets_the_others_go(connect: Connect) -> None:
    peer = widen(connect((INITIAL_WINDOW_SIZE, FRAME)))
    ask(peer, s1="u=0", s3="u=7")
    assert order(peer) == [1, 3]
    peer.send(window_update(3, FRAME))
    assert order(peer) == [3]
    peer.send(window_update(3, FRAME), window_update(1, FRAME))
    assert order(peer) == [1, 3]


def test_the_connection_window_goes_to_the_most_urgent(connect: Connect) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, MAX_ID))
    peer.get(1)
    peer.respond(1, b"x" * 65_535)
    peer.received()
    ask(peer, s3="u=7", s5="u=0")
    assert order(peer) == []
    for expected in (5, 5, 5, 3):
        peer.send(window_update(0, FRAME))
        assert order(peer) == [expected]


def test_what_only_ends_waits_for_nobody(connect: Connect) -> None:
    """It needs no window: trailers and empty frames of whoever goes last."""
    peer = connect((INITIAL_WINDOW_SIZE, MAX_ID))
    peer.get(1, (b"priority", b"u=0"))
    for stream_id in (3, 5, 7):
        peer.get(stream_id, (b"priority", b"u=7"))
        peer.respond(stream_id, b"x" * 100, end=False)
    peer.respond(1, b"x" * 200_000)
    peer.received()
    peer.engine.send_data(3, b"", True)
    peer.engine.send_trailers(5, [(b"x", b"y")])
    assert peer.received() == [Data(3, b"", True), Headers(5, [(b"x", b"y")], True)]


# PRIORITY_UPDATE.


def test_an_update_changes_who_goes_first(wide: Peer) -> None:
    ask(wide, s1="u=1", s3="u=2", s5=None)
    wide.received(FRAME)
    wide.send(priority_update(5, b"u=0"))
    assert order(wide) == [5] * 3 + [1] * 2 + [3] * 3


def test_an_update_says_all_anew(wide: Peer) -> None:
    """Section 7: what it omits has its default value."""
    ask(wide, s1="u=1, i", s3="u=1, i")
    wide.send(priority_update(1, b"u=1"), priority_update(3, b"u=1"))
    assert order(wide) == [1] * 3 + [3] * 3
    ask(wide, s5="u=1", s7="u=2")
    wide.send(priority_update(5, b""))
    assert order(wide) == [7] * 3 + [5] * 3


def test_an_update_that_cannot_be_parsed_is_ignored(wide: Peer) -> None:
    ask(wide, s1="u=1", s3="u=2")
    wide.send(priority_update(3, b"u=0,"))
    assert order(wide) == [1] * 3 + [3] * 3


def test_an_update_may_come_ahead_of_its_request(wide: Peer) -> None:
    """Section 7: the last one counts, and more than the request's own field."""
    wide.send(priority_update(3, b"u=7"), priority_update(3, b"u=1"), priority_update(7, b"u=0"))
    ask(wide, s1="u=2", s3="u=5", s5="u=3", s7=None)
    assert order(wide) == [7] * 3 + [3] * 3 + [1] * 3 + [5] * 3


def test_updates_for_streams_that_are_gone_are_ignored(wide: Peer) -> None:
    wide.get(1)
    wide.send(rst_stream(1))
    wide.events()
    wide.get(9)
    wide.respond(9)
    wide.received()
    assert wide.exchange(*[priority_update(one, b"u=0") for one in (1, 5, 9)]) == []
    wide.assert_serves()


def test_updates_for_streams_that_were_skipped_are_forgotten(connect: Connect) -> None:
    peer = connect(max_concurrent_streams=3)
    peer.send(priority_update(1, b"u=0"), priority_update(3, b"u=0"))
    peer.get(5)
    peer.send(priority_update(7, b"u=0"), priority_update(9, b"u=0"))
    peer.assert_serves(7)


FORBIDDEN = {
    "on a stream": (ErrorCode.PROTOCOL_ERROR, priority_update(1, b"u=0", on=1)),
    "for stream 0": (ErrorCode.PROTOCOL_ERROR, priority_update(0, b"u=0")),
    "for a push stream": (ErrorCode.PROTOCOL_ERROR, priority_update(2, b"u=0")),
    "empty": (ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY_UPDATE, 0, 0)),
    "too short": (ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY_UPDATE, 0, 0, b"\0\0\1")),
}


@pytest.mark.parametrize(("error", "octets"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_wrong_update_is_a_connection_error(peer: Peer, error: ErrorCode, octets: bytes) -> None:
    peer.assert_connection_error(error, octets)


def test_the_reserved_bit_of_an_update_is_ignored(wide: Peer) -> None:
    ask(wide, s1="u=1", s3="u=2")
    wide.send(priority_update(2**31 | 3, b"u=0"))
    assert order(wide) == [3] * 3 + [1] * 3


def test_no_more_streams_are_prioritised_than_may_be_open(connect: Connect) -> None:
    """Section 7.1: those that are open count too."""
    peer = connect(max_concurrent_streams=3)
    peer.get(1)
    early = [priority_update(stream_id, b"u=0") for stream_id in (3, 5, 5, 3)]
    assert peer.exchange(*early) == []
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, priority_update(7, b"u=0"))


def test_streams_that_were_refused_are_idle_no_longer(connect: Connect) -> None:
    peer = connect(max_concurrent_streams=3)
    for stream_id in range(1, 21, 2):
        peer.send(priority_update(stream_id, b"u=0"))
        peer.send(peer.headers(stream_id, [(b"no", b"pseudo-header")]))
    assert not peer.engine.ended


def test_a_client_that_does_not_know_the_limit_yet_may_say_more(
    engine_factory: EngineFactory,
) -> None:
    """RFC 9113 section 6.5.3: it counts from the acknowledgement of our SETTINGS."""
    peer = Peer(engine_factory(max_concurrent_streams=3))
    peer.send(PREFACE, settings())
    for stream_id in range(1, 21, 2):
        peer.send(priority_update(stream_id, b"u=0"))
    assert not peer.engine.ended
    peer.received()
    peer.assert_connection_error(
        ErrorCode.PROTOCOL_ERROR, SETTINGS_ACK, priority_update(21, b"u=0")
    )


def test_no_more_updates_are_remembered_than_is_reasonable(connect: Connect) -> None:
    """Whatever the operator lets a client open; what is beyond is as if it had not been said."""
    peer = widen(connect((INITIAL_WINDOW_SIZE, MAX_ID), max_concurrent_streams=2**31 - 1))
    ids = range(1, 2 * MAX_EARLY_UPDATES + 9, 2)
    assert peer.exchange(*[priority_update(stream_id, b"u=0") for stream_id in ids]) == []
    peer.get(1)
    peer.send(priority_update(9_999, b"u=0"))  # there is room again, for one
    peer.send(priority_update(9_997, b"u=0"))
    for stream_id in (9_995, 9_997, 9_999):
        peer.get(stream_id)
        peer.respond(stream_id, BODY)
    assert order(peer) == [9_999] * 3 + [9_995, 9_997] * 3


# What the response says.


def respond(peer: Peer, stream_id: int, priority: str) -> None:
    peer.engine.send_headers(stream_id, 200, [(b"priority", priority.encode())], False)
    peer.engine.send_data(stream_id, BODY, True)


def test_the_response_knows_better(wide: Peer) -> None:
    """Section 8; what it does not say stays as the client has it."""
    for stream_id in (1, 3, 5):
        wide.get(stream_id, (b"priority", b"u=5, i"))
    wide.respond(1, BODY)
    respond(wide, 3, "u=1")
    respond(wide, 5, "u=1")
    frames = wide.received()
    assert Headers(3, [(b":status", b"200"), (b"priority", b"u=1")], False) in frames
    assert [one.stream_id for one in frames if isinstance(one, Data)] == [3, 5] * 3 + [1] * 3


def test_an_update_does_not_undo_what_the_response_says(wide: Peer) -> None:
    for stream_id in (1, 3, 5):
        wide.get(stream_id, (b"priority", b"u=5"))
    for stream_id in (1, 3, 5):
        respond(wide, stream_id, "u=1")
    wide.send(*[priority_update(stream_id, b"u=7, i") for stream_id in (1, 3, 5)])
    assert order(wide) == [1, 3, 5] * 3


def test_a_response_that_cannot_be_parsed_says_nothing(wide: Peer) -> None:
    ask(wide, s1="u=2")
    wide.get(3, (b"priority", b"u=1"))
    respond(wide, 3, "u=7,")
    assert order(wide) == [3] * 3 + [1] * 3


# A writer that comes first is given the time to go on.


def test_the_less_urgent_wait_a_turn_for_a_writer_that_ran_dry(wide: Peer) -> None:
    wide.get(1, (b"priority", b"u=0"))
    wide.respond(1, b"x" * (SEND_HIGH_WATER + 1), end=False)
    ask(wide, s3="u=5")
    wide.received()
    assert wide.engine.awaits_writer
    assert wide.events() == [SendQueueDrained(1)]
    wide.engine.send_data(1, b"x" * FRAME, False)
    assert ids(wide) == [1]
    assert wide.engine.awaits_writer
    assert ids(wide) == [3] * 3, "it had its time"
    assert not wide.engine.awaits_writer


def ids(peer: Peer) -> list[int]:
    return [one.stream_id for one in peer.received() if isinstance(one, Data)]


def test_also_when_the_limit_is_reached_just_then(wide: Peer) -> None:
    wide.get(1, (b"priority", b"u=0"))
    wide.respond(1, b"x" * 2 * FRAME, end=False)
    ask(wide, s3="u=5")
    wide.received(2 * FRAME)
    assert wide.engine.awaits_writer


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ("u=2", "u=2", True),
        ("u=2, i", "u=2, i", False),
        ("u=2", "u=2, i", False),
        ("u=2, i", "u=2", False),
        ("u=2, i", "u=3, i", True),
        (None, None, False),
        (None, "u=5", True),
    ],
)
def test_who_waits_for_a_writer(
    wide: Peer, first: str | None, second: str | None, waits: bool
) -> None:
    """Who would not have gone before it anyway."""
    for stream_id, value in ((1, first), (3, second)):
        wide.get(stream_id, *([(b"priority", value.encode())] if value else []))
        wide.respond(stream_id, b"x" * 2 * FRAME * stream_id, end=False)
    wide.received()
    assert wide.engine.awaits_writer is waits


def test_nobody_waits_for_a_response_that_has_ended(wide: Peer) -> None:
    ask(wide, s1="u=0", s3="u=5")
    assert ids(wide) == [1] * 3 + [3] * 3
    assert not wide.engine.awaits_writer


def test_nobody_waits_for_a_writer_whose_window_is_closed(connect: Connect) -> None:
    peer = widen(connect((INITIAL_WINDOW_SIZE, 2 * FRAME)))
    peer.get(1, (b"priority", b"u=0"))
    peer.respond(1, b"x" * 2 * FRAME, end=False)
    ask(peer, s3="u=5")
    assert ids(peer) == [1, 1, 3, 3]
    assert not peer.engine.awaits_writer


# What a peer can make wait.


def test_streams_that_are_reset_leave_the_queue(connect: Connect) -> None:
    """With the connection window closed nobody else would take them out."""
    peer = connect((INITIAL_WINDOW_SIZE, MAX_ID))
    ask(peer, s1="u=0", s3="u=0")
    peer.received()
    for stream_id in range(5, 205, 2):
        peer.send(peer.headers(stream_id, GET, (b"priority", b"u=%d, i" % (stream_id % 8))))
        peer.respond(stream_id, BODY)
        peer.send(rst_stream(stream_id))
        peer.events()
    peer.received()
    assert peer.engine._sender._queue.size == 1  # type: ignore[attr-defined]
    peer.send(window_update(0, 10 * FRAME))
    assert set(order(peer)) == {3}


# Priorities off.


def test_without_priorities_nothing_is_promised_and_all_share_fairly(
    engine_factory: EngineFactory,
) -> None:
    peer = Peer(engine_factory(priorities=False))
    first = peer.exchange(PREFACE, settings((INITIAL_WINDOW_SIZE, MAX_ID)))[0]
    assert isinstance(first, Settings)
    assert NO_RFC7540_PRIORITIES not in first.values
    widen(peer)
    peer.send(priority_update(3, b"u=0"))
    ask(peer, s1="u=5", s3="u=0")
    peer.get(5, (b"priority", b"u=7"))
    respond(peer, 5, "u=0")
    peer.send(priority_update(3, b"u=0"))
    assert order(peer) == [1, 3, 5] * 3


def test_without_priorities_their_frame_is_unknown(engine_factory: EngineFactory) -> None:
    """RFC 9113 section 5.5: whatever is wrong with it."""
    peer = Peer(engine_factory(priorities=False)).connect()
    assert peer.exchange(*[octets for _, octets in FORBIDDEN.values()]) == []
    peer.assert_serves()
