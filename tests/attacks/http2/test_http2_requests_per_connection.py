"""A connection that serves so many requests and no more, without losing one."""

from __future__ import annotations

from collections.abc import Callable

from http2_peer import Goaway, Headers, Peer, Ping, ping

from h2asgi.config import Limits
from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import ConnectionTerminated
from h2asgi.protocol.http2.goaway import SHUTDOWN_PING
from h2asgi.protocol.http2.stream import MAX_STREAM_ID


def test_last_request_is_followed_by_a_graceful_end(connect: Callable[..., Peer]) -> None:
    peer = connect(limits=Limits(requests_per_connection=3))
    for stream_id in (1, 3):
        peer.get(stream_id)
        peer.respond(stream_id)
        assert len(peer.received()) == 1
    peer.get(5)
    assert peer.received() == [Goaway(MAX_STREAM_ID, 0), Ping(SHUTDOWN_PING, False)]
    peer.get(7)  # which has crossed the GOAWAY on its way
    peer.send(ping(SHUTDOWN_PING, ack=True))
    assert peer.received() == [Goaway(7, 0)]
    peer.respond(5)
    peer.respond(7)
    assert [type(answer) for answer in peer.received()] == [Headers, Headers]
    assert peer.events() == [
        ConnectionTerminated(ErrorCode.NO_ERROR, "all streams are finished", True)
    ]


def test_without_a_limit_it_never_ends(peer: Peer) -> None:
    for stream_id in range(1, 10_001, 2):
        peer.get(stream_id)
        peer.respond(stream_id)
        assert len(peer.received()) == 1
