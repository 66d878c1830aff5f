"""Behind the last response of a connection nothing is served (RFC 9112 section 9.6), not even while
that response is still on its way out."""

from __future__ import annotations

from http1_peer import GET, Peer

from h2asgi.protocol.events import ConnectionTerminated, RequestReceived, RequestRejected

CLOSE = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
PIECE = 64 * 1024


def _ends(events: list[object]) -> bool:
    assert not any(isinstance(event, RequestReceived | RequestRejected) for event in events)
    return any(isinstance(event, ConnectionTerminated) for event in events)


def test_pipelined_request_is_not_served_while_the_last_response_leaves(peer: Peer) -> None:
    peer.feed(CLOSE + GET)
    peer.respond(1, bytes(PIECE + 1000))
    assert len(peer.engine.data_to_send(PIECE, 0.0)) == PIECE
    assert not _ends(peer.engine.take_events())
    assert peer.engine.data_to_send(PIECE, 0.0)
    assert _ends(peer.engine.take_events())


def test_pipelined_request_is_not_served_when_the_client_closes_its_side(peer: Peer) -> None:
    peer.feed(CLOSE + GET)
    peer.respond(1, b"last")
    assert not _ends(peer.eof())
    assert _ends(peer.leave())
    assert b"last" in peer.received()


def test_nothing_is_parsed_behind_a_rejected_request(peer: Peer) -> None:
    """The parser has given up on this input; only the answer is still to leave."""
    (rejected,) = peer.feed(b"GET / HTTP/1.1\r\nHost: a\r\nb ad: 1\r\n\r\n" + GET)
    assert isinstance(rejected, RequestRejected)
    peer.respond(1, b"400", 400)
    assert not _ends(peer.eof())
    assert _ends(peer.leave())
    assert b"\r\n400\r\n" in peer.received()


def test_too_much_body_outstanding_ends_the_connection_whatever_follows(peer: Peer) -> None:
    peer.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(10))
    peer.respond(1, b"early", headers=[(b"content-length", b"5")])
    assert not _ends(peer.eof())
    assert _ends(peer.leave())
    assert peer.received().endswith(b"early")
