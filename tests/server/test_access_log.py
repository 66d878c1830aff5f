"""The access log: formats, and where its lines go."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2asgi import logs
from h2asgi.config import LogConfig
from h2asgi.errors import ConfigurationError
from h2asgi.logs.access_formats import FIELDS, MAX_LOGGED_HEADER
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
        log = logs.AccessLog(written.append, logs.make_format("default"))
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_under_the_access_log_file(caplog):
    async def main() -> None:
        with logs.access_log(LogConfig(access_log_file="/dev/full")) as log:
            assert log is not None
            for _ in range(1000):
                log.request_finished(record())
                log.flush()

    asyncio.run(main())
    assert caplog.messages == [
        "the access log cannot be written: No space left on device; going on without",
        "the access log ends: up to 1000 lines were lost",
    ]


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
    assert errors == (
        b"the access log cannot be written: Broken pipe; going on without\n"
        b"the access log ends: up to 1 lines were lost\n"
    )


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


# Formats.

HEADERS = [
    (b"host", b"example.com"),
    (b"referer", b"https://example.com/"),
    (b"user-agent", b'Browser/1.0 (a "quoted" word)'),
]


def line(format_: str, **changes: Any) -> str:
    (found,) = logs.make_format(format_).lines([record(**changes)])
    return found


def test_combined_is_what_apache_writes():
    assert re.fullmatch(
        r"192\.0\.2\.7 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /a\?q=1 HTTP/2" 200 5120 "https://example\.com/" '
        r'"Browser/1\.0 \(a \\x22quoted\\x22 word\)"',
        line("combined", headers=HEADERS),
    )
    assert line("combined", client=None, status=0).endswith('HTTP/2" - 5120 "-" "-"')


def test_json_is_an_object_with_all_that_is_known():
    found = json.loads(line("json", headers=HEADERS, connection=7, stream_id=3, request_id="abc"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "client": "192.0.2.7:50123",
        "method": "GET",
        "target": "/a?q=1",
        "protocol": "HTTP/2",
        "status": 200,
        "size": 5120,
        "milliseconds": 1.42,
        "host": "example.com",
        "referer": "https://example.com/",
        "user_agent": 'Browser/1.0 (a "quoted" word)',
        "connection": 7,
        "stream": 3,
        "request_id": "abc",
        "process": os.getpid(),
    }


def test_json_has_the_same_keys_when_nothing_is_known():
    found = json.loads(line("json", client=None, status=0))
    unknown = {key for key, value in found.items() if value is None}
    assert unknown == {"client", "status", "host", "referer", "user_agent", "request_id"}


@pytest.mark.parametrize(
    ("format_", "written"),
    [
        ("{client} {client_host} {client_port}", "192.0.2.7:50123 192.0.2.7 50123"),
        ("{method} {target} {path} {query} {protocol}", "GET /a?q=1 /a q=1 HTTP/2"),
        ("{status} {size} {milliseconds} {seconds}", "200 5120 1.4 0.001420"),
        ("{connection}/{stream} {request_id}", "7/3 abc"),
        ("{process}", str(os.getpid())),
        ("{header:Host} {header:none}", "example.com -"),
        ('"{header:user-agent}"', r'"Browser/1.0 (a \x22quoted\x22 word)"'),
        ("{header:user-agent}", r"Browser/1.0\x20(a\x20\x22quoted\x22\x20word)"),
        ("{{{status}}} 100%s", "{200} 100%s"),
    ],
)
def test_an_own_format_has_fields_in_braces(format_, written):
    ids = {"connection": 7, "stream_id": 3, "request_id": "abc"}
    assert line(format_, headers=HEADERS, **ids) == written


def test_times_in_an_own_format():
    local, common, utc = line("{time}|{time_common}|{time_utc}").split("|")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", local)
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}", common)
    assert utc.endswith("Z")


@pytest.mark.parametrize(
    ("format_", "reason"),
    [
        ("{clinet} {status}", r"has no field \{clinet\}: there are time, .*client.*header:NAME"),
        ("{header:}", r"has no field \{header:\}"),
        ("{header:a b}", r"has no field \{header:a b\}"),
        ("{}", r"has no field \{\}"),
        ("{status", r"a single \{: write \{\{"),
        ("status}", r"a single \}: write \}\}"),
        ("comined", "'comined' has no field: choose default, combined or json"),
        ("%(h)s %(s)s", "has no field: choose"),
        ("", "has no field: choose"),
        ("{status}\n{size}", "must be one line"),
    ],
)
def test_a_format_that_makes_no_sense_is_an_operators_error(format_, reason):
    with pytest.raises(ConfigurationError, match="--access-log-format .*" + reason):
        logs.check(LogConfig(access_format=format_))


octets = st.binary(max_size=40) | st.sampled_from(
    [b'" 200 1\n', b"\r\n", b'"}\n{"', b"\\", b"\x1b[2J", b"\x7f\x9b", "\u2028".encode()]
)
records = st.builds(
    record,
    method=st.text(st.characters(), max_size=10),
    target=octets,
    headers=st.lists(
        st.tuples(st.sampled_from([b"host", b"referer", b"user-agent", b"x"]), octets), max_size=4
    ),
)
EVERY_FIELD = " ".join(f"{{{name}}}" for name in FIELDS) + " {header:x} {header:host}"


@settings(deadline=None)
@given(records)
def test_no_peer_can_forge_a_line_of_the_default_format(found):
    (text,) = logs.make_format("default").lines([found])
    assert text.isascii()
    assert text.isprintable()
    assert text.count('"') == 2
    assert text.count(" ") == 7


@settings(deadline=None)
@given(records)
def test_no_peer_can_forge_a_combined_line(found):
    (text,) = logs.make_format("combined").lines([found])
    assert text.isascii()
    assert text.isprintable()
    assert text.count('"') == 6
    assert re.sub('"[^"]*"', "", text).count(" ") == 9


@settings(deadline=None)
@given(records)
def test_no_peer_can_forge_a_json_line(found):
    (text,) = logs.make_format("json").lines([found])
    assert text.isascii()
    assert text.isprintable()
    assert len(json.loads(text)) == 15
    assert json.loads(text)["target"] == found.target.decode("utf-8", "backslashreplace")


@settings(deadline=None)
@given(records)
def test_no_peer_can_add_a_field_to_an_own_format(found):
    (text,) = logs.make_format(EVERY_FIELD).lines([found])
    assert text.isascii()
    assert text.isprintable()
    assert text.count(" ") == EVERY_FIELD.count(" ")
    assert '"' not in text


@pytest.mark.parametrize("format_", ["default", "combined", "json", EVERY_FIELD])
def test_a_line_of_any_format_is_bounded(format_):
    long = b"\x00" * 60_000
    headers = [(name, long) for name in (b"host", b"referer", b"user-agent", b"x")]
    written = line(format_, method="M" * 60_000, target=long, headers=headers)
    most = 4 * 2 * (2 * logs.MAX_LOGGED_TARGET + 4 * MAX_LOGGED_HEADER)
    assert len(written) < most
