"""The server's log: what its lines look like, and what must not be in them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2asgi import logs
from h2asgi.config import LogConfig
from h2asgi.errors import ConfigurationError
from h2asgi.logs.server_log import MAX_WAITING_RECORDS


@pytest.fixture
def server_logger():
    """The loggers as they were, once the test is over."""
    names = ("h2asgi", "h2asgi.error", "h2asgi.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield loggers[0]
    for each, was in zip(loggers, before, strict=True):
        each.handlers[:], each.level, each.propagate = was


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


def logged(formatter: logging.Formatter, message: str, *args: Any, **extra: Any) -> str:
    record = logging.LogRecord("h2asgi.error", logging.ERROR, "f.py", 1, message, args, None)
    record.__dict__.update(extra)
    return formatter.format(record)


def failed(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError:
        found = sys.exc_info()
    return logging.LogRecord("h2asgi.error", logging.ERROR, "f.py", 1, "%s: bad", (text,), found)


IDS = {"connection": 7, "stream": 3, "request_id": "abc"}


def test_a_line_says_which_request_it_is_about():
    line = logged(logs.LineFormatter(), "GET '/': bad", **IDS)
    assert line.endswith("error    GET '/': bad (connection 7, stream 3, request abc)")


def test_a_json_line_is_an_object():
    line = logged(logs.JSONFormatter(), "GET %s", "/\n", **IDS)
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "error",
        "logger": "h2asgi.error",
        "message": "GET /\n",
        "process": entry["process"],
        **IDS,
    }


def test_a_json_line_has_the_traceback_as_one_text():
    entry = json.loads(logs.JSONFormatter().format(failed("forged\n{}")))
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("ValueError: forged\n{}")


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_whatever_a_message_says_it_is_one_json_object_on_one_line(text):
    for line in (
        logged(logs.JSONFormatter(), "%s", text, request_id=text),
        logs.JSONFormatter().format(failed(text)),
    ):
        assert line.isascii()
        assert line.isprintable()
        assert isinstance(json.loads(line), dict)


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_whatever_a_message_says_it_is_one_line_of_text(text):
    line = logged(logs.LineFormatter(), "%s", text, request_id=text)
    assert "\n" not in line
    assert logs.escape(line) == line
    first, *rest = logs.LineFormatter().format(failed(text)).split("\n")
    assert first.endswith(": bad")
    assert all(part.startswith("    ") and logs.escape(part) == part for part in rest)


def test_json_to_stderr(server_logger, monkeypatch):
    stream = configured(Terminal(), monkeypatch, format="json")
    server_logger.warning("beware")
    assert json.loads(stream.getvalue())["message"] == "beware"


# --log-config.


def handlers_of(kind: str) -> str:
    return f"""
[formatters.short]
format = "{kind} %(levelname)s %(message)s"

[handlers.out]
class = "logging.StreamHandler"
stream = "ext://sys.stdout"
formatter = "short"
"""


def test_a_toml_file_configures_logging(server_logger, monkeypatch, tmp_path, capsys):
    path = tmp_path / "log.toml"
    path.write_text(handlers_of("mine") + '[loggers.h2asgi]\nhandlers = ["out"]')
    stream = configured(io.StringIO(), monkeypatch, config_file=str(path))
    server_logger.warning("beware")
    logging.getLogger("h2asgi.error").error("bad")
    assert capsys.readouterr().out == "mine WARNING beware\nmine ERROR bad\n"
    assert stream.getvalue() == ""


def test_a_json_file_configures_logging_and_what_it_leaves_out_stays(
    server_logger, monkeypatch, tmp_path
):
    path = tmp_path / "log.json"
    path.write_text('{"loggers": {"example": {"level": "ERROR"}}}')
    stream = configured(io.StringIO(), monkeypatch, config_file=str(path))
    server_logger.warning("beware")
    assert "warning  beware" in stream.getvalue()
    assert logging.getLogger("example").level == logging.ERROR
    logging.getLogger("example").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("log.yaml", "", "must end in .toml or .json"),
        ("log.toml", "a = ", "is not TOML"),
        ("log.json", "{", "is not JSON"),
        ("log.json", "\xff", "is not JSON"),
        ("log.json", "[]", "must be an object with keys"),
        ("log.json", '{"version": 3}', "log.json': Unsupported version: 3"),
        ("log.toml", '[handlers.a]\nclass = "no.Such"', "Unable to configure handler 'a': "),
        ("log.toml", "[loggers]\nh2asgi = 3", "log.toml'"),
    ],
)
def test_a_file_that_does_not_work_is_one_sentence(
    server_logger, monkeypatch, tmp_path, name, text, reason
):
    path = tmp_path / name
    path.write_text(text, "latin-1")
    with pytest.raises(ConfigurationError) as caught:
        configured(io.StringIO(), monkeypatch, config_file=str(path))
    assert "--log-config" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    config = LogConfig(config_file=str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match=r"cannot read --log-config .*No such file"):
        logs.check(config)


def test_in_the_background_foreign_handlers_are_called_in_a_thread(
    server_logger, monkeypatch, tmp_path, capsys
):
    """And the handlers are as before in the end."""
    path = tmp_path / "log.toml"
    text = handlers_of("%(threadName)s") + '[loggers.h2asgi]\nhandlers = ["out"]'
    path.write_text(text)
    config = LogConfig(config_file=str(path))
    logs.configure(config)
    (own,) = server_logger.handlers
    with logs.in_background(config):
        try:
            raise ValueError("said")
        except ValueError:
            server_logger.exception("beware of %s", "it")
        assert server_logger.handlers != [own]
    assert server_logger.handlers == [own]
    written = capsys.readouterr().out
    assert "MainThread ERROR beware of it" in written
    assert "ValueError: said" in written


def test_in_the_background_all_is_written_in_the_end(server_logger, monkeypatch):
    stream = configured(io.StringIO(), monkeypatch)
    with logs.in_background(LogConfig()):
        for number in range(1000):
            server_logger.info("line %d", number)
    server_logger.info("and after")
    lines = stream.getvalue().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [*map(str, range(1000)), "after"]


class Broken(logging.Handler):
    """Raises for what it is given, as handlers should not; keeps what it was given."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.complained = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())
        raise KeyError(record.getMessage())

    def handleError(self, record: logging.LogRecord) -> None:
        self.complained += 1


class Held(logging.Handler):
    """Keeps what it is given, once it is free to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.free = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.free.wait()
        self.seen.append(record.getMessage())


def test_a_handler_that_raises_ends_neither_the_thread_nor_the_others(server_logger):
    broken, other = Broken(), Broken()
    server_logger.handlers[:] = [broken, other]
    with logs.in_background(LogConfig()):
        server_logger.warning("%s", "one")
        server_logger.warning("two")
    assert broken.seen == other.seen == ["one", "two"]
    assert broken.complained == 2


@pytest.fixture
def loggers(server_logger):
    """Those for the server, errors and requests, without handlers and without propagation."""
    three = [server_logger, *map(logging.getLogger, ("h2asgi.error", "h2asgi.access"))]
    with contextlib.ExitStack() as stack:
        for logger in three:
            stack.callback(logger.handlers.__setitem__, slice(None), logger.handlers[:])
            stack.callback(setattr, logger, "propagate", logger.propagate)
            logger.handlers[:] = []
            logger.propagate = False
        yield three


def test_a_handler_of_several_loggers_gets_records_in_order(loggers):
    handler = Broken()
    server_log, _, access = loggers
    server_log.handlers[:] = access.handlers[:] = [handler]
    with logs.in_background(LogConfig()):
        access.error("1")
        server_log.error("2")
        logs.flush()  # from now on threads wait for a while before they write again
        for number in range(3, 9, 2):
            access.error("%d", number)
            server_log.error("%d", number + 1)
    assert handler.seen == list("12345678")


def test_loggers_that_have_a_handler_in_common_with_a_third_share_its_order(loggers):
    one, two = Broken(), Broken()
    server_log, errors, access = loggers
    server_log.handlers[:], errors.handlers[:], access.handlers[:] = [one], [two], [one, two]
    with logs.in_background(LogConfig()):
        for number in range(0, 9, 3):
            server_log.error("%d", number)
            errors.error("%d", number + 1)
            access.error("%d", number + 2)
            logs.flush()
    assert one.seen == list("023568")
    assert two.seen == list("124578")


def test_a_flood_of_requests_leaves_room_for_errors(loggers):
    handler = Held()
    server_log, _, access = loggers
    server_log.handlers[:] = access.handlers[:] = [handler]
    with logs.in_background(LogConfig()):
        for _ in range(MAX_WAITING_RECORDS + 1):
            access.error("a request")
        server_log.error("the error")
        handler.free.set()
    assert "the error" in handler.seen
    assert handler.seen.count("a request") <= MAX_WAITING_RECORDS


def test_what_cannot_be_formatted_is_no_error_of_who_logs(server_logger, monkeypatch, capsys):
    configured(io.StringIO(), monkeypatch)
    complaints: list[object] = []
    for wrap in (False, True):
        (handler,) = server_logger.handlers
        with contextlib.ExitStack() as stack:
            if wrap:
                server_logger.handlers[:] = [handler, Broken()]
                stack.enter_context(logs.in_background(LogConfig()))
            for each in server_logger.handlers:
                monkeypatch.setattr(each, "handleError", complaints.append)
            server_logger.warning("%d", "no number")
    assert len(complaints) == 2


def test_the_process_waits_for_its_logs_when_it_ends_at_once(server_logger, monkeypatch):
    stream = configured(io.StringIO(), monkeypatch)
    with logs.in_background(LogConfig()):
        server_logger.warning("first")
        server_logger.warning("second")
        logs.flush()
        assert stream.getvalue().count("\n") == 2
