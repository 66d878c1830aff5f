"""Extended CONNECT, and the tunnel behind its 200 (RFC 8441 sections 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import (
    ENABLE_CONNECT_PROTOCOL,
    GET,
    MAX_ID,
    PREFACE,
    SETTINGS_ACK,
    WEBSOCKET,
    Data,
    EngineFactory,
    Fields,
    Goaway,
    Headers,
    Peer,
    Ping,
    RstStream,
    Settings,
    WindowUpdate,
    data,
    ping,
    priority,
    rst_stream,
    settings,
    window_update,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    SendQueueDrained,
    StreamReset,
)

Connect = Callable[..., Peer]

FRAME = 16_384
STREAM_WINDOW = 16 * FRAME
OK = (b":status", b"200")


@pytest.fixture
def peer(connect: Connect) -> Peer:
    return connect(websocket=True)


@pytest.fixture
def tunnel(peer: Peer) -> Peer:
    """A connection on which stream 1 is an ordinary upload and stream 3 a tunnel."""
    peer.post(1)
    return accepted(peer, 3)


def opened(peer: Peer, stream_id: int) -> RequestReceived:
    peer.send(peer.headers(stream_id, WEBSOCKET, end=False))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    return event


def accepted(peer: Peer, stream_id: int) -> Peer:
    opened(peer, stream_id)
    peer.engine.accept_tunnel(stream_id, [])
    assert peer.received() == [Headers(stream_id, [OK], False)]
    assert peer.events() == []
    return peer


def replaced(name: bytes, value: bytes | None) -> Fields:
    """The fields of an extended CONNECT with one of them changed or (None) left out."""
    fields = [(name, value) if field[0] == name else field for field in WEBSOCKET]
    return [(name, value) for name, value in fields if value is not None]


# Which requests ask for a tunnel


@pytest.mark.parametrize("websocket", [False, True])
def test_the_first_settings_say_whether_it_is_served(
    engine_factory: EngineFactory, websocket: bool
) -> None:
    """RFC 8441 section 3."""
    peer = Peer(engine_factory(websocket=websocket))
    first = peer.received()[0]
    assert isinstance(first, Settings)
    assert first.values.get(ENABLE_CONNECT_PROTOCOL) == (1 if websocket else None)


def test_the_setting_is_never_taken_back(peer: Peer) -> None:
    """RFC 8441 section 3: the server sends no further SETTINGS at all."""
    accepted(peer, 1)
    frames = peer.exchange(settings((ENABLE_CONNECT_PROTOCOL, 0)))
    assert not any(isinstance(one, Settings) for one in frames)


def test_extended_connect(peer: Peer) -> None:
    """RFC 8441 section 4: :authority is where the request goes, as in any other."""
    peer.send(peer.headers(1, WEBSOCKET, (b"sec-websocket-version", b"13"), end=False))
    fields = [(b"host", b"example.com"), (b"sec-websocket-version", b"13")]
    assert peer.events() == [
        RequestReceived(1, "2", "CONNECT", b"/", fields, False, protocol="websocket")
    ]


def test_the_second_of_two_equal_requests_is_one_too(peer: Peer) -> None:
    """What is remembered of a field section keeps its protocol."""
    blocks = [peer.headers(stream_id, WEBSOCKET, end=False) for stream_id in (1, 3, 5, 7)]
    peer.send(*blocks)
    assert [event.protocol for event in peer.events()] == ["websocket"] * 4
    assert peer.get(9).protocol is None


@pytest.mark.parametrize("order", [[4, 0, 1, 2, 3], [0, 4, 1, 2, 3], [3, 2, 1, 0, 4]])
def test_the_order_of_the_pseudo_fields_means_nothing(peer: Peer, order: list[int]) -> None:
    peer.send(peer.headers(1, [WEBSOCKET[place] for place in order], end=False))
    assert peer.events()[0].protocol == "websocket"


def test_case_means_nothing_in_the_name_of_a_protocol(peer: Peer) -> None:
    """RFC 9110 section 7.8."""
    peer.send(peer.headers(1, replaced(b":protocol", b"WebSocket"), end=False))
    assert peer.events()[0].protocol == "websocket"


def test_a_content_length_means_nothing(peer: Peer) -> None:
    """RFC 9110 section 9.3.6: CONNECT has no content."""
    peer.send(peer.headers(1, WEBSOCKET, (b"content-length", b"1"), end=False))
    peer.events()
    peer.engine.accept_tunnel(1, [])
    peer.send(data(1, b"more than one", end=True))
    assert peer.events() == [DataReceived(1, b"more than one"), RequestEnded(1)]


MALFORMED: dict[str, Fields] = {
    "no :scheme": replaced(b":scheme", None),
    "no :path": replaced(b":path", None),
    "no :authority": replaced(b":authority", None),
    "host instead of :authority": [*replaced(b":authority", None), (b"host", b"example.com")],
    "illegal :scheme": replaced(b":scheme", b"w s"),
    "empty :path": replaced(b":path", b""),
    "asterisk": replaced(b":path", b"*"),
    "illegal :authority": replaced(b":authority", b"user@example.com"),
    "host differs": [*WEBSOCKET, (b"host", b"other.example")],
    "GET": replaced(b":method", b"GET"),
    "connect": replaced(b":method", b"connect"),
    "no :method": replaced(b":method", None),
    "empty :protocol": replaced(b":protocol", b""),
    "illegal :protocol": replaced(b":protocol", b"web socket"),
    "repeated :protocol": [*WEBSOCKET, WEBSOCKET[4]],
    ":protocol behind a field": [*WEBSOCKET[:4], (b"x", b"y"), WEBSOCKET[4]],
    "another pseudo field": [*WEBSOCKET, (b":new", b"x")],
    "upgrade": [*WEBSOCKET, (b"upgrade", b"websocket")],
    "connection": [*WEBSOCKET, (b"connection", b"upgrade")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_a_stream_error(peer: Peer, fields: Fields) -> None:
    """RFC 8441 section 4 and RFC 9113 section 8.3."""
    peer.post(1)
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR, peer.headers(3, fields, end=False))


def test_a_client_that_was_not_told_of_it_is_malformed(connect: Connect) -> None:
    """RFC 8441 section 3."""
    peer = connect()
    peer.post(1)
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR, peer.headers(3, WEBSOCKET, end=False))


PLAIN_CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"a:1")]


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        (PLAIN_CONNECT, b"a:1"),
        (replaced(b":protocol", b"connect-udp"), b"/"),
        (replaced(b":protocol", b"websockets"), b"/"),
    ],
)
def test_whatever_else_asks_for_a_tunnel_is_answered_501(
    peer: Peer, fields: Fields, target: bytes
) -> None:
    peer.send(peer.headers(1, fields, end=False))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert (event.status, event.method, event.target) == (501, "CONNECT", target)
    peer.engine.send_headers(1, 501, [], True)
    assert peer.received() == [
        Headers(1, [(b":status", b"501")], True),
        RstStream(1, ErrorCode.NO_ERROR),
    ]
    peer.assert_serves()


def test_a_tunnel_through_which_nothing_can_come_is_answered_400(peer: Peer) -> None:
    peer.send(peer.headers(1, WEBSOCKET, end=True))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert (event.status, event.method, event.target) == (400, "CONNECT", b"/")
    peer.engine.send_headers(1, 400, [], True)
    assert peer.received() == [Headers(1, [(b":status", b"400")], True)]
    peer.assert_serves()


# Acceptance and refusal


def test_acceptance_writes_exactly_the_given_fields(peer: Peer) -> None:
    opened(peer, 1)
    peer.engine.accept_tunnel(1, [(b"sec-websocket-protocol", b"chat"), (b"x", b"y")])
    fields = [OK, (b"sec-websocket-protocol", b"chat"), (b"x", b"y")]
    assert peer.received() == [Headers(1, fields, False)]


def test_data_may_come_ahead_of_the_acceptance(peer: Peer) -> None:
    opened(peer, 1)
    peer.send(data(1, b"hasty"))
    assert peer.events() == [DataReceived(1, b"hasty")]
    peer.engine.accept_tunnel(1, [])
    peer.send(data(1, b"calm"))
    assert peer.events() == [DataReceived(1, b"calm")]
    assert peer.received() == [Headers(1, [OK], False)]


def test_a_refusal_is_an_ordinary_response(peer: Peer) -> None:
    """Ahead of the end of its request, so the client is asked to stop (RFC 9113 section 8.1)."""
    opened(peer, 1)
    peer.engine.send_headers(1, 403, [], False)
    peer.engine.send_data(1, b"no", True)
    assert peer.received() == [
        Headers(1, [(b":status", b"403")], False),
        Data(1, b"no", True),
        RstStream(1, ErrorCode.NO_ERROR),
    ]
    assert peer.exchange(data(1, b"late")) == []
    assert peer.events() == []
    peer.assert_serves()


def test_neither_can_take_back_the_other(peer: Peer) -> None:
    accepted(peer, 1)
    peer.engine.accept_tunnel(1, [])
    peer.engine.send_headers(1, 403, [], True)
    opened(peer, 3)
    peer.engine.send_headers(3, 403, [], False)
    peer.engine.accept_tunnel(3, [])
    peer.engine.accept_tunnel(5, [])
    assert peer.received() == [Headers(3, [(b":status", b"403")], False)]


# Octets both ways, within the windows


def test_octets_pass_as_they_are(tunnel: Peer) -> None:
    tunnel.send(data(3, b"\x81\x85"), data(3), data(3, GET[0][0], padding=5))
    assert tunnel.events() == [DataReceived(3, b"\x81\x85"), DataReceived(3, GET[0][0])]
    assert tunnel.engine.send_data(3, b"\x82\x01a", False) == 0
    tunnel.engine.send_data(3, b"", False)
    assert tunnel.received() == [Data(3, b"\x82\x01a", False)]


def test_credit_comes_back_as_octets_are_taken(tunnel: Peer) -> None:
    frames = tunnel.exchange(*[data(3, bytes(FRAME))] * 16)
    assert not any(isinstance(one, WindowUpdate) and one.stream_id == 3 for one in frames)
    tunnel.engine.acknowledge_received_data(3, STREAM_WINDOW // 2)
    credit = [one for one in tunnel.received() if isinstance(one, WindowUpdate)]
    assert WindowUpdate(3, STREAM_WINDOW // 2) in credit
    assert not tunnel.engine.reading_suspended


def test_data_beyond_the_window_costs_the_tunnel_and_nothing_else(tunnel: Peer) -> None:
    tunnel.send(*[data(3, bytes(FRAME))] * 16)
    tunnel.received()
    tunnel.events()
    tunnel.send(data(3, b"x"))
    (reset,) = tunnel.events()
    assert (reset.stream_id, reset.error_code) == (3, ErrorCode.FLOW_CONTROL_ERROR)
    assert RstStream(3, ErrorCode.FLOW_CONTROL_ERROR) in tunnel.received()
    tunnel.assert_serves()


def test_a_writer_waits_for_the_peers_window_and_is_woken(tunnel: Peer) -> None:
    assert tunnel.engine.send_data(3, bytes(65_535), False) <= SEND_HIGH_WATER
    assert tunnel.engine.send_data(3, bytes(65_535), False) > SEND_HIGH_WATER
    frames = tunnel.received()
    assert sum(len(one.data) for one in frames if isinstance(one, Data)) == 65_535
    assert tunnel.events() == []
    frames = tunnel.exchange(window_update(3, 65_535), window_update(0, 65_535))
    assert sum(len(one.data) for one in frames if isinstance(one, Data)) == 65_535
    assert tunnel.events() == [SendQueueDrained(3)]


def test_nothing_but_data_comes_through_a_tunnel(tunnel: Peer) -> None:
    """RFC 9113 section 8.5."""
    trailers = tunnel.headers(3, [(b"x", b"y")])
    tunnel.assert_stream_error(ErrorCode.PROTOCOL_ERROR, trailers)


def test_stream_management_is_allowed_on_a_tunnel(tunnel: Peer) -> None:
    """RFC 9113 section 8.5."""
    assert tunnel.exchange(window_update(3, 1), priority(3)) == []
    tunnel.send(data(3, b"x"))
    assert tunnel.events() == [DataReceived(3, b"x")]


# The end of either half (RFC 8441 section 5: END_STREAM is an orderly TCP close)


def test_the_peers_end_leaves_our_half_open(tunnel: Peer) -> None:
    tunnel.send(data(3, b"last", end=True))
    assert tunnel.events() == [DataReceived(3, b"last"), RequestEnded(3)]
    tunnel.engine.send_data(3, b"still here", False)
    assert tunnel.received() == [Data(3, b"still here", False)]
    tunnel.engine.send_data(3, b"bye", True)
    assert tunnel.received() == [Data(3, b"bye", True)]
    tunnel.assert_connection_error(ErrorCode.STREAM_CLOSED, data(3, b"x"))


def test_our_end_leaves_the_peers_half_open(tunnel: Peer) -> None:
    """Not the end of a response ahead of its request: nobody is told to stop sending."""
    tunnel.engine.send_data(3, b"bye", True)
    assert tunnel.received() == [Data(3, b"bye", True)]
    assert tunnel.received() == []
    tunnel.send(data(3, b"late"))
    assert tunnel.events() == [DataReceived(3, b"late")]
    assert tunnel.exchange(window_update(3, 10)) == []
    assert tunnel.exchange(data(3, end=True)) == []
    assert tunnel.events() == [RequestEnded(3)]
    tunnel.assert_connection_error(ErrorCode.STREAM_CLOSED, data(3, b"x"))


def test_credit_goes_on_behind_our_end(tunnel: Peer) -> None:
    tunnel.engine.send_data(3, b"", True)
    tunnel.exchange(*[data(3, bytes(FRAME))] * 16)
    tunnel.engine.acknowledge_received_data(3, STREAM_WINDOW)
    assert WindowUpdate(3, STREAM_WINDOW) in tunnel.received()


def test_our_end_may_wait_for_the_peers_window(tunnel: Peer) -> None:
    tunnel.engine.send_data(3, bytes(65_536), True)
    assert not any(one.end_stream for one in tunnel.received() if isinstance(one, Data))
    tunnel.send(data(3, end=True))
    frames = tunnel.exchange(window_update(3, 1), window_update(0, 1))
    assert frames == [Data(3, b"\0", True)]
    tunnel.assert_connection_error(ErrorCode.STREAM_CLOSED, data(3, b"x"))


def test_a_half_closed_tunnel_counts_as_open_until_it_is_reset(connect: Connect) -> None:
    peer = accepted(connect(websocket=True, max_concurrent_streams=1), 1)
    peer.engine.send_data(1, b"", True)
    assert peer.received() == [Data(1, b"", True)]
    assert not peer.engine.idle
    assert peer.exchange(peer.headers(3)) == [RstStream(3, ErrorCode.REFUSED_STREAM)]
    peer.engine.reset_stream(1, ErrorCode.CANCEL)
    assert peer.received() == [RstStream(1, ErrorCode.CANCEL)]
    assert peer.engine.idle
    assert peer.exchange(data(1, b"late")) == []
    peer.assert_serves()


@pytest.mark.parametrize("ended", [False, True])
def test_a_reset_by_the_peer_is_reported(tunnel: Peer, ended: bool) -> None:
    """RFC 8441 section 5: RST_STREAM with CANCEL is a TCP reset."""
    if ended:
        tunnel.engine.send_data(3, b"", True)
        tunnel.received()
    tunnel.send(data(3, b"x"), rst_stream(3))
    _, reset = tunnel.events()
    assert reset == StreamReset(3, ErrorCode.CANCEL, reset.reason, True)
    assert tunnel.engine.send_data(3, b"x", False) == 0
    assert tunnel.received() == []
    tunnel.assert_serves()


def test_a_reset_by_us_silences_the_stream(tunnel: Peer) -> None:
    tunnel.engine.send_data(3, bytes(100_000), False)
    tunnel.engine.reset_stream(3, ErrorCode.CANCEL)
    frames = tunnel.received()
    assert frames[-1] == RstStream(3, ErrorCode.CANCEL)
    assert tunnel.exchange(data(3, b"late")) == []
    assert tunnel.events() == []
    tunnel.assert_serves()


def test_the_end_of_the_connection_ends_the_tunnel(peer: Peer) -> None:
    accepted(peer, 1)
    peer.engine.receive_eof(0.0)
    reset, end = peer.events()
    assert (reset.stream_id, reset.error_code, reset.remote) == (1, ErrorCode.CANCEL, True)
    assert isinstance(end, ConnectionTerminated)
    assert end.error_code == ErrorCode.NO_ERROR


def test_a_shutdown_waits_for_both_halves_of_the_tunnel(peer: Peer) -> None:
    accepted(peer, 1)
    peer.engine.begin_shutdown(0.0)
    first, sent_ping = peer.received()
    assert first == Goaway(MAX_ID, ErrorCode.NO_ERROR)
    assert isinstance(sent_ping, Ping)
    assert peer.exchange(ping(sent_ping.payload, ack=True)) == [Goaway(1, ErrorCode.NO_ERROR)]
    peer.engine.send_data(1, b"bye", True)
    assert peer.received() == [Data(1, b"bye", True)]
    assert peer.events() == []
    peer.send(data(1, b"bye", end=True))
    peer.received()
    received, ended, end = peer.events()
    assert (received, ended) == (DataReceived(1, b"bye"), RequestEnded(1))
    assert isinstance(end, ConnectionTerminated)
    assert end.error_code == ErrorCode.NO_ERROR


def test_a_tunnel_can_be_accepted_during_a_shutdown(peer: Peer) -> None:
    opened(peer, 1)
    peer.engine.begin_shutdown(0.0)
    peer.engine.accept_tunnel(1, [])
    assert peer.received()[-1] == Headers(1, [OK], False)
    peer.send(data(1, b"x"))
    assert peer.events() == [DataReceived(1, b"x")]


def test_terminate_ends_it_at_once(peer: Peer) -> None:
    accepted(peer, 1)
    peer.engine.terminate(ErrorCode.ENHANCE_YOUR_CALM, "too much")
    assert peer.received() == [Goaway(1, ErrorCode.ENHANCE_YOUR_CALM)]
    peer.assert_ended(ErrorCode.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("half_closed", [False, True])
def test_no_deadline_hits_a_tunnel(peer: Peer, half_closed: bool) -> None:
    accepted(peer, 1)
    if half_closed:
        peer.engine.send_data(1, b"", True)
        peer.received()
    assert peer.engine.next_deadline() is None
    peer.engine.handle_deadline(10_000.0)
    assert peer.events() == []
    assert peer.received() == []


def test_the_idle_time_begins_when_the_tunnel_has_closed(peer: Peer) -> None:
    accepted(peer, 1)
    peer.engine.send_data(1, b"", True)
    peer.received()
    peer.now = 1000.0
    peer.exchange(data(1, end=True))
    assert peer.engine.next_deadline() == 1300.0


# Any chunking


@hypothesis_settings(max_examples=100, deadline=None)
@given(octets=st.binary(min_size=1, max_size=200), cuts=st.lists(st.integers(1, 40), max_size=30))
def test_events_do_not_depend_on_the_chunking(
    engine_factory: EngineFactory, octets: bytes, cuts: list[int]
) -> None:
    peer = Peer(engine_factory(websocket=True))
    stream = b"".join(
        [
            PREFACE,
            settings(),
            SETTINGS_ACK,
            peer.headers(1, WEBSOCKET, end=False),
            data(1, octets, padding=3),
            data(1, end=True),
        ]
    )
    events = []
    while stream:
        size = cuts.pop() if cuts else len(stream)
        peer.send(stream[:size])
        stream = stream[size:]
        events += peer.events()
    request, *rest = events
    assert request.protocol == "websocket"
    assert rest == [DataReceived(1, octets), RequestEnded(1)]
