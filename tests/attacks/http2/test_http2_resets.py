"""Requests that come to nothing: by the client's resets, or by ours that it provokes.

What must hold: as many as the budget has cost nothing but their streams, one more ends the
connection with ENHANCE_YOUR_CALM; and no application was begun beyond that.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from http2_attacks import Step, assert_calmed, repeat, stream
from http2_peer import (
    END_HEADERS,
    GET,
    MAX_ID,
    POST,
    PRIORITY,
    Peer,
    data,
    frame,
    rst_stream,
    window_update,
)

from h2asgi.config import Limits
from h2asgi.protocol.events import RequestReceived

BURST, RATE = 50, 10
REASON = "too many streams are reset"
MALFORMED = [*GET, (b"X-Upper", b"case")]
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"example.com:443")]


def opened(fields: list[tuple[bytes, bytes]], *mistakes: Callable[[int], bytes], end: bool) -> Step:
    """A request, then what is wrong with it."""

    def step(peer: Peer, number: int) -> bytes:
        stream_id = stream(number)
        wrong = b"".join(mistake(stream_id) for mistake in mistakes)
        return peer.headers(stream_id, fields, end=end) + wrong

    return step


def again(end: bool) -> Step:
    """A second field section, where there may be none, or only a last one."""

    def step(peer: Peer, number: int) -> bytes:
        fields, stream_id = [(b"x-sum", b"1")], stream(number)
        first = peer.headers(stream_id, POST, end=end)
        return first + peer.headers(stream_id, fields, end=end)

    return step


ATTACKS: dict[str, Step] = {
    "rapid reset, CVE-2023-44487": opened(GET, rst_stream, end=True),
    "reset of an upload": opened(POST, rst_stream, end=False),
    "window increment of 0": opened(GET, lambda id: window_update(id, 0), end=True),
    "window overflow": opened(GET, lambda id: window_update(id, MAX_ID), end=True),
    "DATA after END_STREAM": opened(GET, lambda id: data(id, b"late"), end=True),
    "DATA after the body": opened(
        POST, lambda id: data(id, end=True), lambda id: data(id, b"late"), end=False
    ),
    "HEADERS after END_STREAM": again(end=True),
    "trailers without END_STREAM": again(end=False),
    "PRIORITY of the wrong size": opened(
        GET, lambda id: frame(PRIORITY, 0, id, b"\0" * 4), end=True
    ),
    "body beyond content-length": opened(
        [*POST, (b"content-length", b"1")], lambda id: data(id, b"two"), end=False
    ),
    "body short of content-length": opened(
        [*POST, (b"content-length", b"9")], lambda id: data(id, b"two", end=True), end=False
    ),
    "content-length without a body": opened([*POST, (b"content-length", b"9")], end=True),
    "malformed request": opened(MALFORMED, end=True),
    "DATA beyond the stream window": opened(
        POST, *[lambda id: data(id, bytes(16_384))] * 5, end=False
    ),
    "request that is not served": opened(CONNECT, end=False),
    "header list that is too large": opened([*GET, (b"x", b"v" * 3_000)], end=True),
}


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    peer = connect(
        limits=Limits(http2_reset_burst=BURST, http2_reset_rate=RATE),
        max_concurrent_streams=10 * BURST,  # which is another test
        max_header_list_size=2_048,
        stream_window=65_535,
    )
    peer.get(1)
    return peer


@pytest.mark.parametrize("name", ATTACKS)
def test_so_many_at_once_end_the_connection(peer: Peer, name: str) -> None:
    times, events = repeat(peer, ATTACKS[name], 3 * BURST)
    assert times == BURST + 1
    assert_calmed(peer, events, REASON)
    assert sum(isinstance(event, RequestReceived) for event in events) <= BURST + 1


@pytest.mark.parametrize("name", ATTACKS)
def test_as_many_as_are_allowed_cost_only_their_streams(peer: Peer, name: str) -> None:
    assert repeat(peer, ATTACKS[name], BURST)[0] == BURST
    peer.now += 1
    peer.assert_serves(stream(BURST))
    assert repeat(peer, lambda p, n: ATTACKS[name](p, BURST + 1 + n), BURST)[0] == RATE + 1


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_left_for_the_garbage_collector(peer: Peer, name: str) -> None:
    """Which comes seldom, while each request may hold as much as a header list."""
    repeat(peer, ATTACKS[name], 1)
    gc.collect()
    gc.disable()
    try:
        repeat(peer, lambda peer, number: ATTACKS[name](peer, number + 1), 10)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_streams_beyond_the_limit_are_refused_and_then_not_tolerated(
    connect: Callable[..., Peer],
) -> None:
    """A client that has acknowledged our SETTINGS knows better."""
    limits = Limits(http2_reset_burst=BURST, http2_reset_rate=RATE)
    peer = connect(limits=limits, max_concurrent_streams=5)
    times, events = repeat(peer, opened(GET, end=True), 10 * BURST)
    assert times == 5 + BURST + 1
    assert_calmed(peer, events, REASON)
    assert sum(isinstance(event, RequestReceived) for event in events) == 5


def test_what_the_driver_refuses_counts_too(peer: Peer) -> None:
    for number in range(BURST + 1):
        peer.get(stream(number))
        peer.engine.reset_stream(stream(number), 0x7)
        events = peer.events()
        assert bool(events) is (number == BURST)
    assert_calmed(peer, events, REASON)


def test_what_the_application_resets_is_not_the_client_s_affair(peer: Peer) -> None:
    for number in range(3 * BURST):
        peer.get(stream(number))
        peer.engine.reset_stream(stream(number), 0x2)
        assert peer.events() == []
        peer.received()
    peer.assert_serves(stream(3 * BURST))


def test_resets_in_field_blocks_of_many_frames_count_once(peer: Peer) -> None:
    block = peer.block(GET)
    pieces = frame(1, 1, 3, block[:1]) + frame(9, END_HEADERS, 3, block[1:])
    peer.send(pieces, rst_stream(3))
    assert repeat(peer, lambda p, n: ATTACKS["reset of an upload"](p, n + 1), 3 * BURST)[0] == BURST
