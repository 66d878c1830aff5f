"""What honest clients do, with the default settings: nothing of it trips a budget.

Time stands still unless a test says so, which is harder than any network.
"""

from __future__ import annotations

import pytest
from http2_peer import (
    INITIAL_WINDOW_SIZE,
    MAX_ID,
    Data,
    Goaway,
    Peer,
    RstStream,
    data,
    frame,
    ping,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.protocol.events import ConnectionTerminated, DataReceived
from h2asgi.protocol.http2.stream import RESET_STREAMS_REMEMBERED

MESSAGES = 100_000
PRIORITY_UPDATE = 0x10


def assert_lives(peer: Peer, stream_id: int) -> None:
    assert not any(isinstance(event, ConnectionTerminated) for event in peer.events())
    peer.assert_serves(stream_id)


def test_browser_cancels_a_page_of_images(peer: Peer) -> None:
    for page in range(9):
        ids = [2 * (100 * page + number) + 1 for number in range(100)]
        peer.send(*[peer.headers(id) for id in ids])
        peer.send(*[frame(PRIORITY_UPDATE, 0, 0, id.to_bytes(4, "big") + b"u=1") for id in ids])
        peer.send(*[rst_stream(id) for id in ids])
        peer.received()
    assert_lives(peer, 2_001)


def test_proxy_passes_on_the_cancellations_of_its_users(peer: Peer) -> None:
    for number in range(5_000):
        peer.now += 0.01
        peer.send(peer.headers(2 * number + 1), rst_stream(2 * number + 1))
        peer.received()
    assert_lives(peer, 10_001)


def test_client_pings_each_second_for_a_day(peer: Peer) -> None:
    peer.post(1)
    for _ in range(86_400):
        peer.now += 1
        peer.send(ping())
        assert len(peer.engine.data_to_send(1_000, peer.now)) == 17
    assert_lives(peer, 3)


def test_small_messages_each_way(peer: Peer) -> None:
    """gRPC: each in a frame of its own, answered by two WINDOW_UPDATEs and now and then a PING."""
    peer.post(1)
    peer.engine.send_headers(1, 200, [], False)
    sent = 0
    while sent < MESSAGES:
        peer.send(*[data(1, b"message")] * 500)
        for event in peer.events():
            assert isinstance(event, DataReceived)
            peer.engine.acknowledge_received_data(1, len(event.data))
            peer.engine.send_data(1, b"message", False)
        answers = [answer for answer in peer.received() if isinstance(answer, Data)]
        sent += len(answers)
        assert len(answers) == 500
        peer.send(*[window_update(1, 7) + window_update(0, 7)] * 500, ping())
        peer.received()
    assert_lives(peer, 3)


@pytest.mark.parametrize("size", [7, 16_384])
def test_two_window_updates_for_each_frame_that_was_on_its_way(peer: Peer, size: int) -> None:
    """httpx; and the whole download arrives before the first of them is sent."""
    peer.send(settings((INITIAL_WINDOW_SIZE, MAX_ID)), window_update(0, MAX_ID - 65_535))
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    frames = 0
    for _ in range(20_000):
        peer.engine.send_data(1, bytes(size), False)
        octets = peer.engine.data_to_send(64 * 1024, peer.now)
        frames += len(octets) > size
    assert frames == 20_000
    for _ in range(frames):
        peer.send(window_update(0, size), window_update(1, size))
    assert_lives(peer, 3)


def test_more_streams_than_our_settings_allow_before_they_have_arrived(peer: Peer) -> None:
    """``h2load -m 1000``: what is refused may be asked for again."""
    answers = peer.exchange(*[peer.headers(2 * number + 1) for number in range(1_000)])
    assert sum(isinstance(answer, RstStream) for answer in answers) == 1_000 - 128
    for number in range(128):
        peer.respond(2 * number + 1)
    assert not any(isinstance(answer, Goaway) for answer in peer.received())
    assert_lives(peer, 2_001)


def test_uploads_that_are_answered_early_go_on_for_a_round_trip(peer: Peer) -> None:
    for number in range(RESET_STREAMS_REMEMBERED):
        stream_id = 2 * number + 1
        peer.post(stream_id)
        peer.respond(stream_id)
        peer.received()
        peer.send(*[data(stream_id, bytes(1_024))] * 10)
        peer.now += 0.01
        peer.received()
    assert_lives(peer, 2 * RESET_STREAMS_REMEMBERED + 1)


def test_windows_that_run_out_all_the_time(peer: Peer) -> None:
    """A client with little memory: 4 KiB, given back as they are read."""
    peer.send(settings((INITIAL_WINDOW_SIZE, 4_096)))
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    for _ in range(1_000):
        peer.engine.send_data(1, bytes(65_536), False)
        for _ in range(16):
            peer.received()
            peer.send(window_update(0, 4_096), window_update(1, 4_096))
    assert_lives(peer, 3)
