"""What ends up in the logs, and what must not."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from h2asgi import logs
from h2asgi.config import LogConfig
from h2asgi.errors import ConfigurationError
from h2asgi.trace import RequestRecord


def record(**changes: object) -> RequestRecord:
    values: dict[str, object] = {
        "client": ("192.0.2.7", 50123),
        "method": "GET",
        "target": b"/a?q=1",
        "http_version": "2",
        "status": 200,
        "body_size": 5120,
        "duration": 0.00142,
    }
    return RequestRecord(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def server_logger():
    """The logger as it was, once the test is over."""
    logger = logging.getLogger("h2asgi")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text", "plain text"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x00\x7f\x85\x9b", r"\x00\x7f\x85\x9b"),
        ("\u2028\u202e\u2066", r"\u2028\u202e\u2066"),
        ("\ud800", r"\ud800"),
        ("grüße 你好", "grüße 你好"),
    ],
)
def test_every_control_character_is_escaped(text, escaped):
    assert logs.escape(text) == escaped


def test_the_access_line_has_client_method_target_protocol_status_size_and_time():
    assert logs.format_request(record()) == '192.0.2.7:50123 "GET /a?q=1 HTTP/2" 200 5120 1.4ms'


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"client": None}, '- "GET'),
        ({"client": ("2001:db8::1", 5)}, '[2001:db8::1]:5 "GET'),
        ({"status": 0, "body_size": 0}, '" - 0 '),
        ({"target": b'/"\\\r\n\x1b\xff 200'}, r"/\x22\x5c\x0d\x0a\x1b\xff\x20200 HTTP"),
        ({"method": 'G"\n\u2028'}, r'"G\x22\x0a\xe2\x80\xa8 /a'),
        ({"method": "\ud800"}, r"\xed\xa0\x80 /a"),
        ({"method": "", "target": b""}, '"  HTTP/2"'),
    ],
)
def test_nothing_from_a_peer_can_forge_an_access_line(changes, part):
    line = logs.format_request(record(**changes))
    assert part in line
    assert line.isascii()
    assert line.isprintable()


def test_lines_of_one_turn_are_written_together_with_the_time():
    written: list[list[str]] = []

    async def main() -> None:
        log = logs.AccessLog(written.append, timestamps=True)
        log.request_finished(record())
        log.request_finished(record(status=404))
        assert written == []
        await asyncio.sleep(0)
        log.request_finished(record(status=500))
        await asyncio.sleep(0)
        log.flush()

    asyncio.run(main())
    assert [len(lines) for lines in written] == [2, 1]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "
    assert re.match(time + r"192\.0\.2\.7:50123 ", written[0][0])
    assert " 404 " in written[0][1]


def test_an_access_log_that_cannot_be_written_does_not_disturb_requests(caplog):
    """It is said once when that begins, and once when it is over."""
    broken = True

    def write(lines: list[str]) -> None:
        if broken:
            raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        nonlocal broken
        log = logs.AccessLog(write, timestamps=False)
        for _ in range(3):
            log.request_finished(record())
            log.flush()
        broken = False
        for _ in range(3):
            log.request_finished(record())
            log.flush()

    asyncio.run(main())
    assert caplog.messages == [
        "the access log cannot be written: No space left on device; going on without",
        "the access log can be written again: up to 3 lines were lost",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_under_the_access_log_file(caplog):
    async def main() -> None:
        with logs.access_log(LogConfig(access_log_file="/dev/full")) as log:
            assert log is not None
            for _ in range(1000):
                log.request_finished(record())
                log.flush()

    asyncio.run(main())
    assert len(caplog.messages) == 1


def test_a_closed_pipe_under_the_access_log_is_no_complaint_at_the_end():
    """The interpreter would exit with 120."""
    program = (
        "import asyncio, sys; from h2asgi import logs; from h2asgi.config import LogConfig\n"
        "from h2asgi.trace import RequestRecord\n"
        "async def main():\n"
        "    with logs.access_log(LogConfig()) as log:\n"
        "        sys.stdin.read()\n"
        "        log.request_finished(RequestRecord(None, 'GET', b'/', '2', 200, 0, 0.0))\n"
        "asyncio.run(main())\n"
    )
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(writing)
        os.close(reading)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == b"the access log cannot be written: Broken pipe; going on without\n"


def test_no_access_log_without_a_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with logs.access_log(LogConfig()) as log:
        assert log is None


def test_a_line_is_bounded_whatever_a_client_asks_for():
    line = logs.format_request(record(method="M" * 60_000, target=b'/"' + b"x" * 60_000))
    assert len(line) < logs.MAX_LOGGED_TARGET + 200
    assert f'"{"M" * logs.MAX_LOGGED_METHOD}... /\\x22xxx' in line
    assert "xxx... HTTP/2" in line


def test_the_access_log_file_is_appended_to_and_complete_at_the_end(tmp_path: Path):
    path = tmp_path / "access.log"
    path.write_text("before\n")

    async def main() -> None:
        with logs.access_log(LogConfig(access_log_file=str(path))) as log:
            assert log is not None
            log.request_finished(record())

    asyncio.run(main())
    first, second = path.read_text().splitlines()
    assert first == "before"
    assert second.endswith('"GET /a?q=1 HTTP/2" 200 5120 1.4ms')


def test_the_access_log_goes_to_stdout(capsys):
    async def main() -> None:
        with logs.access_log(LogConfig()) as log:
            assert log is not None
            log.request_finished(record())
            await asyncio.sleep(0)

    asyncio.run(main())
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.err == ""


def test_an_access_log_file_that_cannot_be_opened_is_an_operators_error(tmp_path: Path):
    config = LogConfig(access_log_file=str(tmp_path / "none" / "access.log"))
    with pytest.raises(ConfigurationError, match="--access-log-file"), logs.access_log(config):
        pass


def test_no_access_log():
    with logs.access_log(LogConfig(access_log=False)) as log:
        assert log is None


def test_an_embedding_program_gets_the_access_log_through_its_logging(caplog):
    assert logs.embedded_access_log(LogConfig(access_log=False)) is None
    with caplog.at_level(logging.WARNING, "h2asgi.access"):
        assert logs.embedded_access_log(LogConfig()) is None

    async def main() -> None:
        log = logs.embedded_access_log(LogConfig())
        assert log is not None
        log.request_finished(record(target=b"/%s"))
        await asyncio.sleep(0)

    with caplog.at_level(logging.INFO, "h2asgi.access"):
        asyncio.run(main())
    assert caplog.messages == ['192.0.2.7:50123 "GET /%s HTTP/2" 200 5120 1.4ms']


def configured(stream: io.StringIO, monkeypatch, **options) -> io.StringIO:
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(LogConfig(**options))
    return stream


def test_a_message_is_one_line_whatever_is_in_it(server_logger, monkeypatch):
    stream = configured(io.StringIO(), monkeypatch)
    server_logger.warning("peer says %s", "a\n2026-01-01 error forged\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert r"warning  peer says a\x0a2026-01-01 error forged\x1b[31m" in stream.getvalue()


def test_a_traceback_is_indented_so_that_its_text_cannot_pass_for_a_line(
    server_logger, monkeypatch
):
    stream = configured(io.StringIO(), monkeypatch)
    try:
        raise ValueError("bad\n2026-01-01T00:00:00+0000 error    forged\x1b[2J")
    except ValueError:
        server_logger.exception("the application raised")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("the application raised")
    assert all(line.startswith("    ") for line in rest)
    assert r"forged\x1b[2J" in rest[-1]


def test_the_level_is_the_lowest_shown(server_logger, monkeypatch):
    stream = configured(io.StringIO(), monkeypatch, level="warning")
    server_logger.info("hidden")
    server_logger.warning("shown")
    assert "hidden" not in stream.getvalue()
    assert "shown" in stream.getvalue()


def test_colours_only_on_a_terminal(server_logger, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        configured(stream, monkeypatch)
        server_logger.error("wrong")
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[31merror" in terminal.getvalue()
    assert plain.getvalue().count("\n") == 1  # a second configuration replaces the first


def test_no_color_is_honoured(server_logger, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = configured(Terminal(), monkeypatch)
    server_logger.error("wrong")
    assert "\x1b" not in terminal.getvalue()


def test_flushing_survives_streams_that_are_gone(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", closed)
    logs.flush()
