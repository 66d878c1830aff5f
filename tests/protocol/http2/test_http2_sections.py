"""What is remembered of field sections: only what still means the same."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from http2_peer import Headers, Peer
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.protocol.events import RequestReceived
from h2asgi.protocol.http2.sections import (
    MAX_REMEMBERED,
    MAX_REMEMBERED_OCTETS,
    RequestSections,
    ResponseSections,
    changes_table,
)

GET = [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"https"), (b":authority", b"h")]


pytestmark = pytest.mark.interpreted  # codecs of their own have an interpreted class


class CountingCodec:
    """A codec on hpack that counts its work."""

    spent = False

    def __init__(self) -> None:
        self.decoded = 0
        self.encoded = 0
        self._decoder = Decoder()
        self._encoder = Encoder()

    def decode_request(self, block: bytes, end_stream: bool) -> list[tuple[bytes, bytes]]:
        return self.decode_trailers(block)

    def decode_trailers(self, block: bytes) -> list[tuple[bytes, bytes]]:
        self.decoded += 1
        return self._decoder.decode(block, raw=True)  # type: ignore[return-value]

    def encode(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        self.encoded += 1
        return self._encoder.encode(fields)

    def resize_encoder_table(self, size: int) -> None:
        self._encoder.header_table_size = size


@pytest.fixture
def codec() -> CountingCodec:
    return CountingCodec()


@pytest.fixture
def requests(codec: CountingCodec) -> RequestSections:
    return RequestSections(codec, 65_536)


@pytest.fixture
def responses(codec: CountingCodec) -> ResponseSections:
    return ResponseSections(codec)


def unindexed(path: bytes, value: bytes = b"1") -> bytes:
    """A request that leaves the dynamic table alone."""
    fields = [*GET, (b":path", path), (b"x-a", value)]
    del fields[1]
    fields.insert(3, fields.pop(3))
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])


def test_a_block_that_changes_nothing_is_decoded_once(
    requests: RequestSections, codec: CountingCodec
) -> None:
    first = requests.request(unindexed(b"/a"), True)
    assert requests.request(unindexed(b"/a"), False) is first
    assert codec.decoded == 1


def test_a_change_of_the_table_forgets_everything(
    requests: RequestSections, codec: CountingCodec
) -> None:
    """The same octets mean something else once the index is another's (RFC 7541 section 2.3.3)."""
    encoder = Encoder()
    inserting = encoder.encode([*GET, (b"x-user", b"alice")])
    indexed = encoder.encode([*GET, (b"x-user", b"alice")])
    requests.request(inserting, True)
    alice = requests.request(indexed, True)
    requests.request(Encoder().encode([*GET, (b"x-user", b"bob")]), True)
    bob = requests.request(indexed, True)
    assert (b"x-user", b"alice") in alice.headers  # type: ignore[union-attr]
    assert (b"x-user", b"bob") in bob.headers  # type: ignore[union-attr]


def test_trailers_that_change_the_table_count_too(
    requests: RequestSections, codec: CountingCodec
) -> None:
    requests.request(unindexed(b"/a"), True)
    requests.trailers(Encoder().encode([(b"x-sum", b"1")]))
    requests.request(unindexed(b"/a"), True)
    assert codec.decoded == 3


def test_what_is_not_served_is_not_remembered(
    requests: RequestSections, codec: CountingCodec
) -> None:
    block = unindexed(b"no-slash")
    assert requests.request(block, True).status == 400  # type: ignore[union-attr]
    assert requests.request(block, True).status == 400  # type: ignore[union-attr]
    assert codec.decoded == 2


def test_what_is_remembered_is_bounded(requests: RequestSections, codec: CountingCodec) -> None:
    for number in range(3 * MAX_REMEMBERED):
        requests.request(unindexed(b"/%d" % number), True)
        assert len(requests._remembered) <= MAX_REMEMBERED
    large = unindexed(b"/", b"x" * MAX_REMEMBERED_OCTETS)
    decoded = codec.decoded
    requests.request(large, True)
    requests.request(large, True)
    assert codec.decoded == decoded + 2


def test_a_response_that_repeats_is_encoded_until_it_is_all_indexes(
    responses: ResponseSections, codec: CountingCodec
) -> None:
    decoder = Decoder()
    fields = [(b"x-a", b"1"), (b"date", b"now")]
    for _ in range(5):
        section = [(b":status", b"200"), *fields]
        assert decoder.decode(responses.response(200, fields), raw=True) == section
    assert codec.encoded == 2
    other = [(b"x-a", b"1"), (b"date", b"later")]
    for fields_now in (other, fields, other, fields):
        section = [(b":status", b"200"), *fields_now]
        assert decoder.decode(responses.response(200, fields_now), raw=True) == section


def test_a_resized_table_is_spoken_of_in_the_next_block(
    responses: ResponseSections, codec: CountingCodec
) -> None:
    decoder = Decoder()
    for _ in range(3):
        decoder.decode(responses.response(200, [(b"x-a", b"1")]))
    responses.resize_table(0)
    decoder.max_allowed_table_size = 0
    decoder.decode(responses.response(200, [(b"x-a", b"1")]))


def test_requests_with_the_same_block_have_header_lists_of_their_own(peer: Peer) -> None:
    for stream_id in (1, 3, 5):
        peer.send(peer.headers(stream_id))
    first, second, third = (event for event in peer.events() if type(event) is RequestReceived)
    assert first.headers == second.headers == third.headers
    assert len({id(event.headers) for event in (first, second, third)}) == 3


def test_a_client_can_read_every_repetition(peer: Peer) -> None:
    fields = [(b"content-type", b"text/plain"), (b"x-request", b"1")]
    for stream_id in range(1, 20, 2):
        peer.get(stream_id)
        peer.engine.send_headers(stream_id, 200, fields, True)
        assert peer.received() == [Headers(stream_id, [(b":status", b"200"), *fields], True)]


names = st.sampled_from([b"x-a", b"x-b", b":path", b"cookie", b"content-length"])
values = st.binary(max_size=200)


@given(st.lists(st.lists(st.tuples(names, values, st.booleans()), max_size=6), max_size=6))
def test_every_change_of_the_table_is_seen(
    sections: list[list[tuple[bytes, bytes, bool]]],
) -> None:
    encoder, decoder = Encoder(), Decoder()
    for section in sections:
        fields = [
            NeverIndexedHeaderTuple(name, value) if never else (name, value)
            for name, value, never in section
        ]
        before = list(decoder.header_table.dynamic_entries)
        block = encoder.encode(fields)
        decoder.decode(block, raw=True)
        after = list(decoder.header_table.dynamic_entries)
        assert changes_table(block) == (before != after)


def test_a_size_update_is_a_change() -> None:
    assert changes_table(b"\x20")
    assert changes_table(b"\x82\x3f\xe1\x1f")
    assert not changes_table(b"\x82\xff\x80\x01")
