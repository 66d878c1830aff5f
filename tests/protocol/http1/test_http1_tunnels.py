"""A request to upgrade, and the tunnel behind its 101 (RFC 9110 section 7.8)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from http1_peer import GET, EngineFactory, Peer, termination
from hypothesis import given, settings
from hypothesis import strategies as st

from h2asgi.config import HTTP1Config, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.protocol.engine import SEND_HIGH_WATER
from h2asgi.protocol.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Headers,
    RequestEnded,
    RequestReceived,
    SendQueueDrained,
)

KIB = 1024
Connect = Callable[..., Peer]

FIELDS = b"Host: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\n" + FIELDS
ACCEPTED: Headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"x", b"y")]
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx: y\r\n\r\n"
)


@pytest.fixture
def peer(connect: Connect) -> Peer:
    return connect(websocket=True)


@pytest.fixture
def tunnel(peer: Peer) -> Peer:
    """A connection whose first request has become a tunnel."""
    return accepted(peer)


def accepted(peer: Peer) -> Peer:
    (request,) = peer.feed(UPGRADE)
    assert isinstance(request, RequestReceived)
    peer.engine.accept_tunnel(request.stream_id, ACCEPTED)
    assert peer.received() == SWITCHING
    assert peer.engine.take_events() == []
    return peer


def protocol_of(peer: Peer, octets: bytes) -> str | None:
    request = peer.feed(octets)[0]
    assert isinstance(request, RequestReceived)
    return request.protocol


# Which requests ask for a tunnel


def test_a_request_to_upgrade_is_complete_and_says_so(peer: Peer) -> None:
    (request,) = peer.feed(UPGRADE)
    fields = [(b"host", b"a.example"), (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    assert request == RequestReceived(
        1, "1.1", "GET", b"/chat", fields, True, protocol="websocket", accepts_trailers=False
    )


@pytest.mark.parametrize(
    "fields",
    [
        b"Connection: upgrade\r\nUpgrade: WebSocket\r\n",
        b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n",
        b"Connection: keep-alive\r\nConnection:UPGRADE\r\nUpgrade: WEBSOCKET\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c,\twebsocket , TLS/1.3\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
    ],
)
def test_options_and_protocols_are_lists_in_which_case_means_nothing(
    peer: Peer, fields: bytes
) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    assert protocol_of(peer, head) == "websocket"


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websockets\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: web socket\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + FIELDS,
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + FIELDS,
        b"HEAD / HTTP/1.1\r\n" + FIELDS,
        b"POST / HTTP/1.1\r\n" + FIELDS,
        b"GET / HTTP/1.1\r\nContent-Length: 2\r\n" + FIELDS + b"hi",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + FIELDS + b"2\r\nhi\r\n0\r\n\r\n",
    ],
)
def test_whatever_else_asks_to_upgrade_is_an_ordinary_request(peer: Peer, octets: bytes) -> None:
    assert protocol_of(peer, octets) is None
    peer.answer(1)
    assert peer.received().startswith(b"HTTP/1.1 200 ")


def test_nothing_can_be_upgraded_where_that_is_not_enabled(connect: Connect) -> None:
    assert protocol_of(connect(), UPGRADE) is None


def test_only_get_upgrades_whatever_was_remembered_of_the_fields(peer: Peer) -> None:
    """The fields are the same; what they mean is decided by the request line."""
    for stream_id, (method, expected) in enumerate(
        [(b"POST", None), (b"GET", "websocket"), (b"POST", None), (b"GET", "websocket")] * 2, 1
    ):
        assert protocol_of(peer, method + b" / HTTP/1.1\r\n" + FIELDS) == expected
        peer.answer(stream_id, status=400)


# Acceptance and refusal


def test_acceptance_writes_exactly_the_given_fields(peer: Peer) -> None:
    peer.feed(UPGRADE)
    peer.engine.accept_tunnel(1, [])
    assert peer.received() == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def test_what_waits_behind_the_head_comes_out_with_the_acceptance(peer: Peer) -> None:
    assert len(peer.feed(UPGRADE + b"\x81\x85")) == 1
    assert peer.feed(b"more") == []
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.engine.take_events() == [DataReceived(1, b"\x81\x85more")]


def test_what_waits_behind_the_head_is_bounded_as_a_pipeline_is(peer: Peer) -> None:
    peer.feed(UPGRADE)
    peer.feed(bytes(64 * KIB))
    assert not peer.engine.reading_suspended
    peer.feed(b"x")
    assert peer.engine.reading_suspended
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert not peer.engine.reading_suspended


def test_after_a_refusal_the_connection_goes_on_with_what_waited(peer: Peer) -> None:
    peer.feed(UPGRADE + GET)
    (request,) = peer.answer(1, b"no", 403)
    assert peer.received() == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
    assert request == RequestReceived(
        2, "1.1", "GET", b"/", [(b"host", b"a.example")], True, accepts_trailers=False
    )
    assert peer.answer(2) == []
    peer.received()
    assert protocol_of(peer, UPGRADE) == "websocket"
    peer.engine.accept_tunnel(3, ACCEPTED)
    assert peer.received() == SWITCHING


def test_neither_can_take_back_the_other(peer: Peer) -> None:
    peer.feed(UPGRADE)
    peer.engine.accept_tunnel(1, ACCEPTED)
    peer.engine.accept_tunnel(1, ACCEPTED)
    peer.engine.send_headers(1, 200, [], True)
    peer.engine.send_informational(1, 103, [])
    assert peer.received() == SWITCHING
    peer.engine.send_data(1, b"", True)
    assert peer.received() == b""


def test_a_request_that_is_refused_or_over_is_not_accepted(peer: Peer) -> None:
    peer.feed(UPGRADE)
    peer.answer(1, status=403)
    peer.received()
    peer.engine.accept_tunnel(1, ACCEPTED)
    peer.feed(UPGRADE)
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.received() == b""


def test_a_request_to_upgrade_that_also_closes_can_be_accepted(peer: Peer) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert protocol_of(peer, head) == "websocket"
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.received() == SWITCHING
    assert peer.feed(b"x") == [DataReceived(1, b"x")]


# Octets both ways


def test_octets_pass_as_they_are(tunnel: Peer) -> None:
    assert tunnel.feed(GET) == [DataReceived(1, GET)]
    assert tunnel.feed(b"\r\n\0\xff") == [DataReceived(1, b"\r\n\0\xff")]
    assert tunnel.engine.send_data(1, b"\x82\x01a", False) == 3
    assert tunnel.engine.send_data(1, GET, False) == 3 + len(GET)
    assert tunnel.received() == b"\x82\x01a" + GET


def test_reading_stops_at_the_window_and_goes_on_below_it(connect: Connect) -> None:
    tunnel = accepted(connect(websocket=True, receive_window=8 * KIB))
    tunnel.feed(bytes(8 * KIB - 1))
    assert not tunnel.engine.reading_suspended
    tunnel.feed(b"x")
    assert tunnel.engine.reading_suspended
    tunnel.engine.acknowledge_received_data(1, 1)
    assert not tunnel.engine.reading_suspended


def test_a_writer_waits_and_is_woken(tunnel: Peer) -> None:
    assert tunnel.engine.send_data(1, bytes(SEND_HIGH_WATER + 1), False) > SEND_HIGH_WATER
    assert tunnel.leave() == [SendQueueDrained(1)]
    assert len(tunnel.received()) == SEND_HIGH_WATER + 1


# The end of either half


def test_the_peers_end_leaves_our_half_open(tunnel: Peer) -> None:
    tunnel.feed(b"last")
    assert tunnel.eof() == [RequestEnded(1)]
    tunnel.engine.send_data(1, b"still here", False)
    assert tunnel.received() == b"still here"
    tunnel.engine.send_data(1, b"bye", True)
    end = termination(tunnel.leave())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, False)
    assert tunnel.received() == b"bye"


def test_an_end_ahead_of_the_acceptance_is_told_after_it(peer: Peer) -> None:
    peer.feed(UPGRADE + b"hasty")
    assert peer.eof() == []
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.engine.take_events() == [DataReceived(1, b"hasty"), RequestEnded(1)]


def test_our_end_ends_the_connection_once_all_is_written(tunnel: Peer) -> None:
    """RFC 9112 section 9.6: the peer may still be sending, and our last words must arrive."""
    tunnel.engine.send_data(1, bytes(100 * KIB), False)
    tunnel.engine.send_data(1, b"bye", True)
    assert tunnel.engine.data_to_send(64 * KIB, 0.0) == bytes(64 * KIB)
    assert tunnel.feed(b"late") == []
    tunnel.engine.take_events()
    assert tunnel.engine.data_to_send(64 * KIB, 0.0) == bytes(36 * KIB) + b"bye"
    end = termination(tunnel.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)


@pytest.mark.parametrize("ended", [False, True])
def test_a_reset_ends_the_connection_even_if_our_end_waits(tunnel: Peer, ended: bool) -> None:
    """The last octets may wait for ever for a peer that does not read."""
    tunnel.engine.send_data(1, bytes(100 * KIB), ended)
    tunnel.engine.reset_stream(1, ErrorCode.CANCEL)
    end = termination(tunnel.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.CANCEL, False)
    assert tunnel.engine.send_data(1, b"x", False) == 0
    tunnel.engine.reset_stream(1, ErrorCode.CANCEL)
    assert tunnel.eof() == []


def test_a_reset_ahead_of_the_acceptance_ends_the_connection(peer: Peer) -> None:
    peer.feed(UPGRADE)
    peer.engine.reset_stream(1, ErrorCode.CANCEL)
    assert termination(peer.engine.take_events()).error_code == ErrorCode.CANCEL
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.received() == b""


def test_a_shutdown_waits_for_the_tunnel(tunnel: Peer) -> None:
    tunnel.engine.begin_shutdown(0.0)
    assert tunnel.leave() == []
    assert not tunnel.engine.idle
    assert tunnel.feed(b"x") == [DataReceived(1, b"x")]
    tunnel.engine.send_data(1, b"bye", True)
    assert termination(tunnel.leave()).error_code == ErrorCode.NO_ERROR
    assert tunnel.received() == b"bye"


def test_a_tunnel_can_be_accepted_during_a_shutdown(peer: Peer) -> None:
    """The application was asked; what it answers is its own, and the close that follows too."""
    peer.feed(UPGRADE)
    peer.engine.begin_shutdown(0.0)
    peer.engine.accept_tunnel(1, ACCEPTED)
    assert peer.received() == SWITCHING
    assert peer.feed(b"x") == [DataReceived(1, b"x")]


def test_terminate_ends_it_at_once(tunnel: Peer) -> None:
    tunnel.engine.send_data(1, b"queued", False)
    tunnel.engine.terminate(ErrorCode.NO_ERROR, "the server is stopping")
    end = termination(tunnel.engine.take_events())
    assert (end.error_code, end.unread_input) == (ErrorCode.NO_ERROR, True)
    assert tunnel.received() == b"queued"
    assert tunnel.feed(b"x") == []


def test_no_deadline_hits_a_tunnel(tunnel: Peer) -> None:
    for _ in range(3):
        assert tunnel.engine.next_deadline() is None
        assert tunnel.wait(10_000) == []
        assert tunnel.feed(b"x") == [DataReceived(1, b"x")]
        tunnel.engine.send_data(1, b"y", False)
        assert tunnel.received() == b"y"


def test_no_deadline_hits_a_request_that_is_not_yet_accepted(peer: Peer) -> None:
    peer.feed(UPGRADE + b"\x81")
    assert peer.engine.next_deadline() is None
    assert peer.wait(10_000) == []


# Any chunking


def transcript(engine_factory: EngineFactory, reads: list[bytes]) -> tuple[bytes, list[Event]]:
    """Refuse the first request to upgrade, accept the second; what comes through, in one piece."""
    peer = Peer(engine_factory(HTTP1Config(), Timeouts(), 0.0, websocket=True))
    through, others = b"", []

    def take(events: list[Event]) -> None:
        nonlocal through
        for event in events:
            if isinstance(event, DataReceived):
                through += event.data
                continue
            others.append(event)
            if isinstance(event, RequestReceived):
                if event.stream_id < 3:
                    take(peer.answer(event.stream_id))
                else:
                    assert event.protocol == "websocket"
                    peer.engine.accept_tunnel(event.stream_id, ACCEPTED)
                    take(peer.engine.take_events())

    for read in reads:
        take(peer.feed(read))
    take(peer.eof())
    peer.engine.send_data(3, b"bye", True)
    take(peer.leave())
    others.append(DataReceived(0, peer.received()))
    return through, others


@settings(max_examples=200, deadline=None)
@given(
    octets=st.binary(max_size=300) | st.just(GET + UPGRADE),
    places=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_events_do_not_depend_on_the_chunking(
    engine_factory: EngineFactory, octets: bytes, places: list[int]
) -> None:
    whole = UPGRADE + GET + UPGRADE + octets
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    reads = [whole[start:end] for start, end in pairwise(edges)]
    through, others = transcript(engine_factory, reads)
    assert through == octets
    assert (through, others) == transcript(engine_factory, [whole])
    assert isinstance(others[-2], ConnectionTerminated)
