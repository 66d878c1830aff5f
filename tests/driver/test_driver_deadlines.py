"""What a client, a transport or an application may hold up, and for how long."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from applications import START, Stepwise, body, hello, reader, silent

from h2asgi.config import HTTP1Config, HTTP2Config, Timeouts
from h2asgi.errors import ClientDisconnected
from h2asgi.output import WRITE_SIZE

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"
BIG = bytes(8 * WRITE_SIZE)
WIDE = {"INITIAL_WINDOW_SIZE": 2**24}

ENGINES = {
    "http1": [HTTP1Config(engine="h11"), HTTP1Config(engine="httptools")],
    "http2": [HTTP2Config(engine="h2"), HTTP2Config(engine="ngh2")],
}


@pytest.fixture(params=ENGINES["http1"], ids=lambda config: config.engine)
def http1(request: pytest.FixtureRequest) -> HTTP1Config:
    pytest.importorskip(request.param.engine)
    return request.param


@pytest.fixture(params=ENGINES["http2"], ids=lambda config: config.engine)
def http2(request: pytest.FixtureRequest) -> HTTP2Config:
    pytest.importorskip(request.param.engine)
    return request.param


def pass_time(driver: Any, seconds: float, step: float = 1.0) -> None:
    for _ in range(round(seconds / step)):
        driver.loop.advance(step)


# The body of a request.


def test_late_body_over_http1(driver, http1):
    """RFC 9110 section 15.5.9; to the application its client is gone."""
    app = Stepwise()
    driver.serve(app, http1=http1)
    peer = driver.http1()
    app.start("receive", "receive", START)
    peer.send(POST + b"hello")
    pass_time(driver, 59)
    assert peer.take() == b""
    pass_time(driver, 16)
    assert peer.take().startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert app.done[1] == {"type": "http.disconnect"}
    assert isinstance(app.done[2], ClientDisconnected)
    assert [record.status for record in driver.records] == [408]
    driver.loop.advance(1)
    assert peer.transport.is_closing()
    app.finish()


def test_late_body_over_http2(driver, http2):
    driver.serve(reader, http2=http2)
    peer = driver.http2()
    late = peer.request("POST", end_stream=False)
    peer.body(late, b"hello")
    pass_time(driver, 70)
    living = peer.request("POST", end_stream=False)
    pass_time(driver, 5)
    response = peer.response(late)
    assert (response.status, response.ended) == (408, True)
    assert b"too long" in response.body
    peer.body(living, b"x", end_stream=True)
    assert peer.response(living).body == b"1"
    assert sorted(record.status for record in driver.records) == [200, 408]
    assert not driver.state.tasks


def test_application_that_begins_an_answer_may_take_its_time_with_the_body(driver, http2):
    app = Stepwise()
    driver.serve(app, http2=http2)
    peer = driver.http2()
    stream_id = peer.request("POST", end_stream=False)
    app.start(START, body(b"go on", more=True), "receive")
    pass_time(driver, 600, 5)
    peer.body(stream_id, b"late", end_stream=True)
    app.start(body(b"!"))
    driver.loop.settle()
    assert peer.response(stream_id).body == b"go on!"
    app.finish()


# A client that does not read.


def stalled(driver: Any, peer: Any, request: Any) -> None:
    peer.transport.stall()
    request()
    driver.loop.settle()


@pytest.mark.parametrize("alpn", ["http/1.1", False])
def test_peer_that_takes_nothing_over_http1(driver, http1, alpn):
    app = Stepwise()
    driver.serve(app, http1=http1)
    peer = driver.connect(alpn)
    app.start(START, body(BIG, more=True), body(BIG, more=True))
    stalled(driver, peer, lambda: peer.send(GET))
    pass_time(driver, 59)
    assert not peer.transport.lost
    pass_time(driver, 16)
    assert peer.transport.aborted
    assert any(isinstance(one, ClientDisconnected) for one in app.done)
    assert not driver.loop.timers_left()
    app.finish()


def test_peer_that_takes_nothing_over_http2(driver, http2):
    app = Stepwise()
    driver.serve(app, http2=http2)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    app.start(START, *[body(BIG, more=True)] * 2)
    stalled(driver, peer, peer.request)
    pass_time(driver, 59)
    assert not peer.transport.lost
    pass_time(driver, 16)
    assert peer.transport.aborted
    assert isinstance(app.done[-1], ClientDisconnected)
    app.finish()


def test_peer_that_goes_on_reading_may_be_slow(driver, http1):
    """6 KiB a minute are enough."""
    app = Stepwise()
    driver.serve(app, http1=http1)
    peer = driver.http1()
    app.start(START, body(BIG, more=True), body(BIG))
    stalled(driver, peer, lambda: peer.send(GET))
    for _ in range(10):
        del peer.transport._buffer[:6100]
        pass_time(driver, 60)
    assert not peer.transport.lost
    peer.transport.drain()
    driver.loop.settle()
    assert len(app.done) == 3
    app.finish()


def test_peer_that_reads_an_octet_a_second_is_too_slow(driver, http1):
    app = Stepwise()
    driver.serve(app, http1=http1)
    peer = driver.http1()
    app.start(START, body(BIG, more=True), body(BIG))
    stalled(driver, peer, lambda: peer.send(GET))
    for _ in range(80):
        del peer.transport._buffer[:1]
        driver.loop.advance(1)
    assert peer.transport.aborted
    app.finish()


def test_peer_that_takes_a_large_body_slowly_is_not_late_with_its_pong(driver, http2):
    """The PING waits behind the body, and nothing else is heard of a peer with wide windows."""
    app = Stepwise()
    driver.serve(app, http2=http2, timeouts=Timeouts(http2_ping_interval=30, http2_ping_timeout=20))
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    app.start(START, *[body(BIG, more=True)] * 2)
    stalled(driver, peer, peer.request)
    for _ in range(10):
        del peer.transport._buffer[:6100]
        pass_time(driver, 60)
    assert not peer.transport.is_closing()
    peer.transport.drain()
    pass_time(driver, 14)  # now it has the PING, and says nothing
    assert not peer.transport.is_closing()
    pass_time(driver, 11)
    assert peer.transport.is_closing()
    app.finish()


def test_peer_that_keeps_a_window_closed_loses_the_stream_alone(driver, http2):
    app = Stepwise()
    driver.serve(app, http2=http2)
    peer = driver.http2(INITIAL_WINDOW_SIZE=1000)
    app.start(START, body(BIG, more=True))
    stream_id = peer.request()
    pass_time(driver, 75)
    assert peer.response(stream_id).error_code == 8
    assert isinstance(app.done[-1], ClientDisconnected)
    assert not peer.transport.is_closing()
    assert not peer.goaway
    app.finish()


def test_nothing_is_looked_at_when_the_transport_takes_all(driver, http1):
    driver.serve(hello, http1=http1)
    peer = driver.http1()
    peer.send(GET)
    assert driver.loop.timers_left() == [10]  # of the first bytes


# An application that does not answer.


@pytest.fixture
def impatient() -> Timeouts:
    return Timeouts(response=20)


def cancelled(tasks: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        while (await receive()).get("more_body"):
            pass
        await silent(scope, receive, send)

    return app


def test_silent_application_is_cancelled_and_answered_for_over_http1(
    driver, http1, impatient, caplog
):
    tasks: list[Any] = []
    driver.serve(cancelled(tasks), http1=http1, timeouts=impatient)
    peer = driver.http1()
    peer.send(GET)
    pass_time(driver, 19)
    assert peer.take() == b""
    pass_time(driver, 6)
    assert peer.take().startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert tasks[0].cancelled()
    assert not driver.state.tasks
    assert [record.status for record in driver.records] == [503]
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        "GET '/': no response within 20 s"
    ]
    peer.send(GET)  # the connection goes on
    pass_time(driver, 25)
    assert peer.take().startswith(b"HTTP/1.1 503 ")


def test_silent_application_is_cancelled_and_answered_for_over_http2(driver, http2, impatient):
    tasks: list[Any] = []
    driver.serve(cancelled(tasks), http2=http2, timeouts=impatient)
    peer = driver.http2()
    stream_id = peer.request("POST", end_stream=False)
    pass_time(driver, 50)
    assert not tasks[0].done()  # the request is not complete
    peer.body(stream_id, b"", end_stream=True)
    pass_time(driver, 19)
    assert not tasks[0].done()
    pass_time(driver, 6)
    response = peer.response(stream_id)
    assert (response.status, response.ended, response.error_code) == (503, True, None)
    assert tasks[0].cancelled()


def test_application_that_swallows_its_cancellation_counts_as_running(driver, http2, impatient):
    released = driver.loop.create_future()
    errors: list[Exception] = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await silent(scope, receive, send)
        except asyncio.CancelledError:
            await released
        assert await receive() == {"type": "http.disconnect"}
        try:
            await send(START)
        except OSError as error:
            errors.append(error)

    driver.serve(stubborn, http2=http2, timeouts=impatient)
    peer = driver.http2()
    stream_id = peer.request()
    pass_time(driver, 100)
    assert peer.response(stream_id).status == 503
    assert len(driver.state.tasks) == 1
    released.set_result(None)
    driver.loop.settle()
    assert not driver.state.tasks
    assert [type(error) for error in errors] == [ClientDisconnected]
    assert len(driver.records) == 1


def test_application_that_has_begun_may_stream_for_ever(driver, http2, impatient):
    app = Stepwise()
    driver.serve(app, http2=http2, timeouts=impatient)
    peer = driver.http2()
    app.start(START, body(b"first", more=True))
    stream_id = peer.request()
    pass_time(driver, 600, 5)
    app.start(body(b" and last"))
    driver.loop.settle()
    assert peer.response(stream_id).body == b"first and last"
    app.finish()


def test_applications_are_not_looked_at_by_default(driver):
    driver.serve(silent)
    peer = driver.http1()
    peer.send(GET)
    driver.loop.advance(10)
    assert driver.loop.timers_left() == []


# The age of a connection.


def test_old_http2_connection_ends_gracefully(driver, http2):
    app = Stepwise()
    driver.serve(app, http2=http2, timeouts=Timeouts(max_connection_age=100))
    peer = driver.http2()
    stream_id = peer.request()
    pass_time(driver, 89)
    peer.read()
    assert not peer.goaway
    pass_time(driver, 23)
    peer.read()
    assert [frame.error_code for frame in peer.goaway] == [0, 0]
    app.start(START, body(b"done"))
    driver.loop.settle()
    assert peer.response(stream_id).body == b"done"
    pass_time(driver, 2)
    assert peer.transport.is_closing()
    app.finish()


def test_old_http1_connection_says_close(driver, http1):
    app = Stepwise()
    driver.serve(app, http1=http1, timeouts=Timeouts(max_connection_age=100))
    peer = driver.http1()
    peer.send(GET)
    pass_time(driver, 111)
    app.start(START, body(b"done"))
    driver.loop.settle()
    assert b"connection: close" in peer.take()
    pass_time(driver, 2)
    assert peer.transport.is_closing()
    app.finish()


def test_old_idle_connection_is_closed(driver, http1):
    driver.serve(hello, http1=http1, timeouts=Timeouts(max_connection_age=50))
    peer = driver.http1()
    peer.send(GET)
    pass_time(driver, 44)
    assert not peer.transport.is_closing()
    pass_time(driver, 12)
    assert peer.transport.is_closing()


def test_requests_of_an_old_connection_have_the_graceful_time(driver, http2):
    app = Stepwise()
    driver.serve(app, http2=http2, timeouts=Timeouts(max_connection_age=100, graceful=25))
    peer = driver.http2()
    stream_id = peer.request()
    app.start("receive", "receive")
    pass_time(driver, 89 + 25)
    assert len(app.done) == 1
    pass_time(driver, 25)
    assert peer.response(stream_id).error_code == 8
    assert app.done[1] == {"type": "http.disconnect"}
    pass_time(driver, 2)
    assert peer.transport.is_closing()
    app.finish()


def test_connections_that_began_together_do_not_end_together(driver):
    driver.serve(hello, timeouts=Timeouts(max_connection_age=1000, http2_idle=5000))
    peers = [driver.http2() for _ in range(20)]
    times = [peer.connection._timer.next - driver.loop.now for peer in peers]
    assert all(900 <= time <= 1100 for time in times)
    assert len(set(times)) == 20


@pytest.mark.parametrize("shutdown", [False, True])
def test_a_discard_that_is_due_while_the_transport_is_paused_does_not_keep_the_loop_busy(
    driver, shutdown
):
    async def app(scope, receive, send):
        await send(START)
        await send(body(b"no" if scope["path"] == "/up" else bytes(1_000_000)))

    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=10_000_000)
    peer.credit(0, 10_000_000)
    peer.request("POST", "/up", end_stream=False)  # answered; what is left of it has a second
    peer.transport.stall()
    peer.request("GET", "/down")  # of which the peer takes nothing
    assert peer.connection._output.paused
    if shutdown:
        peer.connection.begin_shutdown()
        driver.loop.settle()
    else:
        driver.loop.advance(1.01)
    made = driver.loop.timers_made
    driver.loop.settle(100)
    assert driver.loop.timers_made - made < 5
