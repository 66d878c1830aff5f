"""Floods of frames that carry nothing.

What must hold: as many as the budget has are taken, one more ends the connection with
ENHANCE_YOUR_CALM; the engine keeps nothing of them; whoever keeps to the rate goes on for ever.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from http2_attacks import Step, assert_calmed, repeat, stream
from http2_peer import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PUSH_PROMISE,
    SETTINGS_ACK,
    WITH_PRIORITY,
    Peer,
    data,
    frame,
    goaway,
    ping,
    priority,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.config import Limits
from h2asgi.errors import ErrorCode

BURST, RATE = 1_000, 100
REASON = "too many frames without content"
OPEN, RESET, ENDED = 1, 3, 5
"""Streams that are there from the start."""

UPDATES_A_BLOCK = 60


def always(octets: bytes) -> Step:
    return lambda peer, number: octets


def pieces_of_nothing(peer: Peer, number: int) -> bytes:
    """A request in one frame and many empty ones (CVE-2024-27316 has no end; this has one)."""
    stream_id = stream(number + 5)
    frames = [frame(CONTINUATION, 0, stream_id)] * (UPDATES_A_BLOCK - 1)
    frames += [frame(CONTINUATION, END_HEADERS, stream_id)]
    return b"".join([frame(HEADERS, 1, stream_id, peer.block(_GET)), *frames])


def flip_windows(peer: Peer, number: int) -> bytes:
    return settings(*[(INITIAL_WINDOW_SIZE, number % 2)] * 100)


_GET = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
]

FLOODS: dict[str, tuple[Step, int]] = {
    "PING": (always(ping()), 1),
    "PING acknowledgements": (always(ping(ack=True)), 1),
    "empty SETTINGS": (always(settings()), 2),
    "SETTINGS acknowledgements": (always(SETTINGS_ACK), 1),
    "SETTINGS with many windows": (flip_windows, 102),
    "SETTINGS of unknown kinds": (always(settings(*[(0xF000, 1)] * 50)), 52),
    "PRIORITY": (always(priority(OPEN)), 1),
    "PRIORITY of idle streams": (always(priority(99_999)), 1),
    "frames of an unknown type": (always(frame(0xFA, 0, 0, bytes(100))), 1),
    "GOAWAY": (always(goaway()), 1),
    "WINDOW_UPDATE of the connection": (always(window_update(0, 1)), 1),
    "WINDOW_UPDATE of a stream": (always(window_update(OPEN, 1)), 1),
    "WINDOW_UPDATE of an ended stream": (always(window_update(ENDED, 1)), 1),
    "RST_STREAM of an ended stream": (always(rst_stream(ENDED)), 1),
    "RST_STREAM of a reset stream": (always(rst_stream(RESET)), 1),
    "empty DATA": (always(data(OPEN)), 1),
    "DATA of padding": (always(data(OPEN, padding=255)), 1),
    "DATA on a reset stream": (always(data(RESET, b"late")), 1),
    "HEADERS on a reset stream": (lambda peer, _: peer.headers(RESET), 1),
    "large HEADERS on a reset stream": (lambda peer, _: frame(1, 5, RESET, b"\x82" * 1_600), 101),
    "empty CONTINUATION": (pieces_of_nothing, UPDATES_A_BLOCK),
}


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    """With a body under way on ``OPEN``, and budgets that the start has touched only a little."""
    limits = Limits(http2_control_burst=BURST, http2_control_rate=RATE)
    peer = connect(limits=limits)
    peer.post(OPEN)
    peer.post(RESET)
    peer.engine.reset_stream(RESET, 0x2)
    peer.get(ENDED)
    peer.respond(ENDED)
    peer.received()
    peer.events()
    return peer


@pytest.mark.parametrize("name", FLOODS)
def test_floods_end_the_connection(peer: Peer, name: str) -> None:
    step, cost = FLOODS[name]
    times, events = repeat(peer, step, 2 * BURST)
    assert BURST // cost - 5 <= times <= BURST // cost + 10
    assert_calmed(peer, events, REASON)


@pytest.mark.parametrize("name", FLOODS)
def test_the_rate_that_is_allowed_goes_on_for_ever(peer: Peer, name: str) -> None:
    step, cost = FLOODS[name]

    def patient(peer: Peer, number: int) -> bytes:
        peer.now += cost / RATE
        return step(peer, number)

    # Open streams count with SETTINGS, so they are to remain as few as they were.
    times = 60 if name == "empty CONTINUATION" else 3 * BURST // cost
    assert repeat(peer, patient, times)[0] == times


@pytest.mark.parametrize("name", FLOODS)
def test_floods_leave_nothing_behind(peer: Peer, name: str) -> None:
    step, cost = FLOODS[name]
    peer.send(step(peer, 0))
    peer.received()
    frames = b"".join(step(peer, number) for number in range(1, BURST // cost // 2))
    peer.events()
    tracemalloc.start()
    try:
        peer.send(frames)
        peer.events()
        peer.received()
        del frames
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 64 * 1024


@pytest.mark.parametrize(
    "wrong",
    [
        frame(PUSH_PROMISE, END_HEADERS, OPEN, bytes(4)),
        priority(OPEN, depends_on=OPEN),
        frame(HEADERS, WITH_PRIORITY | END_HEADERS, 7, b"\0\0\0\7\0\x82"),
    ],
    ids=["PUSH_PROMISE", "PRIORITY", "HEADERS"],
)
def test_frames_that_no_client_may_send(peer: Peer, wrong: bytes) -> None:
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, wrong)


def test_many_windows_in_one_frame_are_worked_on_once(peer: Peer) -> None:
    """What is on the way to the last value costs no look at any stream, but is not overlooked."""
    peer.send(settings((INITIAL_WINDOW_SIZE, 2**31 - 1), (INITIAL_WINDOW_SIZE, 10)))
    peer.engine.send_headers(OPEN, 200, [], False)
    assert peer.engine.send_data(OPEN, bytes(100), True) == 100
    assert sum(len(getattr(answer, "data", b"")) for answer in peer.received()) == 10


def test_a_window_that_is_too_large_on_the_way_is_an_error(peer: Peer) -> None:
    peer.send(window_update(OPEN, 100))
    peer.assert_connection_error(
        0x3, settings((INITIAL_WINDOW_SIZE, 2**31 - 1), (INITIAL_WINDOW_SIZE, 10))
    )
