"""What only the engine on ngh2 has to keep: its book of streams inside the library."""

from __future__ import annotations

from typing import Any

import pytest
from http2_peer import END_HEADERS, HEADERS, MAX_ID, POST, Goaway, Peer, Ping, frame, rst_stream

from h2asgi.errors import ErrorCode


@pytest.fixture(autouse=True)
def ngh2_engine(both_engines: tuple[Any, Any]) -> Any:
    from h2asgi.protocol.http2 import ngh2_engine

    return ngh2_engine


@pytest.fixture
def codec(ngh2_engine: Any) -> Any:
    return ngh2_engine.NGH2Codec(65_536)


@pytest.fixture
def ngh2_peer(both_engines: tuple[Any, Any]) -> Peer:
    return Peer(both_engines[1]()).connect()


def block(peer: Peer, fields: list[tuple[bytes, bytes]] = POST) -> bytes:
    return peer.block(fields)


@pytest.mark.parametrize("end_stream", [True, False])
def test_requests_without_answer_do_not_pile_up(
    ngh2_engine: Any, ngh2_peer: Peer, codec: Any, end_stream: bool
) -> None:
    for _ in range(1000):
        assert codec.decode_request(block(ngh2_peer), end_stream) == POST
    assert len(codec._spare) <= ngh2_engine._MAX_SPARE
    assert len(codec._unended) <= ngh2_engine._MAX_SPARE


def test_answers_outnumber_requests(ngh2_peer: Peer, codec: Any) -> None:
    """Informational sections and trailers are sections of their own."""
    assert codec.decode_request(block(ngh2_peer), False) == POST
    for number in range(100):
        fields = [
            (b":status", b"103"),
            (b"link", b"%d" % number),
            (b"set-cookie", b"a=%d" % number),
        ]
        assert ngh2_peer.log.decoder.decode(codec.encode(fields), raw=True) == fields
    assert codec._spare == []
    assert codec._unended == set()


def test_malformed_sections_leave_the_compression_state_whole(ngh2_peer: Peer, codec: Any) -> None:
    assert codec.decode_request(block(ngh2_peer, [*POST, (b"X", b"y")]), True) is None
    assert codec.decode_trailers(block(ngh2_peer, [(b"connection", b"y")])) is None
    assert codec.decode_trailers(block(ngh2_peer, [(b"x", b"new")])) == [(b"x", b"new")]
    assert codec.decode_request(block(ngh2_peer, [*POST, (b"x", b"new")]), True) == [
        *POST,
        (b"x", b"new"),
    ]


def test_a_string_beyond_libnghttp2s_bound_is_too_large_not_undecodable(ngh2_peer: Peer) -> None:
    octets = b"\x00\x01x\x7f\xf1\xa1\x04" + b"v" * 68_976  # a literal of that length
    pieces = [octets[start : start + 16_384] for start in range(0, len(octets), 16_384)]
    frames = [frame(HEADERS, 0, 1, pieces[0])]
    frames += [frame(9, 0, 1, piece) for piece in pieces[1:-1]]
    frames.append(frame(9, END_HEADERS, 1, pieces[-1]))
    ngh2_peer.assert_connection_error(ErrorCode.ENHANCE_YOUR_CALM, *frames)


def test_a_connection_ends_before_the_library_runs_out_of_streams(
    ngh2_engine: Any, ngh2_peer: Peer
) -> None:
    ngh2_peer.engine._codec._next_id = ngh2_engine._LAST_STREAM_ID + 2  # type: ignore[attr-defined]
    assert ngh2_peer.post(1).stream_id == 1
    goaway, ping = ngh2_peer.received()
    assert goaway == Goaway(MAX_ID, ErrorCode.NO_ERROR)
    assert isinstance(ping, Ping)
    ngh2_peer.send(rst_stream(1))
