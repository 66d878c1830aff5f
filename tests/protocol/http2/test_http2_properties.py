"""What holds for every sequence: chunking, broken input, and the books of flow control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from hpack import Encoder
from http2_peer import (
    ALL,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_ID,
    POST,
    PREFACE,
    Data,
    EngineFactory,
    Goaway,
    Peer,
    SettingsAck,
    WindowUpdate,
    data,
    frame,
    goaway,
    padded,
    ping,
    priority,
    priority_update,
    rst_stream,
    window_update,
)
from http2_peer import settings as settings_frame
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from h2asgi.errors import ErrorCode
from h2asgi.limits import WatchedBudget
from h2asgi.protocol.engine import SEND_HIGH_WATER
from h2asgi.protocol.events import DataReceived, Event, SendQueueDrained
from h2asgi.protocol.http2.sender import MAX_UNQUEUED

# The engine factory makes a new engine each time; that it is a fixture does not matter.
every = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

STREAM_IDS = st.sampled_from([0, 1, 3, 5, 7, 2, 4, 2**31 - 1])
OPEN_IDS = st.sampled_from([1, 3, 5])
FIELDS = st.sampled_from(
    [
        GET,
        POST,
        [*POST, (b"content-length", b"20")],
        [*GET, (b"x-some", b"thing"), (b"cookie", b"a=b"), (b"cookie", b"c=d")],
        [*GET, (b"X-Upper", b"case")],
        [(b":method", b"CONNECT"), (b":authority", b"example.com:443")],
        [(b"x-sum", b"1")],
        [*GET, (b"x-large", b"v" * 3_000)],
    ]
)

Step = Callable[[Encoder], bytes]


def headers_in_pieces(
    stream_id: int, fields: list[tuple[bytes, bytes]], size: int, end: bool
) -> Step:
    def build(encoder: Encoder) -> bytes:
        block = encoder.encode(fields)
        pieces = [block[start : start + size] for start in range(0, len(block), size)]
        frames = [frame(HEADERS, END_STREAM if end else 0, stream_id, pieces[0])]
        frames += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:]]
        return b"".join([*frames, frame(CONTINUATION, END_HEADERS, stream_id)])

    return build


def padded_headers(stream_id: int, fields: list[tuple[bytes, bytes]], padding: int) -> Step:
    return lambda encoder: frame(HEADERS, 0xC, stream_id, padded(encoder.encode(fields), padding))


def ready(octets: bytes) -> Step:
    return lambda encoder: octets


STEPS = st.one_of(
    st.builds(
        headers_in_pieces, STREAM_IDS, FIELDS, st.sampled_from([7, 300, 16_384]), st.booleans()
    ),
    st.builds(headers_in_pieces, OPEN_IDS, FIELDS, st.sampled_from([7, 16_384]), st.just(False)),
    st.builds(padded_headers, STREAM_IDS, FIELDS, st.integers(0, 255)),
    st.builds(
        lambda id, size, end, padding: ready(data(id, b"d" * size, end=end, padding=padding)),
        OPEN_IDS,
        st.sampled_from([0, 1, 10, 20, 5_000, 16_000]),
        st.booleans(),
        st.one_of(st.none(), st.integers(0, 255)),
    ),
    st.builds(lambda id, code: ready(rst_stream(id, code)), STREAM_IDS, st.integers(0, 20)),
    st.builds(
        lambda id, value: ready(window_update(id, value)),
        STREAM_IDS,
        st.sampled_from([0, 1, 65_535, MAX_ID]),
    ),
    st.builds(
        lambda pairs: ready(settings_frame(*pairs)),
        st.lists(
            st.tuples(st.integers(0, 10), st.sampled_from([0, 1, 16_384, 100_000, 2**32 - 1]))
        ),
    ),
    st.builds(lambda ack: ready(ping(ack=ack)), st.booleans()),
    st.builds(lambda id: ready(priority(id)), STREAM_IDS),
    st.builds(lambda last: ready(goaway(last)), STREAM_IDS),
    st.builds(
        lambda id, value: ready(priority_update(id, value)),
        STREAM_IDS,
        st.sampled_from([b"u=0", b"i", b"u=7, i", b"", b"(broken"]),
    ),
    st.builds(
        lambda kind, flags, id, payload: ready(frame(kind, flags, id, payload)),
        st.integers(0, 17),
        st.integers(0, 255),
        STREAM_IDS,
        st.binary(max_size=20),
    ),
)

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "insert", "length", "swap"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    max_size=4,
)


def build(steps: list[Step], mutations: list[tuple[str, float, int]]) -> bytes:
    """A connection's input: mostly right, then spoilt."""
    encoder = Encoder()
    frames = [settings_frame(), *(step(encoder) for step in steps)]
    for what, where, value in mutations:
        if what == "swap":
            place = int(where * len(frames))
            frames[place], frames[-1] = frames[-1], frames[place]
        elif what == "length":
            place = int(where * len(frames))
            frames[place] = frames[place][:2] + bytes([value]) + frames[place][3:]
    octets = bytearray(PREFACE + b"".join(frames))
    for what, where, value in mutations:
        place = int(where * len(octets))
        if what == "flip":
            octets[place] ^= 1 << value % 8
        elif what == "cut":
            del octets[max(place, 1) :]
        elif what == "drop":
            del octets[place : place + 1 + value % 20]
        elif what == "insert":
            octets[place:place] = bytes([value]) * (1 + value % 20)
        if not octets:
            octets = bytearray(b"P")
    return bytes(octets)


def outcome(
    engine_factory: EngineFactory, octets: bytes, cuts: list[float]
) -> tuple[list[Event], bytes]:
    engine = engine_factory(max_header_list_size=2_048, max_concurrent_streams=2)
    events: list[Event] = []
    places = sorted({0, len(octets), *(int(cut * len(octets)) for cut in cuts)})
    for start, end in pairwise(places):
        buffer = bytearray(octets[start:end])
        engine.receive_data(memoryview(buffer), 0.0)
        buffer[:] = b"\xff" * len(buffer)
        events += engine.take_events()
    return events, engine.data_to_send(ALL, 0.0)


@given(
    steps=st.lists(STEPS, max_size=12),
    mutations=MUTATIONS,
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
@settings(every, max_examples=400)
def test_any_chunking_of_any_input_has_the_same_outcome(
    engine_factory: EngineFactory,
    steps: list[Step],
    mutations: list[tuple[str, float, int]],
    cuts: list[float],
) -> None:
    """Broken or not, the same events and octets, the buffer overwritten between the calls."""
    octets = build(steps, mutations)
    assert outcome(engine_factory, octets, cuts) == outcome(engine_factory, octets, [])


@given(steps=st.lists(STEPS, max_size=4), mutations=MUTATIONS)
@settings(every, max_examples=60)
def test_octet_by_octet_has_the_same_outcome(
    engine_factory: EngineFactory, steps: list[Step], mutations: list[tuple[str, float, int]]
) -> None:
    octets = build(steps, mutations)[:3_000]
    cuts = [place / len(octets) for place in range(len(octets))]
    assert outcome(engine_factory, octets, cuts) == outcome(engine_factory, octets, [])


@given(octets=st.binary(max_size=200), preface=st.booleans())
@settings(every, max_examples=200)
def test_noise_never_raises(engine_factory: EngineFactory, octets: bytes, preface: bool) -> None:
    start = PREFACE + settings_frame() if preface else b""
    events, output = outcome(engine_factory, start + octets, [0.5])
    assert len(output) < 10_000
    assert len(events) < 100


# The books of what we receive.

CONNECTION = 65_535
WINDOW = 16_384
MAXIMUM = 6 * WINDOW
PEER_MOVES = ["data", "data", "data", "padded", "end", "client reset"]
OUR_MOVES = ["read", "read", "our reset", "respond"]


@dataclass
class Upload:
    """One stream as the client and the application see it."""

    stream_id: int
    window: int = WINDOW
    unread: int = 0
    request_ended: bool = False
    closed: bool = False


@dataclass
class Books:
    """A client that keeps to its windows, and an application that reads as it likes."""

    peer: Peer
    window: int = CONNECTION
    uploads: list[Upload] = field(default_factory=list)

    def open(self) -> None:
        upload = Upload(2 * len(self.uploads) + 1)
        self.peer.send(self.peer.headers(upload.stream_id, POST, end=False))
        self.uploads.append(upload)

    def move(self, what: str, upload: Upload, size: int) -> None:
        if what in ("data", "padded", "end") and not upload.request_ended:
            self.send_data(what, upload, size)
        elif what == "client reset":
            self.peer.send(rst_stream(upload.stream_id))
            upload.request_ended = upload.closed = True
            upload.unread = 0
        elif what == "read":
            size = min(size, upload.unread)
            upload.unread -= size
            self.peer.engine.acknowledge_received_data(upload.stream_id, size)
        elif what == "our reset":
            # The client has not seen it yet, and may go on sending.
            self.peer.engine.reset_stream(upload.stream_id, ErrorCode.CANCEL)
            upload.unread, upload.closed = 0, True
        elif what == "respond":
            self.peer.respond(upload.stream_id, b"answer")
            self.settle()
            upload.unread, upload.closed = 0, True
        self.settle()

    def send_data(self, what: str, upload: Upload, size: int) -> None:
        padding = size % 256 if what == "padded" else None
        overhead = 0 if padding is None else padding + 1
        size = min(size, 16_384 - overhead, self.window - overhead, upload.window - overhead)
        if size < 0:
            return
        upload.request_ended = what == "end"
        self.window -= size + overhead
        upload.window -= size + overhead
        self.peer.send(data(upload.stream_id, b"x" * size, end=what == "end", padding=padding))

    def settle(self) -> None:
        for event in self.peer.events():
            if isinstance(event, DataReceived):
                self.uploads[event.stream_id // 2].unread += len(event.data)
        for one in self.peer.received():
            assert not isinstance(one, Goaway), "the books of client and server differ"
            if isinstance(one, WindowUpdate) and one.stream_id:
                self.uploads[one.stream_id // 2].window += one.increment
            elif isinstance(one, WindowUpdate):
                self.window += one.increment

    def check(self) -> None:
        unread = sum(upload.unread for upload in self.uploads)
        assert self.window >= 0
        assert self.window + unread <= MAXIMUM
        if unread + WINDOW + WINDOW // 2 <= MAXIMUM:
            assert self.window >= WINDOW, "unread streams starve their siblings"
        for upload in self.uploads:
            assert upload.window + upload.unread <= WINDOW
            if not upload.unread and not upload.request_ended and not upload.closed:
                assert upload.window > WINDOW // 2, "the client waits for credit that is due"


@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from(["open", *PEER_MOVES, *OUR_MOVES]),
            st.integers(0, 5),
            st.sampled_from([0, 1, 255, 256, 5_000, WINDOW // 2, WINDOW, WINDOW]),
        ),
        min_size=5,
        max_size=100,
    )
)
@settings(every, max_examples=200)
def test_the_books_of_received_data_balance(
    engine_factory: EngineFactory, moves: list[tuple[str, int, int]]
) -> None:
    engine = engine_factory(
        stream_window=WINDOW, connection_window=CONNECTION, max_connection_window=MAXIMUM
    )
    peer = Peer(engine)
    books = Books(peer)
    peer.send(PREFACE, settings_frame())
    books.open()
    books.settle()
    for what, place, size in moves:
        note(f"{what} {place} {size}")
        if what == "open":
            books.open()
        else:
            books.move(what, books.uploads[place % len(books.uploads)], size)
        books.check()
    for upload in books.uploads:
        books.move("read", upload, upload.unread)
        books.move("our reset", upload, 0)
    assert CONNECTION // 2 < books.window <= CONNECTION


# The books of what we send.


APPLICATION_MOVES = ["write", "write", "write", "end", "trailers"]
CLIENT_MOVES = ["credit", "credit", "connection", "initial", "frame size", "read", "read some"]


@dataclass
class Download:
    """One response as the application wrote it and the client read it."""

    stream_id: int
    window: int
    written: bytearray = field(default_factory=bytearray)
    read: bytearray = field(default_factory=bytearray)
    ended: bool = False
    waits: bool = False
    end_read: bool = False


@dataclass
class Downloads:
    """An application that writes, and a client that checks what it was allowed to write."""

    peer: Peer
    window: int = CONNECTION
    initial: int = CONNECTION
    frame_size: int = 16_384
    downloads: list[Download] = field(default_factory=list)
    unacknowledged: list[tuple[int, list[Download]]] = field(default_factory=list)

    def open(self) -> None:
        download = Download(2 * len(self.downloads) + 1, self.initial)
        self.peer.send(self.peer.headers(download.stream_id))
        self.peer.engine.send_headers(download.stream_id, 200, [], False)
        self.downloads.append(download)

    def write(self, download: Download, size: int, end: bool) -> None:
        if download.ended or download.waits:
            return
        start = len(download.written)
        piece = bytes((start + place) % 251 for place in range(size))
        download.written += piece
        download.ended = end
        queued = self.peer.engine.send_data(download.stream_id, piece, end)
        # What is written without having been in the queue does not wait.
        unread = len(download.written) - len(download.read)
        assert unread - MAX_UNQUEUED <= queued <= unread
        download.waits = queued > SEND_HIGH_WATER

    def end_with_trailers(self, download: Download) -> None:
        if not download.ended:
            download.ended = True
            self.peer.engine.send_trailers(download.stream_id, [(b"x-sum", b"1")])

    def credit(self, download: Download | None, size: int) -> None:
        if download is None:
            self.window += size
        elif download.end_read:
            return
        else:
            download.window += size
        self.peer.send(window_update(download.stream_id if download else 0, size))

    def set_initial_window(self, size: int) -> None:
        """What was on its way before the acknowledgement kept to the windows before it."""
        self.unacknowledged.append((size - self.initial, self.downloads.copy()))
        self.initial = size
        self.peer.send(settings_frame((INITIAL_WINDOW_SIZE, size)))

    def set_frame_size(self, size: int) -> None:
        self.unacknowledged.append((0, []))
        self.peer.log.max_frame_size = self.frame_size = size
        self.peer.send(settings_frame((MAX_FRAME_SIZE, size)))

    def settings_are_acknowledged(self) -> None:
        change, downloads = self.unacknowledged.pop(0)
        for download in downloads:
            download.window += change

    def read(self, limit: int = ALL) -> None:
        before = self.peer.log.octets
        for one in self.peer.received(limit):
            assert not isinstance(one, Goaway)
            if isinstance(one, Data):
                self.take(one)
            elif isinstance(one, SettingsAck):
                self.settings_are_acknowledged()
            elif hasattr(one, "end_stream") and one.end_stream:
                self.downloads[one.stream_id // 2].end_read = True
        if self.peer.log.octets - before < limit:
            self.assert_nothing_is_held_back()
        for event in self.peer.events():
            if isinstance(event, SendQueueDrained):
                download = self.downloads[event.stream_id // 2]
                assert download.waits
                download.waits = False

    def take(self, one: Data) -> None:
        download = self.downloads[one.stream_id // 2]
        assert not download.end_read
        size = len(one.data)
        assert size <= self.frame_size
        assert not size or size <= min(self.window, download.window), "beyond the window"
        assert size or one.end_stream, "an empty frame that means nothing"
        self.window -= size
        download.window -= size
        download.read += one.data
        download.end_read = one.end_stream

    def assert_nothing_is_held_back(self) -> None:
        for download in self.downloads:
            queued = len(download.written) - len(download.read)
            assert not queued or min(self.window, download.window) <= 0
            assert queued or download.end_read is download.ended


@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from(["open", *APPLICATION_MOVES, *CLIENT_MOVES]),
            st.integers(0, 5),
            st.sampled_from([1, 10, 1_000, 16_384, 16_385, 50_000, 65_535, 100_000]),
        ),
        min_size=3,
        max_size=60,
    )
)
@settings(every, max_examples=150)
def test_the_books_of_sent_data_balance(
    engine_factory: EngineFactory, moves: list[tuple[str, int, int]]
) -> None:
    """Never beyond a window or a frame's size; whatever may go goes; in the end all has arrived."""
    budget = WatchedBudget(10**9)
    peer = Peer(engine_factory(unsent=budget)).connect()
    books = Downloads(peer)
    books.open()
    for what, place, size in moves:
        note(f"{what} {place} {size}")
        download = books.downloads[place % len(books.downloads)]
        if what == "open":
            books.open()
        elif what in ("write", "end"):
            books.write(download, size, what == "end")
        elif what == "trailers":
            books.end_with_trailers(download)
        elif what == "credit":
            books.credit(download, size)
        elif what == "connection":
            books.credit(None, size)
        elif what == "initial":
            books.set_initial_window(size - 1)
        elif what == "frame size":
            books.set_frame_size(16_384 + size)
        else:
            books.read(size if what == "read some" else ALL)
        assert budget.used == peer.engine.unsent
    books.set_initial_window(10**8)
    books.credit(None, 10**8)
    books.read()
    for download in books.downloads:
        books.end_with_trailers(download)
    books.read()
    for download in books.downloads:
        assert download.end_read
        assert download.read == download.written
        assert not download.waits
    assert budget.used == 0
