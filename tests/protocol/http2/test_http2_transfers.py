"""Bodies that do not come, responses that are not taken, peers that say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    INITIAL_WINDOW_SIZE,
    WEBSOCKET,
    Data,
    EngineFactory,
    Goaway,
    Peer,
    Ping,
    RstStream,
    data,
    ping,
    settings,
    window_update,
)

from h2asgi.config import KIB, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER
from h2asgi.protocol.events import (
    ConnectionTerminated,
    Event,
    RequestTimedOut,
    StreamReset,
)
from h2asgi.protocol.http2.discards import DISCARD_TIMEOUT
from h2asgi.protocol.http2.keep_alive import KEEP_ALIVE_PING

STALLED = "nothing moved for too long"
TOO_SLOW = "slower than the minimum transfer rate"


def looks(peer: Peer, times: int) -> list[Event]:
    """Let time pass in the steps in which the engine wants it to."""
    events: list[Event] = []
    for _ in range(times):
        deadline = peer.engine.next_deadline()
        if deadline is None:
            break
        peer.now = deadline
        peer.engine.handle_deadline(deadline)
        events += peer.events()
    return events


# Bodies.


def test_a_body_that_stops_is_answered_with_408_and_its_sibling_lives(peer: Peer) -> None:
    peer.post(1)
    peer.post(3)
    peer.send(data(1, b"hello"))
    peer.events()
    for _ in range(4):
        peer.send(data(3, bytes(2000)))
        peer.events()
        assert looks(peer, 1) == []
    peer.send(data(3, bytes(2000)))
    peer.events()
    assert looks(peer, 1) == [RequestTimedOut(1, f"request body: {STALLED}")]
    assert peer.now == 75.0
    peer.respond(1, b"too slow")
    assert peer.received()[-1] == Data(1, b"too slow", True)
    assert peer.wait(DISCARD_TIMEOUT) == [RstStream(1, ErrorCode.NO_ERROR)]  # RFC 9113 section 8.1
    peer.send(data(3, b"", end=True))
    peer.events()
    peer.respond(3)
    peer.received()
    peer.assert_serves()


@pytest.mark.parametrize("empty", [{}, {"padding": 100}])
def test_frames_without_content_are_no_body(peer: Peer, empty: dict[str, int]) -> None:
    peer.post(1)
    events = []
    for _ in range(5):
        peer.send(data(1, b"", **empty))
        events += looks(peer, 1)
    assert events == [RequestTimedOut(1, f"request body: {STALLED}")]


def test_every_octet_starts_the_time_anew(peer: Peer) -> None:
    peer.post(1)
    for _ in range(20):
        assert looks(peer, 4) == []
        peer.send(data(1, b"x"))
        peer.events()


def test_a_declared_body_that_dribbles_is_too_slow(peer: Peer) -> None:
    peer.post(1, (b"content-length", b"1000"))
    events: list[Event] = []
    while not events:
        peer.send(data(1, b"x"))
        peer.events()
        events = looks(peer, 1)
        assert peer.now < 100
    assert events == [RequestTimedOut(1, f"request body: {TOO_SLOW}")]


@pytest.mark.parametrize("closed", ["stream", "connection"])
def test_no_time_runs_while_the_client_has_no_window(
    connect: Callable[..., Peer], closed: str
) -> None:
    """It is the application that does not read."""
    sizes = {"stream_window": 64 * KIB, "connection_window": 128 * KIB}
    peer = connect(**sizes, max_connection_window=128 * KIB)
    streams = (1,) if closed == "stream" else (1, 3)
    for stream_id in (1, 3, 5):
        peer.post(stream_id)
    for stream_id in streams:
        for _ in range(4):
            peer.send(data(stream_id, bytes(16 * KIB)))
    peer.received()
    peer.events()
    late = {event.stream_id for event in looks(peer, 20) if isinstance(event, RequestTimedOut)}
    # With the connection's window closed, even streams that have sent nothing are not late.
    assert late == ({3, 5} if closed == "stream" else set())
    peer.engine.acknowledge_received_data(1, 64 * KIB)
    peer.received()
    late_now = RequestTimedOut(1, f"request body: {STALLED}")
    assert late_now not in looks(peer, 4)
    assert late_now in looks(peer, 1)


def test_no_time_runs_while_the_client_waits_for_100(peer: Peer) -> None:
    peer.post(1, (b"expect", b"100-continue"))
    assert looks(peer, 20) == []
    peer.engine.send_informational(1, 100, [])
    assert looks(peer, 4) == []
    assert len(looks(peer, 1)) == 1


def test_a_client_that_began_without_waiting_for_100_is_to_go_on(peer: Peer) -> None:
    peer.post(1, (b"expect", b"100-continue"))
    peer.send(data(1, b"x"))
    peer.events()
    assert len(looks(peer, 5)) == 1


def test_no_time_runs_once_the_response_has_begun(peer: Peer) -> None:
    peer.post(1)
    peer.respond(1, end=False)
    assert looks(peer, 20) == []
    assert peer.engine.next_deadline() is None


def test_no_time_runs_for_a_tunnel(connect: Callable[..., Peer]) -> None:
    peer = connect(websocket=True)
    peer.send(peer.headers(1, WEBSOCKET, end=False))
    peer.events()
    assert peer.engine.next_deadline() is None
    peer.post(3)  # which has looks
    peer.engine.send_headers(3, 200, [], False)
    assert looks(peer, 20) == []
    peer.engine.accept_tunnel(1, [])
    assert looks(peer, 20) == []


# Responses.


def download(peer: Peer, *stream_ids: int, size: int = SEND_HIGH_WATER) -> None:
    """Answer requests with more than their windows let through."""
    for stream_id in stream_ids:
        peer.get(stream_id)
        peer.respond(stream_id, bytes(size), end=False)
    peer.received()
    peer.events()


@pytest.fixture
def narrow(connect: Callable[..., Peer]) -> Peer:
    """A peer whose streams may be sent a kibibyte each."""
    return connect((INITIAL_WINDOW_SIZE, KIB))


def test_a_stream_whose_window_stays_closed_is_reset(narrow: Peer) -> None:
    download(narrow, 1)
    narrow.get(3)
    assert looks(narrow, 4) == []
    assert looks(narrow, 1) == [StreamReset(1, ErrorCode.CANCEL, f"response: {STALLED}", False)]
    assert narrow.now == 75.0
    assert narrow.received() == [RstStream(1, ErrorCode.CANCEL)]
    assert looks(narrow, 1) == []
    assert narrow.engine.next_deadline() is None
    narrow.respond(3)
    narrow.received()
    narrow.assert_serves()


def test_all_that_waits_is_reset_when_the_connection_window_stays_closed(
    connect: Callable[..., Peer],
) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 2**20))
    download(peer, 1, 3)
    peer.get(5)
    gone = looks(peer, 5)
    assert {event.stream_id for event in gone if isinstance(event, StreamReset)} == {1, 3}
    peer.respond(5)
    peer.received()
    peer.assert_serves()


def test_credit_that_lets_octets_through_starts_the_time_anew(narrow: Peer) -> None:
    download(narrow, 1)
    for _ in range(10):
        assert looks(narrow, 4) == []
        narrow.exchange(window_update(1, 6000))  # 100 octets a second
        narrow.events()
    assert len(looks(narrow, 5)) == 1


def test_credit_that_leaves_a_window_negative_does_not(connect: Callable[..., Peer]) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 50_000))
    download(peer, 1, size=2 * SEND_HIGH_WATER)
    peer.exchange(settings((INITIAL_WINDOW_SIZE, 0)))  # the window is -50,000
    events = []
    for _ in range(5):
        peer.exchange(window_update(1, 9_000))
        events += looks(peer, 1)
    assert [type(event) for event in events] == [StreamReset]


def test_settings_that_flip_the_windows_are_no_progress(connect: Callable[..., Peer]) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 50_000))
    download(peer, 1, size=2 * SEND_HIGH_WATER)
    events = []
    for size in (0, 10_000, 5_000, 20_000, 3_000):
        peer.exchange(settings((INITIAL_WINDOW_SIZE, size)))  # what was sent is more than that
        events += looks(peer, 1)
    assert [type(event) for event in events] == [StreamReset]


def test_windows_that_settings_open_are_progress(connect: Callable[..., Peer]) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, 10_000))
    download(peer, 1, size=2 * SEND_HIGH_WATER)
    events = []
    for size in (20_000, 30_000, 40_000, 50_000, 60_000):
        peer.exchange(settings((INITIAL_WINDOW_SIZE, size)))
        events += looks(peer, 1)
    assert events == []


def test_credit_for_the_connection_is_progress_as_long_as_it_is_enough(
    connect: Callable[..., Peer],
) -> None:
    """Also when the connection is all that holds it up."""
    peer = connect((INITIAL_WINDOW_SIZE, 2**20))
    download(peer, 1, size=2 * SEND_HIGH_WATER)
    for _ in range(16):
        assert looks(peer, 1) == []
        peer.exchange(window_update(0, 3_000))  # 200 octets a second
        peer.events()
    events: list[Event] = []
    while not events:
        peer.exchange(window_update(0, 100))
        peer.events()
        events = looks(peer, 1)
        assert peer.now < 500
    assert events == [StreamReset(1, ErrorCode.CANCEL, f"response: {TOO_SLOW}", False)]


def test_a_response_that_is_taken_by_the_octet_is_too_slow(narrow: Peer) -> None:
    download(narrow, 1)
    events: list[Event] = []
    while not events:
        narrow.exchange(window_update(1, 10))
        narrow.events()
        events = looks(narrow, 1)
        assert narrow.now < 100
    assert events == [StreamReset(1, ErrorCode.CANCEL, f"response: {TOO_SLOW}", False)]


def test_a_tunnel_may_be_slow_but_not_stand_still(connect: Callable[..., Peer]) -> None:
    peer = connect((INITIAL_WINDOW_SIZE, KIB), websocket=True)
    peer.send(peer.headers(1, WEBSOCKET, end=False))
    peer.events()
    peer.engine.accept_tunnel(1, [])
    peer.engine.send_data(1, bytes(SEND_HIGH_WATER), False)
    peer.received()
    for _ in range(10):
        assert looks(peer, 3) == []
        peer.exchange(window_update(1, 10))
    assert len(looks(peer, 5)) == 1


def test_a_response_that_waits_for_its_application_is_not_looked_at(peer: Peer) -> None:
    peer.get(1)
    peer.respond(1, b"first", end=False)
    peer.received()
    assert peer.engine.next_deadline() is None


def test_a_response_that_waits_for_the_transport_is_not_the_windows_affair(peer: Peer) -> None:
    peer.get(1)
    peer.respond(1, bytes(SEND_HIGH_WATER - 10_000), end=False)
    peer.received(limit=1)
    assert looks(peer, 20) == []


def test_timeouts_of_zero_wait_for_ever(engine_factory: EngineFactory) -> None:
    unlimited = Timeouts(request_body=0, write=0, min_transfer_rate=0)
    peer = Peer(engine_factory(unlimited)).connect((INITIAL_WINDOW_SIZE, KIB))
    download(peer, 1)
    peer.post(3)
    assert peer.engine.next_deadline() is None


# PING.


@pytest.fixture
def pinged(engine_factory: EngineFactory) -> Peer:
    return Peer(engine_factory(Timeouts(http2_ping_interval=30, http2_ping_timeout=20))).connect()


def test_no_ping_by_default(peer: Peer) -> None:
    assert peer.engine.next_deadline() == 300.0


def test_a_silent_peer_is_pinged_and_then_lost(pinged: Peer) -> None:
    pinged.get(1)
    assert looks(pinged, 1) == []
    assert pinged.now == 30.0
    assert pinged.received() == [Ping(KEEP_ALIVE_PING, False)]
    for _ in range(3):
        assert looks(pinged, 1) == []
        assert pinged.received() == []
    (end,) = looks(pinged, 1)
    assert pinged.now == 50.0
    assert end == ConnectionTerminated(ErrorCode.PROTOCOL_ERROR, "PING is not answered", True)
    assert pinged.received() == [Goaway(1, ErrorCode.PROTOCOL_ERROR)]
    assert pinged.engine.next_deadline() is None


def test_a_ping_that_waits_for_the_transport_is_not_late(pinged: Peer) -> None:
    pinged.get(1)
    assert looks(pinged, 20) == []  # the PING has not left the engine
    assert pinged.received() == [Ping(KEEP_ALIVE_PING, False)]
    assert looks(pinged, 20) == []  # it may wait behind much else
    for _ in range(3):
        assert pinged.received() == []
        (*ended,) = looks(pinged, 1)
    assert [type(event) for event in ended] == [ConnectionTerminated]


def test_a_peer_that_answers_is_pinged_again(pinged: Peer) -> None:
    pinged.get(1)
    for _ in range(5):
        looks(pinged, 1)
        while pinged.received() != [Ping(KEEP_ALIVE_PING, False)]:
            looks(pinged, 1)
        pinged.now += 1
        assert pinged.exchange(ping(KEEP_ALIVE_PING, ack=True)) == []
        assert pinged.events() == []
    assert pinged.now < 5 * 40


def test_a_peer_that_says_anything_is_not_pinged(pinged: Peer) -> None:
    pinged.get(1)
    for _ in range(10):
        pinged.now += 29.0
        pinged.engine.handle_deadline(pinged.now)
        pinged.exchange(window_update(0, 1))
    assert pinged.received() == []
    assert pinged.events() == []
