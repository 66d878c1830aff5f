"""What is recorded of a connection, on each engine, as frames and requests are named."""

from __future__ import annotations

from typing import Any

import pytest
from http2_peer import (
    CONTINUATION,
    END_HEADERS,
    GET,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    POST,
    PREFACE,
    SETTINGS_ACK,
    WEBSOCKET,
    Headers,
    Peer,
    data,
    frame,
    goaway,
    ping,
    priority_update,
    rst_stream,
    settings,
    window_update,
)

from h2asgi.errors import ErrorCode
from h2asgi.inspector import log as limits
from h2asgi.inspector.masking import MASK
from h2asgi.inspector.recorder import LINGER, TICK
from h2asgi.protocol.observed import ObservedEngine

SECRET = b"hunter2"


@pytest.fixture
def peer(engine_factory: Any, observe: Any) -> Peer:
    return Peer(observe(engine_factory(websocket=True))).connect()


def log(recorder: Any, since: int = 0) -> list[tuple[str, str, int, int]]:
    """Direction, type, stream and length of the frames after number ``since``."""
    return [
        ("out" if one.outgoing else "in", one.kind, one.stream_id, one.length)
        for one in recorder.frames
        if one.number > since
    ]


def test_frames_are_named_as_they_pass(peer: Peer, recorder: Any) -> None:
    before = len(recorder.frames)
    block = peer.headers(1, POST, end=False)
    peer.send(block, data(1, b"abc", padding=4), data(1, b"", end=True))
    peer.events()
    peer.respond(1, b"hello")
    peer.received()
    head, response = [one for one in recorder.frames if one.kind == "HEADERS"]
    assert log(recorder, before) == [
        ("in", "HEADERS", 1, len(block) - 9),
        ("in", "DATA", 1, 8),
        ("in", "DATA", 1, 0),
        ("out", "HEADERS", 1, response.length),
        ("out", "DATA", 1, 5),
    ]
    assert head.fields == [(name.decode(), value.decode()) for name, value in _in_order(POST)]
    assert response.fields == [(":status", "200")]
    assert [one.flags for one in recorder.frames if one.number > before] == [
        ["END_HEADERS"],
        ["PADDED"],
        ["END_STREAM"],
        ["END_HEADERS"],
        ["END_STREAM"],
    ]


def _in_order(fields: Any) -> Any:
    """Pseudo-fields as they are told: method, scheme, path, authority."""
    method, scheme, authority, path = fields
    return [method, scheme, path, authority]


def test_what_control_frames_say(peer: Peer, recorder: Any) -> None:
    before = len(recorder.frames)
    peer.get(1)
    peer.exchange(
        settings((INITIAL_WINDOW_SIZE, 70_000), (MAX_CONCURRENT_STREAMS, 0)),
        window_update(0, 1000),
        ping(b"abcdefgh"),
        priority_update(1, b"u=1"),
        rst_stream(1, ErrorCode.CANCEL),
        goaway(0, ErrorCode.NO_ERROR, b"bye"),
    )
    said = {
        (one.outgoing, one.kind, tuple(one.flags)): one.detail
        for one in recorder.frames
        if one.number > before
    }
    assert said[False, "SETTINGS", ()] == "INITIAL_WINDOW_SIZE 70000, MAX_CONCURRENT_STREAMS 0"
    assert said[False, "WINDOW_UPDATE", ()] == "+1000"
    assert said[False, "PING", ()] == said[True, "PING", ("ACK",)] == b"abcdefgh".hex()
    assert said[False, "PRIORITY_UPDATE", ()] == "stream 1: u=1"
    assert said[False, "RST_STREAM", ()] == "CANCEL"
    assert said[False, "GOAWAY", ()] == "last stream 0, NO_ERROR bye"
    (connection,) = recorder.connections
    assert connection.peer_settings == {"INITIAL_WINDOW_SIZE": 70_000, "MAX_CONCURRENT_STREAMS": 0}
    assert [one["by"] for one in connection.goaways] == ["client", "server"]


@pytest.mark.parametrize("size", [1, 2, 8, 13])
def test_any_chunking_gives_the_same_frames(
    engine_factory: Any, observe: Any, recorder: Any, size: int
) -> None:
    engine = observe(engine_factory())
    peer = Peer(engine)
    octets = b"".join(
        [PREFACE, settings((INITIAL_WINDOW_SIZE, 9)), SETTINGS_ACK,
         peer.headers(1, POST, end=False),
         data(1, b"x" * 300), ping(), data(1, b"", end=True)]
    )  # fmt: skip
    for start in range(0, len(octets), size):
        engine.receive_data(octets[start : start + size], 0.0)
        engine.take_events()
    incoming = [(one.kind, one.length) for one in recorder.frames if not one.outgoing]
    assert [kind for kind, _ in incoming] == [
        *("SETTINGS", "SETTINGS", "HEADERS", "DATA", "PING", "DATA"),
    ]
    assert incoming[3] == ("DATA", 300)
    (stream,) = recorder.streams
    assert stream.request_size == 300


def test_a_field_block_in_several_frames_is_told_with_the_last(peer: Peer, recorder: Any) -> None:
    block = peer.block(GET)
    peer.send(frame(HEADERS, 1, 1, block[:3]), frame(CONTINUATION, END_HEADERS, 1, block[3:]))
    peer.events()
    first, last = list(recorder.frames)[-2:]
    assert (first.kind, first.fields) == ("HEADERS", None)
    assert last.kind == "CONTINUATION"
    assert (":method", "GET") in last.fields
    (connection,) = recorder.connections
    assert connection.blocks_in == len(block)


def test_a_request_has_its_times(peer: Peer, recorder: Any, clock: Any) -> None:
    peer.send(peer.headers(1, POST, end=False))
    peer.events()
    clock.now = peer.now = 0.01
    peer.send(data(1, b"abc", end=True))
    peer.events()
    clock.now = peer.now = 0.03
    peer.engine.send_headers(1, 201, [(b"content-type", b"text/plain")], False)
    peer.engine.send_data(1, b"x" * 100, False)
    peer.received()
    clock.now = peer.now = 0.04
    peer.engine.send_data(1, b"y" * 50, True)
    assert recorder.streams[0].ended is None
    peer.received()
    told = recorder.streams[0].as_json(recorder.epoch)
    times = ("started", "requestEnded", "responded", "firstOctet", "ended")
    assert [told[name] for name in times] == [0, 10, 30, 30, 40]
    assert (told["status"], told["requestSize"], told["responseSize"]) == (201, 3, 150)
    assert told["responseFields"] == [("content-type", "text/plain")]


@pytest.mark.parametrize("by", ["client", "server"])
def test_a_reset_says_who_and_why(peer: Peer, recorder: Any, by: str) -> None:
    peer.get(1)
    if by == "client":
        peer.send(rst_stream(1, ErrorCode.CANCEL))
        peer.events()
    else:
        peer.engine.reset_stream(1, ErrorCode.INTERNAL_ERROR)
        peer.received()
    (stream,) = recorder.streams
    code = ErrorCode.CANCEL if by == "client" else ErrorCode.INTERNAL_ERROR
    assert (stream.reset_by, stream.reset_code) == (by, code)
    assert stream.ended is not None


def test_informational_responses_and_trailers_have_their_own_frames(
    peer: Peer, recorder: Any
) -> None:
    peer.get(1)
    before = len(recorder.frames)
    peer.engine.send_informational(1, 103, [(b"link", b"</a>")])
    peer.engine.send_headers(1, 200, [(b"a", b"1")], False)
    peer.engine.send_data(1, b"x", False)
    peer.engine.send_trailers(1, [(b"b", b"2")])
    peer.received()
    heads = [one.fields for one in recorder.frames if one.number > before and one.fields]
    assert heads == [
        [(":status", "103"), ("link", "</a>")],
        [(":status", "200"), ("a", "1")],
        [("b", "2")],
    ]
    assert recorder.streams[0].status == 200
    assert recorder.streams[0].trailers == [("b", "2")]


def test_what_is_secret_is_never_kept(peer: Peer, recorder: Any) -> None:
    target = b"/login?user=a&access_token=" + SECRET
    fields = [*GET[:3], (b":path", target)]
    secret = [
        (b"authorization", SECRET), (b"cookie", b"a=" + SECRET), (b"x-api-key", SECRET),
        (b"referer", b"https://example.com/?token=" + SECRET),
    ]  # fmt: skip
    peer.send(peer.headers(1, fields, *secret))
    peer.events()
    answer = [(b"set-cookie", SECRET), (b"location", b"/#id_token=" + SECRET), (b"a", b"plain")]
    peer.engine.send_headers(1, 302, answer, False)
    peer.engine.send_data(1, SECRET, False)
    peer.engine.send_trailers(1, [(b"x-signature", SECRET)])
    peer.received()
    told = [one.as_json(0.0) for one in (*recorder.streams, *recorder.frames)]
    assert SECRET.decode() not in repr(told)
    (stream,) = recorder.streams
    assert stream.target == f"/login?user=a&access_token={MASK}"
    assert stream.response_fields == [
        ("set-cookie", MASK),
        ("location", f"/#id_token={MASK}"),
        ("a", "plain"),
    ]


def test_compression_is_counted_both_ways(peer: Peer, recorder: Any) -> None:
    connection = recorder.connections[0]
    for stream_id in (1, 3, 5):
        block = peer.headers(stream_id)
        before = connection.blocks_in
        peer.send(block)
        peer.events()
        assert connection.blocks_in - before == len(block) - 9
        peer.engine.send_headers(stream_id, 200, [(b"server", b"h2asgi")], True)
        peer.received()
    size = sum(len(name) + len(value) for name, value in GET)
    assert connection.fields_in == 3 * size
    assert connection.fields_out == 3 * len(b":status200serverh2asgi")
    assert 0 < connection.blocks_out < connection.fields_out


def test_flow_control_is_looked_at_in_each_tick(peer: Peer, recorder: Any, clock: Any) -> None:
    peer.get(1)
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_data(1, b"x" * 100_000, False)
    peer.received()
    clock.pass_(TICK)
    connection = recorder.connections[0]
    assert connection.samples[-1][1] == 0, "what the peer allows is used up"
    assert connection.samples[-1][4] == 100_000 - 65_535
    assert connection.flows[0]["queued"] == 100_000 - 65_535


def test_nothing_is_recorded_twice_or_lost_when_the_room_is_used_up(
    peer: Peer, recorder: Any, clock: Any
) -> None:
    """The tap finds the beginning of a frame again, in the middle of one where need be."""
    recorder.frame_room = 0
    half = data(1, b"x" * 100)
    peer.send(peer.headers(1, POST, end=False), half[:50])
    peer.events()
    clock.pass_(TICK)
    before = len(recorder.frames)
    peer.send(half[50:], ping())
    peer.send(ping(), data(1, b"abc", end=True))
    assert [(one.kind, one.length) for one in list(recorder.frames)[before:]] == [
        ("PING", 8),
        ("DATA", 3),
    ]


def test_one_tick_takes_a_bounded_number(peer: Peer, recorder: Any, clock: Any) -> None:
    recorder.stream_room = 2
    for stream_id in (1, 3, 5, 7):
        peer.get(stream_id)
        peer.respond(stream_id)
        peer.received()
    assert [one.stream_id for one in recorder.streams] == [1, 3]
    assert recorder.skipped_streams == 2
    assert recorder.connections[0].requests == 4, "counted all the same"
    assert all(one.ended is not None for one in recorder.streams)
    clock.pass_(TICK)
    peer.get(9)
    assert recorder.streams[-1].stream_id == 9


def test_what_is_kept_is_bounded(peer: Peer, recorder: Any, clock: Any) -> None:
    for stream_id in range(1, 2 * limits.MAX_STREAMS + 201, 2):
        recorder.stream_room = recorder.frame_room = 100
        peer.get(stream_id)
        peer.respond(stream_id)
        peer.received()
    assert len(recorder.streams) == limits.MAX_STREAMS
    assert len(recorder.frames) <= limits.MAX_FRAMES
    observer = peer.engine.observer  # type: ignore[attr-defined]
    assert not observer._streams
    assert not observer._heads
    for _ in range(300):
        peer.engine.send_headers(99_999, 200, [], True)
        recorder.touch(recorder.connections[0])
    assert len(observer._heads) <= 256
    for _ in range(1000):
        clock.pass_(TICK)
    assert len(recorder.connections[0].samples) <= 240


def test_connections_that_are_gone_make_room(engine_factory: Any, observe: Any, recorder: Any):
    alive = observe(engine_factory())
    for _ in range(limits.MAX_CONNECTIONS + 20):
        observe(engine_factory()).terminate(0, "the connection is lost")
    assert len(recorder.connections) == limits.MAX_CONNECTIONS
    assert recorder.connections[0].number == 1
    assert alive.observer is not None
    assert recorder.connections[-1].reason == "the connection is lost"


def test_connections_are_observed_up_to_a_number(
    engine_factory: Any, observe: Any, recorder: Any
) -> None:
    engines = [observe(engine_factory()) for _ in range(limits.MAX_CONNECTIONS)]
    unobserved = engine_factory()
    assert observe(unobserved) is unobserved
    assert recorder.skipped_connections == 1
    engines[0].terminate(0, "the connection is lost")
    assert observe(unobserved) is not unobserved


def test_messages_of_a_websocket_are_counted(peer: Peer, recorder: Any) -> None:
    fields = [*WEBSOCKET, (b"sec-websocket-version", b"13")]
    peer.send(peer.headers(1, fields, end=False))
    peer.events()
    peer.engine.accept_tunnel(1, [])
    masked = b"\x81\x85abcdhello"[:11] + b"\x02\x80abcd" + b"\x89\x80abcd" + b"\x80\x80abcd"
    for start in range(len(masked)):
        peer.send(data(1, masked[start : start + 1]))
    peer.events()
    long = b"\x82\x7e\x01\x00" + bytes(256)
    peer.engine.send_data(1, long, False)
    (stream,) = recorder.streams
    assert stream.tunnel == "websocket"
    assert (stream.messages_in, stream.messages_out) == (2, 1)
    assert isinstance(peer.received()[-2], Headers)


def test_http1_has_requests_and_no_frames(http1: Any, recorder: Any, clock: Any) -> None:
    http1.receive_data(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", 0.0)
    http1.take_events()
    clock.now = 0.02
    http1.send_headers(1, 200, [(b"content-length", b"5")], False)
    http1.send_data(1, b"hello", True)
    http1.data_to_send(2**20, 0.02)
    http1.take_events()
    (stream,) = recorder.streams
    told = stream.as_json(0.0)
    assert (told["method"], told["target"], told["status"]) == ("POST", "/a", 200)
    assert (told["protocol"], told["requestSize"], told["responseSize"]) == ("HTTP/1.1", 3, 5)
    assert [told[name] for name in ("started", "responded", "firstOctet", "ended")] == [
        0,
        20,
        20,
        20,
    ]
    assert not recorder.frames
    assert recorder.connections[0].octets_in > 40


def test_a_websocket_over_http1_ends_with_its_connection(
    http1: Any, recorder: Any, clock: Any
) -> None:
    http1.receive_data(
        b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n",
        0.0,
    )
    http1.take_events()
    http1.accept_tunnel(1, [(b"upgrade", b"websocket")])
    http1.data_to_send(2**20, 0.0)
    (stream,) = recorder.streams
    assert (stream.tunnel, stream.status, stream.ended) == ("websocket", 101, None)
    clock.now = 3.0
    http1.receive_eof(3.0)
    http1.terminate(ErrorCode.NO_ERROR, "the connection is lost")
    assert (stream.ended, stream.reason) == (3.0, "the connection is lost")
    assert recorder.connections[0].closed is not None


def test_requests_that_are_refused_are_shown(http1: Any, recorder: Any) -> None:
    http1.receive_data(b"GET /a HTTP/1.1\r\n\r\n", 0.0)
    http1.take_events()
    (stream,) = recorder.streams
    assert stream.reason


def test_nobody_is_observed_before_a_viewer_comes_nor_after_the_last_has_left(
    recorder: Any, clock: Any, observe: Any, engine_factory: Any
) -> None:
    engine = observe(engine_factory())
    assert isinstance(engine, ObservedEngine)
    assert observe(engine) is engine
    recorder.leave()
    clock.pass_(LINGER - 1)
    assert recorder.recording
    recorder.join()
    clock.pass_(1)
    assert recorder.recording, "somebody came back"
    recorder.leave()
    clock.pass_(LINGER)
    assert not recorder.recording
    assert recorder.connections[0].closed is not None
