"""What connections count for those who watch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from applications import START, body, hello, silent
from hyperframe import frame as frames

from h2asgi import tally
from h2asgi.config import HTTP1Config, HTTP2Config, Limits
from h2asgi.errors import ErrorCode
from h2asgi.limits import WatchedBudget
from h2asgi.pulse import INTERVAL, Pulse
from h2asgi.relief import LOOK_INTERVAL, LOOKS, Relief
from h2asgi.tally import SIZE, Tally

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"

ENGINES = pytest.mark.parametrize("engine", ["h2", "ngh2"])


@pytest.fixture
def counted(driver: Any) -> Any:
    """Serve an application that is watched: gives the row."""

    def serve(app: Any, engine: str = "auto", **config: Any) -> Tally:
        if engine == "ngh2":
            pytest.importorskip("ngh2")
        http2 = config.pop("http2", HTTP2Config())
        driver.serve(app, http2=replace(http2, engine=engine), **config)
        driver.state.tally = Tally(memoryview(bytearray(SIZE)))
        return driver.state.tally

    return serve


def codes(row: Tally, group: int) -> dict[str, int]:
    """What is counted of each code."""
    counts = row.words[group : group + len(tally.CODES)].tolist()
    return {code: count for code, count in zip(tally.CODES, counts, strict=True) if count}


def test_requests_of_http1(driver, counted):
    row = counted(hello)
    peer = driver.connect(False)
    peer.send(GET)
    peer.send(GET.replace(b"GET", b"BREW"))
    assert row.words[tally.CONNECTIONS_OPEN] == 1
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    peer.transport.lose()
    assert row.requests() == {
        ("HTTP/1.1", "GET", 200): 1,
        ("HTTP/1.1", "other", 200): 1,
        ("HTTP/1.1", "GET", 400): 1,
    }
    assert row.words[tally.CONNECTIONS] == 1
    assert row.words[tally.CONNECTIONS_OPEN] == 0
    assert row.words[tally.RECEIVED_OCTETS] == 2 * len(GET) + 1 + len(b"GET / HTTP/1.1\r\n\r\n")
    assert row.words[tally.SENT_OCTETS] == len(peer.take())
    assert row.words[tally.HANDSHAKES : tally.HANDSHAKE_TIMEOUTS].tolist() == [0, 0, 0, 0]


@ENGINES
def test_requests_of_http2(driver, counted, monkeypatch, engine):
    row = counted(hello, engine)
    monkeypatch.setattr("fake_transport.Negotiated.resumed", True)
    peer = driver.connect("h2")
    sent = driver.http2()
    sent.request("HEAD")
    sent.request("DELETE")
    assert row.requests() == {("HTTP/2", "HEAD", 200): 1, ("HTTP/2", "DELETE", 200): 1}
    assert row.words[tally.CONNECTIONS_OPEN + 1] == 2
    peer.transport.lose()
    assert row.words[tally.CONNECTIONS_OPEN + 1] == 1
    assert row.words[tally.HANDSHAKES : tally.HANDSHAKE_TIMEOUTS].tolist() == [0, 0, 0, 2]
    writes = sum(peer.transport.writes) + sum(sent.transport.writes)
    assert row.words[tally.SENT_OCTETS] == writes


def test_a_connection_of_no_protocol_is_none(driver, counted):
    row = counted(hello)
    driver.connect(False).transport.lose()
    assert row.words[: tally.HANDSHAKES].tolist() == [0] * tally.HANDSHAKES


@ENGINES
def test_resets_of_both_sides(driver, counted, engine):
    row = counted(silent, engine, http2=HTTP2Config(max_concurrent_streams=2))
    peer = driver.http2()
    first = peer.request("POST", end_stream=False)
    peer.request()
    peer.request()  # one too many
    peer.reset(first)
    peer.send(frames.RstStreamFrame(3, error_code=0xABCDEF).serialize())
    other = driver.http2()
    other.body(other.request("POST", "/", ("content-length", "1"), end_stream=False), b"too long")
    assert codes(row, tally.RESETS_RECEIVED) == {"CANCEL": 1, "other": 1}
    assert codes(row, tally.RESETS_SENT) == {"REFUSED_STREAM": 1, "PROTOCOL_ERROR": 1}
    assert row.words[tally.STREAMS_LIMIT] == 1


@ENGINES
def test_an_application_that_fails_halfway_resets_its_stream(driver, counted, caplog, engine):
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"x", more=True))
        raise RuntimeError

    row = counted(failing, engine)
    driver.http2().request()
    assert codes(row, tally.RESETS_SENT) == {"INTERNAL_ERROR": 1}


@ENGINES
def test_goaways_of_both_sides(driver, counted, engine):
    row = counted(hello, engine)
    peer = driver.http2()
    peer.send(frames.GoAwayFrame(0, error_code=ErrorCode.ENHANCE_YOUR_CALM).serialize())
    assert codes(row, tally.GOAWAYS_RECEIVED) == {"ENHANCE_YOUR_CALM": 1}
    assert codes(row, tally.GOAWAYS_SENT) == {"NO_ERROR": 1}
    broken = driver.http2()
    broken.send(frames.WindowUpdateFrame(0, window_increment=1).serialize()[:-1] + b"\x00")
    assert codes(row, tally.GOAWAYS_SENT) == {"NO_ERROR": 1, "PROTOCOL_ERROR": 1}


@ENGINES
def test_budgets_that_are_used_up(driver, counted, engine):
    limits = Limits(http2_reset_burst=1, http2_reset_rate=1, http2_control_burst=5)
    row = counted(silent, engine, limits=limits)
    peer = driver.http2()
    for _ in range(2):
        peer.reset(peer.request("POST", end_stream=False))
    assert row.words[tally.RESET_LIMIT] == 1
    driver.http2().send(frames.PingFrame(0, b"pingping").serialize() * 10)
    assert row.words[tally.CONTROL_LIMIT] == 1
    assert codes(row, tally.GOAWAYS_SENT) == {"ENHANCE_YOUR_CALM": 2}


@ENGINES
def test_answers_that_are_not_read(driver, counted, engine):
    row = counted(silent, engine, limits=Limits(http2_control_burst=10_000))
    driver.http2().send(frames.PingFrame(0, b"pingping").serialize() * 1001)
    assert row.words[tally.ANSWERS_LIMIT] == 1


def test_too_many_requests_in_work(driver, counted):
    row = counted(silent, limits=Limits(concurrency=1))
    peer = driver.http2()
    peer.request()
    assert peer.response(peer.request()).status == 503
    assert row.words[tally.CONCURRENCY_LIMIT] == 1
    assert row.requests() == {("HTTP/2", "GET", 503): 1}


def test_applications_that_outlive_their_streams(driver, counted):
    row = counted(silent, http2=HTTP2Config(max_concurrent_streams=1))
    peer = driver.http2()
    peer.reset(peer.request())
    peer.request()
    assert row.words[tally.STREAMS_LIMIT] == 1
    assert codes(row, tally.RESETS_SENT) == {"REFUSED_STREAM": 1}


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(body(bytes(100_000)))


def stalls(row: Tally) -> list[int]:
    """By stream, connection and transport."""
    return row.words[tally.STREAM_STALLS : tally.TRANSPORT_STALLS + 1].tolist()


@ENGINES
def test_a_stall_of_a_stream_is_counted_once(driver, counted, engine):
    row = counted(large, engine)
    peer = driver.http2(INITIAL_WINDOW_SIZE=1000)
    stream_id = peer.request()
    assert stalls(row) == [1, 0, 0]
    driver.loop.advance(1.0)
    peer.request()  # other work flushes again and again
    assert stalls(row) == [2, 0, 0]
    peer.credit(stream_id, 500)
    assert stalls(row) == [3, 0, 0]
    peer.credit(stream_id, 100_000)
    assert stalls(row) == [3, 1, 0]  # now it is the connection's window, 65,535 octets


@ENGINES
def test_a_stall_before_the_first_octet(driver, counted, engine):
    row = counted(hello, engine)
    driver.http2(INITIAL_WINDOW_SIZE=0).request()
    assert stalls(row) == [1, 0, 0]


@ENGINES
def test_a_stall_of_the_connection_is_counted_once(driver, counted, engine):
    row = counted(large, engine)
    peer = driver.http2(INITIAL_WINDOW_SIZE=1_000_000)
    for _ in range(3):
        peer.request()
    assert stalls(row) == [0, 1, 0]
    peer.credit(0, 1000)
    assert stalls(row) == [0, 2, 0]
    peer.credit(0, 1_000_000)
    assert stalls(row) == [0, 2, 0]


def test_a_stall_of_the_transport(driver, counted):
    async def larger(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(bytes(1_000_000)))

    row = counted(larger)
    peer = driver.http1()
    peer.transport.stall()
    peer.send(GET)
    assert stalls(row) == [0, 0, 1]


def test_cut_off_for_want_of_room(driver, counted):
    row = counted(large)
    driver.state.unsent = WatchedBudget(50_000)
    Relief(driver.loop, driver.state.connections, driver.state.unsent, row)
    driver.http2(INITIAL_WINDOW_SIZE=0).request()
    for _ in range(LOOKS + 1):
        driver.loop.advance(LOOK_INTERVAL)
    assert row.words[tally.UNSENT_LIMIT] == 1


def test_the_pulse_of_a_loop(driver, counted):
    row = counted(silent)
    pulse = Pulse(driver.state, row)
    pulse.start()
    driver.http2().request()
    driver.loop.advance(INTERVAL)
    assert row.words[tally.REQUESTS_IN_PROGRESS] == 1
    driver.loop.advance(INTERVAL + 0.3)
    lags = row.words[tally.LAG : tally.LAG + tally.LAG_WORDS].tolist()
    assert lags == [1, *[0] * 7, 1, 0, 0, 0, pytest.approx(300_000, abs=1)]
    pulse.stop()
    driver.loop.advance(10)
    assert row.words[tally.REQUESTS_IN_PROGRESS] == 0
    assert row.words[tally.LAG : tally.LAG + tally.LAG_WORDS].tolist() == lags


def test_a_websocket_is_a_request_until_it_is_open(driver, counted):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()

    row = counted(app)
    fields = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    key = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    peer = driver.connect(False)
    peer.send(GET[:-2] + fields + key)
    assert row.requests() == {("HTTP/1.1", "GET", 101): 1}
    before = row.words[tally.RECEIVED_OCTETS]
    peer.send(b"\x89\x80aaaa")  # Ping
    assert row.words[tally.RECEIVED_OCTETS] == before + 6
    assert row.words[tally.SENT_OCTETS] == len(peer.take())


PROPAGATION = [
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"congo=t61rcWkgMzE, rojo=00f067aa0ba902b7;x"),
    (b"tracestate", b"second=1"),
    (b"baggage", b"userId=Am%C3%A9lie ;a=b,serverNode=DF:28"),
]
"""W3C Trace Context and Baggage."""


@pytest.mark.parametrize("engine", ["h2", "ngh2", "h11", "httptools"])
def test_what_spans_are_propagated_by_passes_untouched(driver, engine):
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append([field for field in scope["headers"] if field[0] != b"host"])
        await send({**START, "headers": PROPAGATION})
        await send(body())

    if engine in ("ngh2", "httptools"):
        pytest.importorskip(engine)
    text = [(name.decode(), value.decode()) for name, value in PROPAGATION]
    if engine in ("h2", "ngh2"):
        driver.serve(app, http2=HTTP2Config(engine=engine))
        peer = driver.http2()
        answered = peer.response(peer.request("GET", "/", *text)).headers
        assert [field for field in answered if field in text] == text
    else:
        driver.serve(app, http1=HTTP1Config(engine=engine))
        peer = driver.http1()
        lines = b"".join(b"%s: %s\r\n" % field for field in PROPAGATION)
        peer.send(GET[:-2] + lines + b"\r\n")
        assert lines in peer.take()
    assert seen == [PROPAGATION]
