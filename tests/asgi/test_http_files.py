"""``http.response.pathsend`` and ``http.response.zerocopysend``: files as bodies."""

from __future__ import annotations

import asyncio
import io
import os
import threading

import pytest
from fake_sink import FakeSink, cycle, send_all

from h2asgi.asgi import files
from h2asgi.errors import ClientDisconnected, ErrorCode, IllegalMessage

RESET = ("reset", ErrorCode.INTERNAL_ERROR)
DEFAULTS = {b"server": b"h2asgi", b"date": b"now"}
SIZES = [0, 1, files.FIRST_PIECE, files.FIRST_PIECE + 1, 3 * files.LARGEST_PIECE + 5]


def start(*headers, status=200, **more):
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(data=b"", more_body=False):
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def pathsend(path):
    return {"type": "http.response.pathsend", "path": str(path)}


def zerocopysend(file, **more):
    return {"type": "http.response.zerocopysend", "file": file, **more}


def length(size):
    return (b"content-length", b"%d" % size)


def octets(size):
    """Octets of which no two places look alike."""
    return b"".join(b"%08d" % i for i in range(size // 8 + 1))[:size]


@pytest.fixture
def file(tmp_path):
    """Write a file of so many octets, and give its path."""

    def write(size):
        path = tmp_path / f"{size}"
        path.write_bytes(octets(size))
        return path

    return write


@pytest.fixture(autouse=True)
def _no_descriptor_is_left():
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


# What is sent.


@pytest.mark.parametrize("size", SIZES)
def test_a_path_is_sent_whole_with_its_length(file, size):
    sink, _ = send_all(start(), pathsend(file(size)))
    assert sink.head == (200, dict([length(size)]) | DEFAULTS, size == 0)
    assert sink.body == octets(size)
    assert [call[2] for call in sink.calls if call[0] == "data"].count(True) == (size > 0)
    assert sink.finished == [(200, size)]


def test_pieces_grow_as_the_client_takes_them(file):
    size = 2 * files.LARGEST_PIECE
    sink, _ = send_all(start(), pathsend(file(size)))
    assert [len(call[1]) for call in sink.calls[1:]] == [96 << 10, 192 << 10, 224 << 10]


@pytest.mark.parametrize("size", SIZES)
def test_an_open_file_is_sent_from_its_position_on(file, size):
    with open(file(size), "rb") as opened:
        taken = opened.read(3)
        sink, _ = send_all(start(), zerocopysend(opened))
        assert taken + sink.body == octets(size)
        assert opened.tell() == size


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_count_moves_the_position_to_where_the_next_one_goes_on(file, buffering):
    with open(file(100), "rb", buffering=buffering) as opened:
        sink, _ = send_all(
            start(),
            zerocopysend(opened, count=10, more_body=True),
            body(b"|", True),
            zerocopysend(opened, count=5),
        )
    assert sink.body == octets(10) + b"|" + octets(15)[10:]
    assert b"content-length" not in sink.head[1]
    assert sink.finished == [(200, 16)]


def test_an_offset_leaves_the_position_alone(file):
    with open(file(100), "rb") as opened:
        sink, _ = send_all(start(status=206), zerocopysend(opened, offset=90, count=5))
        assert opened.tell() == 0
    assert sink.body == octets(100)[90:95]
    assert sink.head[1][b"content-length"] == b"5"


def test_a_descriptor_will_do_and_stays_the_applications(file):
    descriptor = os.open(file(20), os.O_RDONLY)
    try:
        os.lseek(descriptor, 4, os.SEEK_SET)
        sink, _ = send_all(start(), zerocopysend(descriptor, count=6))
        assert sink.body == octets(10)[4:]
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 10
    finally:
        os.close(descriptor)


def test_a_file_is_followed_by_more_or_by_the_end_of_the_body(file):
    with open(file(10), "rb") as opened:
        sink, _ = send_all(start(), zerocopysend(opened, more_body=True), body())
    assert sink.calls[1:] == [("data", octets(10), False), ("data", b"", True)]


def test_trailers_may_follow_a_file(file):
    checksum = (b"x-checksum", b"1")
    message = {"type": "http.response.trailers", "headers": [checksum]}
    sink, _ = send_all(start(trailers=True), pathsend(file(10)), message)
    assert sink.calls[1:] == [("data", octets(10), False), ("trailers", [checksum])]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_a_response_without_content_reads_nothing(file, monkeypatch, method, status):
    monkeypatch.delattr(os, "pread")
    sink, _ = send_all(start(length(10), status=status), pathsend(file(10)), method=method)
    assert sink.kinds == ["headers", "flush"]
    assert sink.head[1][b"content-length"] == b"10"
    assert sink.finished == [(status, 0)]


# What is refused.


def refused_paths(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    return {
        "missing": tmp_path / "nothing",
        "a folder": tmp_path / "folder",
        "a pipe": tmp_path / "fifo",
        "a device": "/dev/zero",
        "no path": "a\0b",
        "too long": "/" + "x" * 5000,
    }


@pytest.mark.parametrize(
    "kind", ["missing", "a folder", "a pipe", "a device", "no path", "too long"]
)
def test_a_path_that_cannot_be_sent_writes_nothing(tmp_path, kind):
    sink, reason = send_all(start(), pathsend(refused_paths(tmp_path)[kind]))
    assert len(reason) < 200
    assert sink.calls == []
    assert sink.finished == []


def test_a_file_that_may_not_be_read_writes_nothing(file, monkeypatch):
    """Of one that belongs to somebody else, even where the tests may read everything."""

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    sink, reason = send_all(start(), pathsend(file(10)))
    assert "Permission denied" in reason
    assert sink.calls == []


def test_after_a_refusal_the_response_can_still_be_given(tmp_path):
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        await one.send(start())
        with pytest.raises(IllegalMessage) as caught:
            await one.send(pathsend(tmp_path / "nothing"))
        assert isinstance(caught.value.__cause__, FileNotFoundError)
        assert not isinstance(caught.value, OSError)  # the client is not gone
        await one.send(body(b"sorry"))
        assert sink.body == b"sorry"

    asyncio.run(main())


@pytest.mark.parametrize(("size", "word"), [(9, "longer"), (11, "shorter")])
def test_a_file_of_another_length_than_content_length_writes_nothing(file, size, word):
    sink, reason = send_all(start(length(size)), pathsend(file(10)))
    assert word in reason
    assert sink.calls == []


@pytest.mark.parametrize("part", [{"count": 11}, {"offset": 5, "count": 6}, {"offset": 11}])
def test_a_part_that_is_not_there_writes_nothing(file, part):
    with open(file(10), "rb") as opened:
        sink, reason = send_all(start(), zerocopysend(opened, **part))
        assert opened.tell() == 0
    assert "10 octets" in reason
    assert sink.calls == []


def closed_file():
    with open(os.devnull) as opened:
        pass
    return opened


@pytest.mark.parametrize(
    "message",
    [
        pathsend("x") | {"path": b"/etc/hostname"},
        pathsend("x") | {"path": None},
        zerocopysend(io.BytesIO(b"x")),
        zerocopysend("x"),
        zerocopysend(None),
        zerocopysend(-1),
        zerocopysend(closed_file()),
        zerocopysend(0, offset=-1),
        zerocopysend(0, count="x"),
    ],
)
def test_what_is_no_file_writes_nothing(message):
    sink, reason = send_all(start(), message)
    assert reason
    assert sink.calls == []


@pytest.mark.parametrize("message", [pathsend("/etc/hostname"), zerocopysend(0)])
def test_a_file_before_the_start_is_refused(message):
    sink, reason = send_all(message)
    assert "before" in reason
    assert sink.calls == []


def test_a_path_behind_a_piece_of_body_resets_the_stream(file):
    sink, reason = send_all(start(), body(b"x", True), pathsend(file(10)))
    assert reason
    assert sink.calls[-1] == RESET


# While it is sent.


class Stalled:
    """A path of three pieces, of which the client has taken none; ``go_on`` lets it take all."""

    def __init__(self, file):
        self.size = files.FIRST_PIECE + 2 * files.LARGEST_PIECE
        self.path = file(self.size)
        self.sink = FakeSink()
        self.sink.window_open = asyncio.Event()
        self.one = cycle(self.sink)

    async def begin(self):
        await self.one.send(start())
        self.sending = asyncio.create_task(self.one.send(pathsend(self.path)))
        await until(lambda: "data" in self.sink.kinds)

    async def ends(self):
        return await asyncio.wait_for(self.sending, 5)


def test_a_file_that_shrinks_while_it_is_sent_resets_the_stream(file):
    async def main():
        stalled = Stalled(file)
        await stalled.begin()
        os.truncate(stalled.path, files.FIRST_PIECE + 10)
        stalled.sink.window_open.set()
        with pytest.raises(IllegalMessage, match="has become shorter"):
            await stalled.ends()
        assert stalled.sink.calls[-1] == RESET
        assert len(stalled.sink.body) == files.FIRST_PIECE + 10
        assert len(stalled.sink.finished) == 1

    asyncio.run(main())


def test_a_file_that_grows_while_it_is_sent_ends_where_it_would_have(file):
    async def main():
        stalled = Stalled(file)
        await stalled.begin()
        with open(stalled.path, "ab") as opened:
            opened.write(b"more")
        stalled.sink.window_open.set()
        await stalled.ends()
        assert stalled.sink.body == octets(stalled.size)

    asyncio.run(main())


def test_a_client_that_takes_nothing_holds_one_small_piece(file):
    async def main():
        stalled = Stalled(file)
        await stalled.begin()
        assert [len(call[1]) for call in stalled.sink.calls[1:]] == [files.FIRST_PIECE]
        assert stalled.sending.get_coro() is not None
        stalled.one.disconnect()
        stalled.sink.gone = True
        stalled.sink.window_open.set()
        with pytest.raises(ClientDisconnected):
            await stalled.ends()
        assert stalled.sink.kinds == ["headers", "data"]
        assert len(stalled.sink.finished) == 1

    asyncio.run(main())


def test_a_client_that_leaves_while_the_file_is_read_ends_it(file, monkeypatch):
    async def main():
        reading = blocked_reads(monkeypatch)
        sink = FakeSink()
        one = cycle(sink)
        await one.send(start())
        sending = asyncio.create_task(one.send(pathsend(file(10))))
        await until(reading.begun.is_set)
        one.disconnect()
        reading.go_on.set()
        with pytest.raises(ClientDisconnected):
            await asyncio.wait_for(sending, 5)
        assert sink.calls == []

    asyncio.run(main())


class blocked_reads:
    """From now on every read waits in its thread."""

    def __init__(self, monkeypatch):
        self.begun, self.go_on = threading.Event(), threading.Event()
        read = os.pread

        def pread(*args):
            self.begun.set()
            assert self.go_on.wait(5)
            return read(*args)

        monkeypatch.setattr(os, "pread", pread)


def test_a_slow_disk_does_not_hold_the_loop(file, monkeypatch):
    async def main():
        reading = blocked_reads(monkeypatch)
        one = cycle(FakeSink())
        await one.send(start())
        sending = asyncio.create_task(one.send(pathsend(file(10))))
        await until(reading.begun.is_set)
        other = cycle(FakeSink())
        await other.send(start())
        await other.send(body(b"x"))
        assert not sending.done()
        reading.go_on.set()
        await asyncio.wait_for(sending, 5)

    asyncio.run(main())


@pytest.mark.parametrize("message", ["path", "file"])
def test_a_cancelled_send_closes_the_file_once_its_thread_is_done(file, monkeypatch, message):
    async def main():
        reading = blocked_reads(monkeypatch)
        one = cycle(FakeSink())
        await one.send(start())
        with open(file(10), "rb") as opened:
            send = pathsend(opened.name) if message == "path" else zerocopysend(opened)
            sending = asyncio.create_task(one.send(send))
            await until(reading.begun.is_set)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        descriptors = len(os.listdir("/proc/self/fd"))
        reading.go_on.set()
        await until(lambda: len(os.listdir("/proc/self/fd")) < descriptors)

    asyncio.run(main())


@pytest.mark.parametrize("other", [body(b"x", True), body(), zerocopysend(0)])
def test_another_message_while_a_file_is_sent_is_refused(file, other):
    async def main():
        stalled = Stalled(file)
        await stalled.begin()
        with pytest.raises(IllegalMessage, match="while a file is being sent"):
            await stalled.one.send(other)
        stalled.sink.window_open.set()
        with pytest.raises(IllegalMessage, match="over before its file"):
            await stalled.ends()
        assert stalled.sink.calls.count(RESET) == 1
        assert len(stalled.sink.finished) == 1

    asyncio.run(main())


def test_a_body_message_while_the_file_is_opened_is_refused_and_harmless(file, monkeypatch):
    async def main():
        reading = blocked_reads(monkeypatch)
        sink = FakeSink()
        one = cycle(sink)
        await one.send(start())
        sending = asyncio.create_task(one.send(pathsend(file(10))))
        await until(reading.begun.is_set)
        with pytest.raises(IllegalMessage):
            await one.send(body(b"x"))
        reading.go_on.set()
        await asyncio.wait_for(sending, 5)
        assert sink.body == octets(10)

    asyncio.run(main())


def test_a_file_that_cannot_be_sent_is_logged_once_and_answered_with_500(tmp_path, caplog):
    async def app(scope, receive, send):
        await send(start())
        await send(pathsend(tmp_path / "nothing"))

    async def main():
        sink = FakeSink()
        await cycle(sink).run(app)
        assert sink.head[0] == 500

    asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No such file" in caplog.text


# What the kernel has in memory, and what has to be waited for.

needs_nowait = pytest.mark.skipif(
    not hasattr(os, "RWF_NOWAIT"), reason="this system cannot read without waiting"
)


def answer_reads_without_waiting(monkeypatch, answer):
    """``answer`` gives how much of so many octets is in memory, or raises."""
    asked = []
    preadv = os.preadv

    def read(descriptor, buffers, offset, flags):
        assert flags == os.RWF_NOWAIT
        asked.append(len(buffers[0]))
        return preadv(descriptor, [buffers[0][: answer(asked[-1])]], offset)

    monkeypatch.setattr(os, "preadv", read)
    return asked


def refuse(size):
    raise BlockingIOError(11, "not in memory")


def not_supported(size):
    raise OSError(95, "not supported")


@needs_nowait
def test_what_is_in_memory_is_read_at_once(file, monkeypatch):
    asked = answer_reads_without_waiting(monkeypatch, lambda size: size)
    threads = count_reads_of_threads(monkeypatch)
    sink, _ = send_all(start(), pathsend(file(3 * files.LARGEST_PIECE)))
    assert sink.body == octets(3 * files.LARGEST_PIECE)
    assert sum(asked) == 3 * files.LARGEST_PIECE - files.FIRST_PIECE
    assert threads == [files.FIRST_PIECE]


@needs_nowait
@pytest.mark.parametrize("answer", [refuse, not_supported])
def test_from_the_first_wait_on_threads_read_ahead(file, monkeypatch, answer):
    asked = answer_reads_without_waiting(monkeypatch, answer)
    threads = count_reads_of_threads(monkeypatch)
    sink, _ = send_all(start(), pathsend(file(3 * files.LARGEST_PIECE)))
    assert sink.body == octets(3 * files.LARGEST_PIECE)
    assert len(asked) == 1
    assert sum(threads) == 3 * files.LARGEST_PIECE


@needs_nowait
def test_half_a_piece_in_memory_is_a_piece(file, monkeypatch):
    answer_reads_without_waiting(monkeypatch, lambda size: size // 2 + 1)
    sink, _ = send_all(start(), pathsend(file(2 * files.LARGEST_PIECE + 1)))
    assert sink.body == octets(2 * files.LARGEST_PIECE + 1)


def test_a_system_that_cannot_say_has_threads(file, monkeypatch):
    monkeypatch.setattr(files, "_NOWAIT", None)
    monkeypatch.delattr(os, "preadv", raising=False)
    sink, _ = send_all(start(), pathsend(file(3 * files.LARGEST_PIECE)))
    assert sink.body == octets(3 * files.LARGEST_PIECE)


def count_reads_of_threads(monkeypatch):
    sizes = []
    pread = os.pread

    def read(descriptor, size, offset):
        sizes.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read)
    return sizes
