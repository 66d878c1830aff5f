"""Bodies of which some octets go to the client past the engine."""

from __future__ import annotations

from http1_peer import GET, Peer

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import ConnectionTerminated

SENT = b"past"


def respond(peer: Peer, *fields: tuple[bytes, bytes], request: bytes = GET) -> None:
    peer.feed(request)
    peer.engine.send_headers(1, 200, [*fields], False)
    peer.received()


def test_what_passes_counts_as_sent(peer: Peer) -> None:
    respond(peer, (b"content-length", b"6"))
    assert peer.engine.may_pass(1)
    peer.engine.send_data(1, b"a", False)
    peer.engine.note_passed(1, len(SENT))
    peer.engine.send_data(1, b"bc", True)
    assert peer.received() == b"ab", "what is too much is dropped"
    peer.feed(GET)
    assert peer.engine.idle is False, "the connection lives on"


def test_what_is_missing_behind_it_ends_the_connection(peer: Peer) -> None:
    respond(peer, (b"content-length", b"6"))
    peer.engine.note_passed(1, len(SENT))
    peer.engine.send_data(1, b"a", True)
    end = peer.engine.take_events()[-1]
    assert isinstance(end, ConnectionTerminated)
    assert end.error_code == ErrorCode.INTERNAL_ERROR
    assert not peer.engine.may_pass(1)


def test_a_body_in_chunks_may_not_pass(peer: Peer) -> None:
    respond(peer)
    assert not peer.engine.may_pass(1)


def test_a_body_that_ends_with_the_connection_may(peer: Peer) -> None:
    respond(peer, request=b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n")
    assert peer.engine.may_pass(1)
    peer.engine.note_passed(1, len(SENT))
    peer.engine.send_data(1, b"a", True)
    assert peer.received() == b"a"


def test_nothing_passes_before_the_head_behind_the_end_or_of_another_request(peer: Peer) -> None:
    peer.feed(GET)
    assert not peer.engine.may_pass(1)
    peer.engine.send_headers(1, 200, [(b"content-length", b"1")], False)
    assert not peer.engine.may_pass(2)
    peer.engine.send_data(1, b"a", True)
    assert not peer.engine.may_pass(1)
