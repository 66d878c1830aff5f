"""The thread that writes logs: nobody waits for it, nothing is lost unsaid."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
import time
from collections.abc import Iterator

import pytest

from h2asgi.logs import writer as writers
from h2asgi.logs.output import PIPE_PIECE, StandardStream, _piece
from h2asgi.logs.writer import Writer

HANG = 30.0


class Disk:
    """What is written goes into ``lines``, as long as ``works`` is set; else it waits for that."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches = 0
        self.works = threading.Event()
        self.works.set()
        self.reached = threading.Event()
        self.error: OSError | None = None

    def write(self, items: list[str]) -> None:
        self.reached.set()
        assert self.works.wait(HANG)
        if self.error is not None:
            raise self.error
        self.lines += items
        self.batches += 1


@contextlib.contextmanager
def started(disk: Disk, limit: int = 100) -> Iterator[Writer[str]]:
    writer = Writer("the log", disk.write, limit)
    writer.start()
    try:
        yield writer
    finally:
        disk.works.set()
        writer.stop()


def test_lines_are_written_in_order_and_all_of_them():
    disk = Disk()
    with started(disk, 10_000) as writer:
        for number in range(1000):
            writer.put(str(number), 1, 1)
    assert disk.lines == [*map(str, range(1000))]
    assert disk.batches < 500  # not one by one


def test_nobody_waits_for_a_disk_and_what_does_not_fit_is_counted(caplog):
    disk = Disk()
    disk.works.clear()
    with started(disk) as writer:
        writer.put("first", 10, 1)
        assert disk.reached.wait(HANG)
        for number in range(20):
            writer.put(str(number), 10, 2)
        assert caplog.messages == [
            "the log cannot be written: what it is written to does not take it fast enough; "
            "going on without"
        ]
        disk.works.set()
        writer.flush(HANG)
        assert not writer.behind
    assert disk.lines == ["first", *map(str, range(9))]  # of which the first counts until then
    assert caplog.messages[1:] == ["the log can be written again: up to 22 lines were lost"]


def test_an_access_log_that_cannot_be_written_does_not_disturb_requests(caplog):
    disk = Disk()
    disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with started(disk) as writer:
        for _ in range(3):
            writer.put("lost", 1, 1)
            writer.flush(HANG)
        disk.error = None
        for _ in range(3):
            writer.put("kept", 1, 1)
            writer.flush(HANG)
    assert disk.lines == ["kept"] * 3
    assert caplog.messages == [
        "the log cannot be written: No space left on device; going on without",
        "the log can be written again: up to 3 lines were lost",
    ]


def test_the_end_waits_for_a_bound(caplog):
    disk = Disk()
    disk.works.clear()
    with started(disk) as writer:
        writer.put("never", 1, 5)
        assert disk.reached.wait(HANG)
        began = time.monotonic()
        writer.flush(0.05)
        assert not writer.stop(0.05)
        writer.put("nor this", 1, 1)  # does not wait either
        assert time.monotonic() - began < HANG / 2
    assert caplog.messages == ["the log ends: up to 5 lines were lost"]


def test_without_its_thread_it_writes_at_once(caplog):
    disk = Disk()
    writer = Writer("the log", disk.write, 100)
    writer.put("one", 1000, 1)
    assert disk.lines == ["one"]
    disk.error = OSError(errno.EPIPE, "Broken pipe")
    writer.put("two", 1, 1)
    assert caplog.messages == ["the log cannot be written: Broken pipe; going on without"]
    assert writer.stop()


def test_an_action_comes_before_what_is_written_next():
    disk = Disk()
    with started(disk) as writer:
        writer.before_next(lambda: disk.lines.append("reopened"))
        writer.put("line", 1, 1)
        writer.flush(HANG)
        assert disk.lines == ["reopened", "line"]
    writer.before_next(lambda: disk.lines.append("at once"))
    assert disk.lines[-1] == "at once"


def test_an_action_alone_is_done_too():
    disk, done = Disk(), threading.Event()
    with started(disk) as writer:
        writer.before_next(done.set)
        assert done.wait(HANG)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_writes_at_once():
    reading, writing = os.pipe()
    writer = Writer("the log", lambda items: [os.write(writing, each) for each in items], 100)
    writer.start()
    try:
        pid = os.fork()
        if not pid:
            writer.put(b"from the child", 1, 1)
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reading, 100) == b"from the child"
        assert writers._started
    finally:
        writer.stop()
        os.close(reading)
        os.close(writing)


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="ascii") as stream:
        yield reading, stream
    os.close(reading)


def test_a_pipe_that_is_not_read_is_waited_for_once(pipe, monkeypatch):
    monkeypatch.setattr("h2asgi.logs.output.PATIENCE", 0.01)
    reading, stream = pipe
    output = StandardStream(stream)
    with pytest.raises(TimeoutError):
        output.write_soon(["x" * 1_000_000])
    with pytest.raises(TimeoutError):
        output.write_soon(["x"])
    os.read(reading, 10_000_000)  # all there is
    output.write_soon(["read again \u00e4\n"])
    assert os.read(reading, 100) == b"read again \\xe4\n"


def test_lines_of_several_processes_do_not_get_into_each_other(pipe):
    """A pipe takes up to PIPE_BUF octets at once: these are whole lines."""
    reading, stream = pipe
    written = "".join(f"{number} {'x' * (number % 3000)}\n" for number in range(0, 30_000, 7))
    thread = threading.Thread(target=StandardStream(stream).write, args=([written],))
    thread.start()
    got = b""
    while len(got) < len(written):
        piece = os.read(reading, PIPE_PIECE)
        assert len(piece) <= PIPE_PIECE
        got += piece
    thread.join(HANG)
    assert got.decode() == written
    sizes = []
    rest = memoryview(written.encode())
    while rest:
        sizes.append(len(_piece(rest)))
        assert rest[sizes[-1] - 1] == ord("\n")
        rest = rest[sizes[-1] :]
    assert max(sizes) <= PIPE_PIECE
    assert len(_piece(memoryview(b"x" * 10_000))) == PIPE_PIECE


def test_a_pipe_that_others_have_made_nonblocking_is_waited_for(pipe):
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    output = StandardStream(stream)
    size = 300_000
    thread = threading.Thread(target=output.write, args=(["x" * size],))
    thread.start()
    got = 0
    while got < size:
        got += len(os.read(reading, 65536))
    thread.join(HANG)
    assert got == size
