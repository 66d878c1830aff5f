"""What waits for a peer that does not read stays bounded, streams that have ended included.

A response's field section is compressed against all before it, so it cannot be
taken back when its stream is reset (CVE-2023-44487 without reading, as it were).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import Headers, Peer, ServerFrame, WindowUpdate, data, rst_stream

from h2asgi.config import Limits
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import ConnectionTerminated

BOUND = 1000
OFTEN = 2 * BOUND


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    """One whose resets as such are not limited."""
    return connect(limits=Limits(http2_reset_burst=10 * OFTEN))


def _reset_by_the_client(peer: Peer, stream_id: int) -> None:
    peer.engine.send_headers(stream_id, 200, [(b"etag", b"%d" % stream_id)], False)
    peer.engine.send_data(stream_id, b"body", False)
    peer.send(rst_stream(stream_id))


def _reset_after_100(peer: Peer, stream_id: int) -> None:
    peer.engine.send_informational(stream_id, 100, [])
    peer.send(rst_stream(stream_id))


def _reset_by_the_application(peer: Peer, stream_id: int) -> None:
    peer.engine.send_headers(stream_id, 200, [(b"etag", b"%d" % stream_id)], False)
    peer.engine.reset_stream(stream_id, ErrorCode.INTERNAL_ERROR)


def _unanswered(peer: Peer, stream_id: int) -> None:
    peer.send(rst_stream(stream_id))


def _ended(peer: Peer) -> bool:
    return any(isinstance(event, ConnectionTerminated) for event in peer.events())


@pytest.mark.parametrize("end", [_reset_by_the_client, _reset_after_100, _reset_by_the_application])
def test_answers_of_ended_streams_that_nobody_reads_end_the_connection(
    peer: Peer, end: Callable[[Peer, int], None]
) -> None:
    for number in range(OFTEN):
        peer.send(peer.headers(2 * number + 1))
        if _ended(peer):
            break
        end(peer, 2 * number + 1)
        peer.events()
    assert number == BOUND + 1
    answers = peer.received()
    assert answers[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM  # type: ignore[union-attr]


@pytest.mark.parametrize("end", [_reset_by_the_client, _reset_after_100, _reset_by_the_application])
def test_peer_that_reads_may_go_on(peer: Peer, end: Callable[[Peer, int], None]) -> None:
    for number in range(OFTEN):
        peer.get(2 * number + 1)
        end(peer, 2 * number + 1)
        peer.events()
        assert isinstance(peer.received()[0], Headers)
    peer.assert_serves(2 * OFTEN + 1)


def test_streams_for_which_nothing_waits_are_not_counted(peer: Peer) -> None:
    for number in range(OFTEN):
        peer.get(2 * number + 1)
        _unanswered(peer, 2 * number + 1)
        peer.events()
    peer.assert_serves(2 * OFTEN + 1)


PIECE = 16_384


def _upload(peer: Peer, pieces: int, *, reading: bool) -> list[ServerFrame]:
    """Send so many pieces, each of which the application takes; give all that is to be read."""
    frames: list[ServerFrame] = []
    for _ in range(pieces):
        peer.send(data(1, bytes(PIECE)))
        if _ended(peer):
            break
        peer.engine.acknowledge_received_data(1, PIECE)
        if reading:
            frames += peer.received()
    return frames + peer.received()


def test_who_reads_no_credit_gets_no_more_of_it(connect: Callable[..., Peer]) -> None:
    """It cannot know of it, and goes on all the same: then it exceeds what it was allowed."""
    small = {"stream_window": 65_535, "connection_window": 65_535, "max_connection_window": 65_535}
    peer = connect(window_growth=False, **small)
    peer.post(1)
    *credits, goaway = _upload(peer, 4 * OFTEN, reading=False)
    assert BOUND < len(credits) <= BOUND + 2
    assert {type(one) for one in credits} == {WindowUpdate}
    assert goaway.error_code == ErrorCode.FLOW_CONTROL_ERROR  # type: ignore[union-attr]


def test_who_reads_it_may_send_for_ever(connect: Callable[..., Peer]) -> None:
    small = {"stream_window": 65_535, "connection_window": 65_535, "max_connection_window": 65_535}
    peer = connect(window_growth=False, **small)
    peer.post(1)
    frames = _upload(peer, 4 * OFTEN, reading=True)
    assert {type(one) for one in frames} == {WindowUpdate}
    assert len(frames) > 2 * BOUND
    peer.send(data(1, end=True))
    peer.respond(1)
    peer.received()
    peer.assert_serves()
