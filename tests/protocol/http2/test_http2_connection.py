"""RFC 9113 sections 3, 4, 5.4.1, 5.5, 6.7, 6.8 and 7: the connection, its beginning and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GET,
    GOAWAY,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_ID,
    NO_RFC7540_PRIORITIES,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Data,
    EngineFactory,
    Goaway,
    Headers,
    Peer,
    Ping,
    RstStream,
    Settings,
    SettingsAck,
    WindowUpdate,
    data,
    frame,
    goaway,
    ping,
    priority,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.config import Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    PingAcknowledged,
    RequestEnded,
    RequestReceived,
    StreamReset,
)

Connect = Callable[..., Peer]
SHUTDOWN_PING = b"h2asgi\x00\x01"

# Section 3.4: the preface.


def test_server_preface_is_settings_first_and_then_the_larger_connection_window(
    engine_factory: EngineFactory,
) -> None:
    """Sections 3.4, 6.5.2, 6.9.2: SETTINGS come first, and cannot raise the connection window."""
    first, second = Peer(engine_factory()).received()
    assert first == Settings({3: 128, 4: 262_144, 5: 16_384, 6: 65_536, 9: 1})
    assert second == WindowUpdate(0, 1_048_576 - 65_535)


def test_settings_say_what_is_configured(engine_factory: EngineFactory) -> None:
    engine = engine_factory(
        max_concurrent_streams=7,
        stream_window=100_000,
        connection_window=65_535,
        max_frame_size=20_000,
        max_header_list_size=2_048,
    )
    first, *rest = Peer(engine).received()
    expected = {MAX_CONCURRENT_STREAMS: 7, 4: 100_000, MAX_FRAME_SIZE: 20_000}
    assert first == Settings({**expected, MAX_HEADER_LIST_SIZE: 2_048, NO_RFC7540_PRIORITIES: 1})
    # What is open beyond the unread is a stream window and a half, never less.
    assert rest == [WindowUpdate(0, 150_000 - 65_535)]


def test_client_settings_are_acknowledged_after_the_server_preface(
    engine_factory: EngineFactory,
) -> None:
    peer = Peer(engine_factory())
    answer = peer.exchange(PREFACE, settings())
    assert [type(one) for one in answer] == [Settings, WindowUpdate, SettingsAck]


def test_a_request_may_follow_the_preface_at_once(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory())
    peer.send(PREFACE, settings(), peer.headers(1))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)


@pytest.mark.parametrize(
    "opening",
    [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"\r", b"\x16\x03\x01\x02\x00\x01", PREFACE.lower()],
    ids=["http/1.1", "last octet", "tls", "lower case"],
)
def test_an_invalid_preface_is_a_connection_error(
    engine_factory: EngineFactory, opening: bytes
) -> None:
    Peer(engine_factory()).assert_connection_error(ErrorCode.PROTOCOL_ERROR, opening)


@pytest.mark.parametrize("kind", [HEADERS, PING, WINDOW_UPDATE, 0xEE], ids=str)
def test_the_first_frame_must_be_settings(engine_factory: EngineFactory, kind: int) -> None:
    peer = Peer(engine_factory())
    first = {
        HEADERS: peer.headers(1),
        PING: ping(),
        WINDOW_UPDATE: window_update(0, 1),
    }.get(kind, frame(kind, 0, 0))
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, PREFACE, first)


def test_a_peer_without_preface_is_given_up(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory(Timeouts(first_bytes=4.0)))
    peer.received()
    assert peer.engine.next_deadline() == 4.0
    peer.send(PREFACE[:10])
    peer.engine.handle_deadline(3.9)
    assert peer.received() == []
    peer.engine.handle_deadline(4.0)
    assert peer.received() == [Goaway(0, ErrorCode.SETTINGS_TIMEOUT)]
    (end,) = peer.events()
    assert isinstance(end, ConnectionTerminated)


def test_a_drain_does_not_wait_for_a_preface(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory(Timeouts(first_bytes=10.0)))
    peer.received()
    peer.engine.begin_shutdown(1.0)
    assert peer.engine.next_deadline() == 1.5
    peer.engine.handle_deadline(1.5)
    assert isinstance(peer.events()[-1], ConnectionTerminated)


# Section 4.1: frames.


def test_unknown_frame_types_are_discarded(peer: Peer) -> None:
    """Sections 4.1 and 5.5; on a stream, on the connection, and on an idle stream."""
    assert peer.exchange(frame(0xEE, 0xFF, 0, b"x"), frame(0x11, 0, 1, b"x" * 100)) == []
    peer.assert_serves()


def test_undefined_flags_are_ignored(peer: Peer) -> None:
    undefined = 0xFF & ~(0x1 | END_HEADERS | PADDED | WITH_PRIORITY)
    peer.send(frame(HEADERS, undefined | END_HEADERS, 1, peer.block(POST)))
    assert isinstance(peer.events()[0], RequestReceived)
    assert peer.exchange(frame(PING, 0xFE, 0, b"12345678")) == [Ping(b"12345678", True)]
    assert peer.exchange(frame(WINDOW_UPDATE, 0xFF, 1, b"\0\0\0\1")) == []
    assert peer.exchange(frame(SETTINGS, 0xFE, 0)) == [SettingsAck()]
    peer.send(frame(DATA, 0xF6, 1, b"body"))
    assert peer.events() == [DataReceived(1, b"body")]
    assert peer.exchange(frame(RST_STREAM, 0xFF, 1, b"\0\0\0\1")) == []
    peer.assert_serves()


def test_the_reserved_bit_is_ignored(peer: Peer) -> None:
    """Sections 4.1, 6.8 and 6.9 each have one; that it is sent unset, ``FrameLog`` checks."""
    peer.send(frame(HEADERS, END_HEADERS, 0x80000001, peer.block(POST)))
    peer.send(frame(DATA, 0, 0x80000001, b"body"))
    assert peer.events()[1:] == [DataReceived(1, b"body")]
    assert peer.exchange(frame(WINDOW_UPDATE, 0, 1, b"\x80\0\0\1")) == []
    peer.assert_serves()


# Section 4.2: sizes.


def test_a_frame_of_the_largest_size_is_taken(peer: Peer) -> None:
    peer.post(1)
    peer.send(data(1, b"x" * 16_384))
    assert peer.events() == [DataReceived(1, b"x" * 16_384)]


def test_a_larger_frame_size_can_be_offered(connect: Connect) -> None:
    peer = connect(max_frame_size=100_000)
    peer.post(1)
    peer.send(data(1, b"x" * 100_000))
    assert peer.events() == [DataReceived(1, b"x" * 100_000)]


@pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, 0xEE], ids=str)
def test_a_frame_beyond_the_largest_size_is_a_connection_error(peer: Peer, kind: int) -> None:
    stream_id = 0 if kind == SETTINGS else 1
    header = frame(kind, 0, stream_id, b"x" * 16_385)[:9]
    peer.assert_connection_error(ErrorCode.FRAME_SIZE_ERROR, header)


WRONG_SIZES = {
    "RST_STREAM of 3 (6.4)": frame(RST_STREAM, 0, 1, b"123"),
    "RST_STREAM of 5 (6.4)": frame(RST_STREAM, 0, 1, b"12345"),
    "SETTINGS of 5 (6.5)": frame(SETTINGS, 0, 0, b"12345"),
    "SETTINGS of 7 (6.5)": frame(SETTINGS, 0, 0, b"1234567"),
    "SETTINGS acknowledgement of 6 (6.5)": frame(SETTINGS, ACK, 0, b"\0\1\0\0\0\0"),
    "PING of 7 (6.7)": frame(PING, 0, 0, b"1234567"),
    "PING of 9 (6.7)": frame(PING, 0, 0, b"123456789"),
    "GOAWAY of 7 (6.8)": frame(GOAWAY, 0, 0, b"1234567"),
    "WINDOW_UPDATE of 3 (6.9)": frame(WINDOW_UPDATE, 0, 0, b"123"),
    "WINDOW_UPDATE of 5 (6.9)": frame(WINDOW_UPDATE, 0, 1, b"12345"),
    "DATA too short for its padding (6.1)": frame(DATA, PADDED, 1),
    "HEADERS too short for its padding (6.2)": frame(HEADERS, PADDED | END_HEADERS, 1),
    "HEADERS too short for its priority (6.2)": frame(HEADERS, 0x24, 1, b"1234"),
}


@pytest.mark.parametrize("wrong", WRONG_SIZES.values(), ids=WRONG_SIZES)
def test_a_wrong_size_that_touches_the_connection_is_a_connection_error(
    peer: Peer, wrong: bytes
) -> None:
    peer.assert_connection_error(ErrorCode.FRAME_SIZE_ERROR, wrong)


def test_a_priority_frame_of_wrong_size_is_a_stream_error(peer: Peer) -> None:
    """Section 6.3."""
    peer.post(1)
    peer.post(3)
    peer.assert_stream_error(ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY, 0, 3, b"1234"))


# Section 6: which frames belong on a stream and which on the connection.

WRONG_PLACES = {
    "DATA on 0 (6.1)": data(0, b"x"),
    "HEADERS on 0 (6.2)": frame(HEADERS, END_HEADERS, 0, b"\x82"),
    "PRIORITY on 0 (6.3)": priority(0),
    "RST_STREAM on 0 (6.4)": rst_stream(0),
    "SETTINGS on a stream (6.5)": frame(SETTINGS, 0, 1),
    "PING on a stream (6.7)": frame(PING, 0, 1, b"12345678"),
    "GOAWAY on a stream (6.8)": frame(GOAWAY, 0, 1, b"12345678"),
    "CONTINUATION on 0 (6.10)": frame(CONTINUATION, END_HEADERS, 0, b"\x82"),
    "PUSH_PROMISE from a client (8.4)": frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82"),
    "CONTINUATION without HEADERS (6.10)": frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
}


@pytest.mark.parametrize("wrong", WRONG_PLACES.values(), ids=WRONG_PLACES)
def test_a_frame_in_the_wrong_place_is_a_connection_error(peer: Peer, wrong: bytes) -> None:
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, wrong)


# Section 5.5 and 7: what is not known.


def test_unknown_error_codes_mean_nothing_special(peer: Peer) -> None:
    """Section 7."""
    peer.post(1)
    peer.send(rst_stream(1, 0xFFFFFFFF))
    assert peer.events() == [StreamReset(1, 0xFFFFFFFF, "reset by the peer", True)]
    peer.assert_serves()


@pytest.mark.parametrize("kind", [0xEE, PING, DATA, HEADERS, WINDOW_UPDATE], ids=str)
def test_no_frame_comes_inside_a_field_block(peer: Peer, kind: int) -> None:
    """Sections 4.3, 5.5 and 6.10; frames of unknown types included."""
    begun = frame(HEADERS, 0, 1, peer.block(GET))
    inside = {
        PING: ping(),
        DATA: data(1),
        HEADERS: frame(HEADERS, END_HEADERS, 1, b"\x82"),
        WINDOW_UPDATE: window_update(0, 1),
    }
    peer.assert_connection_error(
        ErrorCode.PROTOCOL_ERROR, begun, inside.get(kind, frame(kind, 0, 0))
    )


# Section 6.7: PING.


def test_ping_is_answered_with_its_payload(peer: Peer) -> None:
    assert peer.exchange(ping(b"\0\1\2\3\4\5\6\7")) == [Ping(b"\0\1\2\3\4\5\6\7", True)]


def test_a_ping_acknowledgement_is_not_answered(peer: Peer) -> None:
    assert peer.exchange(ping(b"unasked!", ack=True)) == []
    assert peer.events() == [PingAcknowledged(b"unasked!")]


def test_ping_round_trip(peer: Peer) -> None:
    peer.engine.ping(b"question")
    assert peer.received() == [Ping(b"question", False)]
    peer.send(ping(b"question", ack=True))
    assert peer.events() == [PingAcknowledged(b"question")]


def test_ping_is_answered_ahead_of_queued_data(peer: Peer) -> None:
    """Section 6.7 asks for a higher priority than any other frame's."""
    peer.get(1)
    peer.respond(1, b"x" * 100_000)
    peer.send(ping())
    assert peer.received()[:2] == [
        Headers(1, [(b":status", b"200")], False),
        Ping(b"12345678", True),
    ]


@pytest.mark.parametrize(
    "flood", [ping(), settings(), settings((6, 1)), ping() + settings()], ids=str
)
def test_answers_that_are_not_read_end_the_connection(peer: Peer, flood: bytes) -> None:
    """CVE-2019-9512 and -9515: the answers wait in our memory."""
    while not peer.events():
        peer.send(flood * 100)
        assert peer.now < 100, "the flood is not noticed"
        peer.now += 1
    answer = peer.received()
    assert answer[-1] == Goaway(0, ErrorCode.ENHANCE_YOUR_CALM)
    assert len(answer) <= 1002
    assert peer.log.octets < 70_000


def test_resets_that_a_peer_provokes_count_as_answers(peer: Peer) -> None:
    """CVE-2019-9514."""
    for stream_id in range(1, 2200, 2):
        peer.send(peer.headers(stream_id, [(b"no", b"pseudo-header")]))
    assert peer.received()[-1] == Goaway(2001, ErrorCode.ENHANCE_YOUR_CALM)


def test_answers_that_are_read_may_go_on_for_ever(peer: Peer) -> None:
    for _ in range(30):
        assert len(peer.exchange(ping() * 100)) == 100


def test_ends_of_requests_that_bring_no_answer_are_no_answers(connect: Callable[..., Peer]) -> None:
    """Nothing waits of a response that was read, when the rest of its request comes behind it."""
    peer = connect(max_concurrent_streams=2000)
    for stream_id in range(1, 2400, 2):
        peer.post(stream_id)
        peer.respond(stream_id, b"ok")
    peer.received()
    for stream_id in range(1, 2400, 2):
        assert peer.exchange(data(stream_id, b"x", end=True)) == []
    peer.events()
    peer.get(2401)
    assert peer.exchange(ping()) == [Ping(b"12345678", True)]


def test_a_head_earns_nothing_where_its_stream_is_reset_behind_it(peer: Peer) -> None:
    """Or resets would pay for the control frames of a flood."""
    budgets = peer.engine._budgets
    assert 0 < budgets.earned < 20
    for stream_id in range(1, 41, 2):
        peer.post(stream_id)
        peer.engine.send_headers(stream_id, 200, [], False)
        assert len(peer.received()) == 1
        assert peer.exchange(rst_stream(stream_id)) == []
        peer.events()
    assert budgets.earned <= 0


# Section 6.8: GOAWAY, and how a connection ends.


def test_two_stage_shutdown(peer: Peer) -> None:
    """Field note 24: 2^31-1 first, the true last stream after a round trip, then the end."""
    peer.post(1)
    peer.engine.begin_shutdown(0.0)
    assert peer.received() == [Goaway(MAX_ID, ErrorCode.NO_ERROR), Ping(SHUTDOWN_PING, False)]
    peer.get(3)  # it was on its way
    assert peer.exchange(ping(SHUTDOWN_PING, ack=True)) == [Goaway(3, ErrorCode.NO_ERROR)]
    assert peer.exchange(peer.headers(5)) == [RstStream(5, ErrorCode.REFUSED_STREAM)]
    peer.respond(3)
    peer.send(data(1, b"rest", end=True))
    assert peer.events() == [DataReceived(1, b"rest"), RequestEnded(1)]
    peer.respond(1, b"answer")
    assert [type(one) for one in peer.received()] == [Headers, Headers, Data]
    assert peer.events() == [ConnectionTerminated(0, "all streams are finished", True)]


def test_shutdown_goes_on_without_an_answer_to_the_ping(peer: Peer) -> None:
    peer.get(1)
    peer.engine.begin_shutdown(100.0)
    peer.received()
    assert peer.engine.next_deadline() == 101.0
    peer.engine.handle_deadline(100.9)
    assert peer.received() == []
    peer.engine.handle_deadline(101.0)
    assert peer.received() == [Goaway(1, ErrorCode.NO_ERROR)]
    assert peer.events() == []
    assert peer.engine.next_deadline() is None


def test_an_idle_connection_shuts_down_within_half_a_second(peer: Peer) -> None:
    peer.engine.begin_shutdown(100.0)
    peer.engine.handle_deadline(100.5)
    assert peer.received()[-1] == Goaway(0, ErrorCode.NO_ERROR)
    assert peer.events() == [ConnectionTerminated(0, "all streams are finished", True)]


def test_shutdown_is_begun_once(peer: Peer) -> None:
    peer.post(1)
    peer.engine.begin_shutdown(0.0)
    peer.engine.begin_shutdown(0.5)
    assert peer.engine.next_deadline() == 1.0
    assert peer.received() == [Goaway(MAX_ID, 0), Ping(SHUTDOWN_PING, False)]


def test_the_last_stream_id_never_rises(peer: Peer) -> None:
    """Section 6.8."""
    peer.post(1)
    peer.engine.begin_shutdown(0.0)
    peer.exchange(ping(SHUTDOWN_PING, ack=True))
    peer.exchange(peer.headers(5))
    peer.engine.terminate(ErrorCode.CANCEL, "time is up")
    assert peer.received() == [Goaway(1, ErrorCode.CANCEL)]


def test_refused_streams_after_goaway_keep_compression_and_windows_right(peer: Peer) -> None:
    """Section 6.8: frames on ignored streams still count for the connection."""
    peer.post(1)
    peer.engine.begin_shutdown(0.0)
    peer.exchange(ping(SHUTDOWN_PING, ack=True))
    peer.send(peer.headers(3, POST, (b"x-new", b"enters the table"), end=False))
    for _ in range(40):
        peer.exchange(data(3, b"x" * 16_000))
    peer.events()
    trailers = frame(HEADERS, 0x5, 1, peer.block([(b"x-new", b"enters the table")]))
    peer.send(data(1, b"y" * 16_000), trailers)
    assert peer.events() == [
        DataReceived(1, b"y" * 16_000),
        RequestEnded(1, [(b"x-new", b"enters the table")]),
    ]


def test_streams_finish_after_the_peers_goaway(peer: Peer) -> None:
    """Section 6.8: what is in flight is not lost."""
    peer.get(1)
    peer.post(3)
    assert peer.exchange(goaway()) == []
    assert peer.events() == []
    peer.respond(1, b"x" * 30_000)
    peer.send(data(3, b"late", end=True))
    assert peer.events() == [DataReceived(3, b"late"), RequestEnded(3)]
    peer.respond(3)
    answer = peer.received()
    assert Data(1, b"x" * (30_000 - 16_384), True) in answer
    assert answer[-1] == Goaway(3, ErrorCode.NO_ERROR)
    (end,) = peer.events()
    assert isinstance(end, ConnectionTerminated)
    assert end.error_code == ErrorCode.NO_ERROR


def test_an_idle_connection_ends_at_the_peers_goaway(peer: Peer) -> None:
    assert peer.exchange(goaway(0, ErrorCode.NO_ERROR, b"bye")) == [Goaway(0, ErrorCode.NO_ERROR)]
    (end,) = peer.events()
    assert isinstance(end, ConnectionTerminated)


def test_a_connection_error_names_the_last_stream(peer: Peer) -> None:
    """Section 5.4.1."""
    peer.get(1)
    peer.get(7)
    assert peer.exchange(data(0)) == [Goaway(7, ErrorCode.PROTOCOL_ERROR)]


def test_terminate_says_goaway_and_ends(peer: Peer) -> None:
    peer.post(1)
    peer.engine.terminate(ErrorCode.ENHANCE_YOUR_CALM, "too much")
    assert peer.received() == [Goaway(1, ErrorCode.ENHANCE_YOUR_CALM)]
    assert peer.events() == [ConnectionTerminated(ErrorCode.ENHANCE_YOUR_CALM, "too much", True)]
    peer.engine.terminate(ErrorCode.NO_ERROR, "again")
    peer.engine.begin_shutdown(1.0)
    peer.engine.ping(b"12345678")
    peer.respond(1, b"late")
    assert peer.received() == []
    assert peer.events() == []


def test_the_end_of_input_ends_every_stream(peer: Peer) -> None:
    peer.post(1)
    peer.get(3)
    peer.engine.receive_eof(1.0)
    *resets, end = peer.events()
    assert [type(event) for event in resets] == [StreamReset, StreamReset]
    assert end == ConnectionTerminated(0, "closed by the peer", False)


# Deadlines.


def test_an_idle_connection_is_drained(engine_factory: EngineFactory) -> None:
    """Field note 6: idle connections end by graceful GOAWAY, after a long time."""
    peer = Peer(engine_factory(Timeouts(http2_idle=300.0)))
    peer.now = 5.0
    peer.connect()
    assert peer.engine.next_deadline() == 300.0
    peer.now = 200.0
    peer.get(1)
    assert peer.engine.next_deadline() is None
    peer.now = 290.0
    peer.exchange(rst_stream(1))
    peer.events()
    assert peer.engine.next_deadline() == 590.0
    peer.engine.handle_deadline(590.0)
    assert peer.received()[0] == Goaway(MAX_ID, ErrorCode.NO_ERROR)
    peer.now = 590.1
    assert peer.exchange(ping(SHUTDOWN_PING, ack=True)) == [Goaway(1, ErrorCode.NO_ERROR)]
    (end,) = peer.events()
    assert isinstance(end, ConnectionTerminated)


@pytest.mark.parametrize("how", ["answer without body", "answer", "reset"])
def test_idle_time_begins_with_the_end_of_a_long_answer(peer: Peer, how: str) -> None:
    peer.get(1)
    peer.now = 1_000.0
    if how == "reset":
        peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
    else:
        peer.respond(1, None if how == "answer without body" else b"x")
    peer.received()
    assert peer.engine.next_deadline() == 1_300.0


def test_a_slow_field_block_ends_the_connection(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory(Timeouts(request_headers=30.0))).connect()
    peer.now = 10.0
    peer.send(frame(HEADERS, 0, 1, peer.block(GET)))
    peer.now = 35.0
    peer.send(frame(CONTINUATION, 0, 1, b""))
    assert peer.engine.next_deadline() == 40.0
    peer.engine.handle_deadline(40.0)
    assert peer.received()[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM  # type: ignore[union-attr]
    assert isinstance(peer.events()[-1], ConnectionTerminated)


def test_an_early_call_of_handle_deadline_does_nothing(peer: Peer) -> None:
    peer.engine.handle_deadline(1.0)
    assert peer.received() == []
    assert peer.events() == []


def test_reading_is_never_suspended(peer: Peer) -> None:
    """Resets and window updates must be seen while answers wait."""
    peer.post(1)
    peer.respond(1, b"x" * 10_000_000, end=False)
    peer.send(*[data(1, b"y" * 16_384)] * 16)
    assert not peer.engine.reading_suspended


def test_settings_acknowledgement_is_not_answered(peer: Peer) -> None:
    assert peer.exchange(SETTINGS_ACK) == []
