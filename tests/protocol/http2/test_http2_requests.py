"""RFC 9113 section 8: requests, malformed requests, trailers, informational responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_malformed import MALFORMED, MALFORMED_BODIES, MALFORMED_TRAILERS
from http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    PADDED,
    POST,
    SETTINGS_ACK,
    Data,
    Fields,
    Headers,
    Peer,
    data,
    frame,
    padded,
)

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import (
    DataReceived,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    StreamReset,
)

Connect = Callable[..., Peer]

# Well-formed requests.


def test_a_request_without_body(peer: Peer) -> None:
    peer.send(peer.headers(1, GET, (b"accept", b"*/*")))
    expected = [(b"host", b"example.com"), (b"accept", b"*/*")]
    assert peer.events() == [RequestReceived(1, "2", "GET", b"/", expected, True, False)]


def test_a_request_with_body_and_trailers(peer: Peer) -> None:
    """Field note 3, on the way in."""
    peer.send(
        peer.headers(1, POST, (b"content-length", b"10"), end=False),
        data(1, b"12345"),
        data(1, b"67890"),
        peer.headers(1, [(b"x-sum", b"55")]),
    )
    received, *rest = peer.events()
    assert isinstance(received, RequestReceived)
    assert not received.end_stream
    assert rest == [
        DataReceived(1, b"12345"),
        DataReceived(1, b"67890"),
        RequestEnded(1, [(b"x-sum", b"55")]),
    ]


def test_cookies_are_joined_and_host_comes_first(peer: Peer) -> None:
    """Field note 16 and section 8.2.3."""
    event = peer.get(1, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c"))
    assert event.headers == [
        (b"host", b"example.com"),
        (b"x", b"y"),
        (b"cookie", b"a=1; b=2; c"),
    ]


def test_an_equal_host_is_not_given_twice(peer: Peer) -> None:
    """Section 8.3.1; host names compare without case."""
    event = peer.get(1, (b"x", b"y"), (b"host", b"EXAMPLE.com"))
    assert event.headers == [(b"host", b"example.com"), (b"x", b"y")]


def test_host_alone_names_the_authority(peer: Peer) -> None:
    """A request that was translated from HTTP/1.1 may have no :authority."""
    fields: Fields = [*GET[:2], GET[3], (b"x", b"y"), (b"host", b"example.com:8443")]
    peer.send(peer.headers(1, fields))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.headers == [(b"host", b"example.com:8443"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("method", "path"),
    [(b"OPTIONS", b"*"), (b"GET", b"/a?b=c&d=%20"), (b"M-SEARCH", b"/x?"), (b"GET", b"//x/../y")],
)
def test_targets_are_given_as_they_were_sent(peer: Peer, method: bytes, path: bytes) -> None:
    peer.send(peer.headers(1, [(b":method", method), *GET[1:3], (b":path", path)]))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert (event.method, event.target) == (method.decode(), path)


@pytest.mark.parametrize(
    "authority", [b"localhost", b"127.0.0.1:80", b"[::1]:8443", b"xn--bcher-kva.example:", b"a_b"]
)
def test_authorities(peer: Peer, authority: bytes) -> None:
    peer.send(peer.headers(1, [*GET[:2], (b":authority", authority), GET[3]]))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.headers == [(b"host", authority)]


def test_te_trailers_is_allowed(peer: Peer) -> None:
    """Section 8.2.2."""
    assert (b"te", b"trailers") in peer.get(1, (b"te", b"trailers")).headers


def test_values_may_have_tabs_and_octets_above_ascii(peer: Peer) -> None:
    assert peer.get(1, (b"x", b"a\tb \xe9")).headers[-1] == (b"x", b"a\tb \xe9")


def test_an_empty_value_is_allowed(peer: Peer) -> None:
    assert peer.get(1, (b"x", b"")).headers[-1] == (b"x", b"")


@pytest.mark.parametrize(("end", "expected"), [(False, True), (True, False)])
def test_expect_100_continue(peer: Peer, end: bool, expected: bool) -> None:
    """RFC 9110 section 10.1.1; without a body there is nothing to wait for."""
    peer.send(peer.headers(1, POST, (b"expect", b"100-continue"), end=end))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.expect_continue is expected


def test_other_expectations_are_no_100_continue(peer: Peer) -> None:
    assert not peer.post(1, (b"expect", b"tea")).expect_continue


# Malformed requests: stream errors with living siblings (section 8.1.1, field note 19).


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_costs_its_stream_alone(peer: Peer, fields: Fields) -> None:
    peer.post(1)
    peer.send(peer.headers(3, fields))
    assert peer.events() == []
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(("length", "frames"), MALFORMED_BODIES.values(), ids=MALFORMED_BODIES)
def test_a_malformed_message_costs_its_stream_alone(
    peer: Peer, length: int, frames: Callable[[Peer, int], list[bytes]]
) -> None:
    peer.post(1)
    peer.post(3, (b"content-length", b"%d" % length))
    peer.send(*frames(peer, 3))
    *before, reset = peer.events()
    assert isinstance(reset, StreamReset)
    assert (reset.stream_id, reset.error_code, reset.remote) == (3, ErrorCode.PROTOCOL_ERROR, False)
    assert not any(isinstance(event, RequestEnded) for event in before)
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("fields", MALFORMED_TRAILERS.values(), ids=MALFORMED_TRAILERS)
def test_malformed_trailers_cost_their_stream_alone(peer: Peer, fields: Fields) -> None:
    peer.post(1)
    peer.post(3)
    peer.send(data(3, b"body"), peer.headers(3, fields))
    received, reset = peer.events()
    assert received == DataReceived(3, b"body")
    assert isinstance(reset, StreamReset)
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR)


def test_a_malformed_request_may_still_send_its_body(peer: Peer) -> None:
    """It is dropped, and the compression and window state stay right."""
    peer.post(1)
    peer.send(peer.headers(3, [*POST, (b"X", b"y")], end=False), data(3, b"x" * 1000, end=True))
    peer.assert_stream_error(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("length", [b"5", b"0000000000005"])
def test_content_length_that_agrees(peer: Peer, length: bytes) -> None:
    peer.post(1, (b"content-length", length))
    peer.send(data(1, b"123", padding=10), data(1, b"45"), data(1, end=True))
    assert peer.events()[-1] == RequestEnded(1)


def test_content_length_0_without_body(peer: Peer) -> None:
    assert peer.get(1, (b"content-length", b"0")).end_stream


# Requests that are not served.


def test_connect_is_answered_501(peer: Peer) -> None:
    """Field note 9 and section 8.5."""
    peer.send(peer.headers(1, [(b":method", b"CONNECT"), (b":authority", b"a:1")], end=False))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert (event.stream_id, event.status, event.method, event.target) == (
        1,
        501,
        "CONNECT",
        b"a:1",
    )
    peer.respond(1, b"no")
    assert [type(one).__name__ for one in peer.received()] == ["Headers", "Data", "RstStream"]
    peer.assert_serves()


def test_a_header_list_too_large_is_answered_431(peer: Peer) -> None:
    """Section 6.5.2; the fields were decoded, so that the next block is read rightly."""
    fields = [*GET, *[(b"x-%d" % i, b"v" * 1000) for i in range(64)]]
    peer.send(*in_pieces(peer, 1, fields, 16_000))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert (event.stream_id, event.status) == (1, 431)
    peer.engine.send_headers(1, 431, [], True)
    assert peer.received() == [Headers(1, [(b":status", b"431")], True)]
    again = peer.get(3, (b"x-63", b"v" * 1000))
    assert again.headers[-1] == (b"x-63", b"v" * 1000)


def test_a_header_list_of_the_largest_size_is_served(connect: Connect) -> None:
    peer = connect(max_header_list_size=1024)
    size = sum(len(name) + len(value) + 32 for name, value in GET)
    peer.get(1, (b"x", b"v" * (1024 - size - 33)))
    peer.send(peer.headers(3, GET, (b"x", b"v" * (1024 - size - 32))))
    (event,) = peer.events()
    assert isinstance(event, RequestRejected)
    assert event.status == 431


# Field blocks: sections 4.3, 6.2 and 6.10.


def in_pieces(peer: Peer, stream_id: int, fields: Fields, size: int) -> list[bytes]:
    block = peer.block(fields)
    pieces = [block[start : start + size] for start in range(0, len(block), size)]
    frames = [frame(HEADERS, END_STREAM, stream_id, pieces[0])]
    frames += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:]]
    return [*frames, frame(CONTINUATION, END_HEADERS, stream_id)]


def test_a_field_block_in_continuations(peer: Peer) -> None:
    peer.send(*in_pieces(peer, 1, [*GET, (b"x", b"y")], 3))
    (event,) = peer.events()
    assert isinstance(event, RequestReceived)
    assert event.end_stream
    assert event.headers == [(b"host", b"example.com"), (b"x", b"y")]


def test_end_stream_belongs_to_headers_not_to_continuation(peer: Peer) -> None:
    """Section 6.2: the flag on CONTINUATION means nothing."""
    block = peer.block(POST)
    peer.send(frame(HEADERS, 0, 1, block[:2]), frame(CONTINUATION, 0x5, 1, block[2:]))
    peer.send(data(1, b"body", end=True))
    assert peer.events()[1:] == [DataReceived(1, b"body"), RequestEnded(1)]


def test_continuation_of_another_stream_is_a_connection_error(peer: Peer) -> None:
    begun = frame(HEADERS, 0, 1, peer.block(GET))
    wrong = frame(CONTINUATION, END_HEADERS, 3)
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, begun, wrong)


def test_continuation_after_the_end_of_a_block_is_a_connection_error(peer: Peer) -> None:
    wrong = frame(CONTINUATION, END_HEADERS, 1)
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, peer.headers(1), wrong)


def test_too_many_continuations_end_the_connection(peer: Peer) -> None:
    """CVE-2024-27316."""
    begun = frame(HEADERS, 0, 1, peer.block(GET))
    endless = frame(CONTINUATION, 0, 1)
    assert peer.exchange(begun, *[endless] * 64) == []
    peer.assert_connection_error(ErrorCode.ENHANCE_YOUR_CALM, endless)


def test_a_field_block_too_large_ends_the_connection_before_it_is_complete(peer: Peer) -> None:
    begun = frame(HEADERS, 0, 1, peer.block(GET))
    piece = frame(CONTINUATION, 0, 1, b"\0" * 16_384)
    peer.assert_connection_error(ErrorCode.ENHANCE_YOUR_CALM, begun, *[piece] * 64)


def test_a_field_block_that_decodes_to_too_much_ends_the_connection(peer: Peer) -> None:
    """A compression bomb: an octet of input names a large field of the table."""
    peer.send(peer.headers(1, GET, (b"x", b"v" * 3900)))
    bomb = frame(HEADERS, END_HEADERS, 3, b"\xbe" * 10_000)
    peer.assert_connection_error(ErrorCode.ENHANCE_YOUR_CALM, bomb)


BROKEN_BLOCKS = {
    "index 0": b"\x80",
    "index beyond the tables": b"\xff\x7f",
    "cut off": b"\x40\x05abc",
    "endless integer": b"\x7f" + b"\xff" * 10_000,
    "bad Huffman code": b"\x00\x01a\x84\xff\xff\xff\xff",
    "bad Huffman padding": b"\x00\x01a\x81\x00",
    "table larger than allowed": b"\x3f\xe2\x1f",
    "table size after a field": b"\x82\x20",
}


@pytest.mark.parametrize("block", BROKEN_BLOCKS.values(), ids=BROKEN_BLOCKS)
def test_a_field_block_that_cannot_be_decoded_is_a_connection_error(
    peer: Peer, block: bytes
) -> None:
    """Section 4.3, on a new stream and as trailers alike."""
    peer.assert_connection_error(ErrorCode.COMPRESSION_ERROR, frame(HEADERS, 0x5, 1, block))
    assert peer.log.sizes[-1][1] < 200, "the broken input was sent back"


@pytest.mark.parametrize("where", ["trailers", "refused", "late"])
def test_field_blocks_are_decoded_wherever_they_belong(connect: Connect, where: str) -> None:
    """Section 4.3: also when the fields are thrown away."""
    peer = connect(max_concurrent_streams=1)
    peer.post(1)
    stream_id = 3 if where == "refused" else 1
    if where == "late":
        peer.engine.reset_stream(1, ErrorCode.CANCEL)
    peer.assert_connection_error(
        ErrorCode.COMPRESSION_ERROR, frame(HEADERS, 0x5, stream_id, b"\x80")
    )


def test_a_smaller_compression_table_is_followed(peer: Peer) -> None:
    """Section 4.3.1: table size updates at the start of a block."""
    peer.encoder.header_table_size = 100
    assert peer.get(1, (b"x", b"y" * 60)).headers[-1] == (b"x", b"y" * 60)
    peer.encoder.header_table_size = 4096
    assert peer.get(3, (b"x", b"y" * 60)).headers[-1] == (b"x", b"y" * 60)
    assert peer.get(5, (b"x", b"y" * 60)).headers[-1] == (b"x", b"y" * 60)


def test_padded_headers(peer: Peer) -> None:
    """Section 6.2."""
    peer.send(frame(HEADERS, 0xD, 1, padded(peer.block(GET), 200)))
    assert isinstance(peer.events()[0], RequestReceived)


@pytest.mark.parametrize("payload", [b"\x01", b"\x05\x82\x86\x84"], ids=["1 of 0", "5 of 3"])
@pytest.mark.parametrize("kind", [DATA, HEADERS], ids=["DATA", "HEADERS"])
def test_padding_as_long_as_the_frame_is_a_connection_error(
    peer: Peer, kind: int, payload: bytes
) -> None:
    """Sections 6.1 and 6.2."""
    peer.post(1)
    wrong = frame(kind, PADDED | END_HEADERS, 1, payload)
    peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, wrong)


def test_padding_that_fills_the_frame_but_its_length(peer: Peer) -> None:
    peer.post(1)
    peer.send(data(1, b"", padding=255), data(1, b"x", padding=0, end=True))
    assert peer.events() == [DataReceived(1, b"x"), RequestEnded(1)]


# Responses on the wire.


def test_informational_responses_come_before_the_final_one(peer: Peer) -> None:
    """Section 8.1: any number of 1xx, none of which ends the stream."""
    peer.post(1)
    peer.engine.send_informational(1, 100, [])
    peer.engine.send_informational(1, 103, [(b"link", b"</style.css>")])
    peer.send(data(1, b"body", end=True))
    peer.respond(1, b"answer")
    assert peer.received() == [
        Headers(1, [(b":status", b"100")], False),
        Headers(1, [(b":status", b"103"), (b"link", b"</style.css>")], False),
        Headers(1, [(b":status", b"200")], False),
        Data(1, b"answer", True),
    ]


@pytest.mark.parametrize("body", [b"", b"body"])
def test_trailers_end_the_response(peer: Peer, body: bytes) -> None:
    """Field note 3 and section 8.1."""
    peer.get(1)
    peer.engine.send_headers(1, 200, [(b"trailer", b"x-sum")], False)
    peer.engine.send_data(1, body, False)
    peer.engine.send_trailers(1, [(b"x-sum", b"1")])
    head, *middle, last = peer.received()
    assert head == Headers(1, [(b":status", b"200"), (b"trailer", b"x-sum")], False)
    assert middle == ([Data(1, b"body", False)] if body else [])
    assert last == Headers(1, [(b"x-sum", b"1")], True)


@pytest.mark.parametrize("how", ["headers", "data", "empty data", "late empty data"])
def test_every_response_ends_its_stream(peer: Peer, how: str) -> None:
    """Field note 3: the last frame carries END_STREAM, whatever the last frame is."""
    peer.get(1)
    peer.engine.send_headers(1, 200, [], how == "headers")
    if how == "late empty data":
        peer.engine.send_data(1, b"body", False)
        peer.received()
    if how != "headers":
        peer.engine.send_data(1, b"body" if how == "data" else b"", True)
    last = peer.received()[-1]
    assert isinstance(last, Headers | Data)
    assert last.end_stream
    peer.assert_serves()


def test_a_large_header_section_goes_out_in_continuations(peer: Peer) -> None:
    """Sections 4.2, 4.3 and 6.10; ``FrameLog`` checks the pieces."""
    peer.get(1)
    fields = [(b"x-%d" % i, b"v" * 1000) for i in range(40)]
    peer.engine.send_headers(1, 200, fields, True)
    assert peer.received() == [Headers(1, [(b":status", b"200"), *fields], True)]
    assert [kind for kind, _ in peer.log.sizes[-3:]] == [HEADERS, CONTINUATION, CONTINUATION]


def test_a_trailer_section_may_need_continuations(peer: Peer) -> None:
    peer.get(1)
    fields = [(b"x-%d" % i, b"v" * 1000) for i in range(40)]
    peer.engine.send_headers(1, 200, [], False)
    peer.engine.send_trailers(1, fields)
    assert peer.received()[-1] == Headers(1, fields, True)


def test_field_order_and_repetitions_survive(peer: Peer) -> None:
    peer.get(1)
    fields = [(b"set-cookie", b"a"), (b"x", b"1"), (b"set-cookie", b"b"), (b"x", b"1")]
    peer.engine.send_headers(1, 200, fields, True)
    assert peer.received() == [Headers(1, [(b":status", b"200"), *fields], True)]


def test_a_settings_acknowledgement_changes_nothing(peer: Peer) -> None:
    peer.exchange(SETTINGS_ACK, SETTINGS_ACK)
    peer.assert_serves()
