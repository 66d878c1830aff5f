"""What the server asks of a connection when it stops."""

from __future__ import annotations

import importlib.util
import socket
import sys

import pytest
from applications import START, Stepwise, body, hello, silent

from h2asgi import tcp
from h2asgi.closing import LINGER_TIME
from h2asgi.output import WRITE_SIZE

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
BROKEN = b"GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n"


@pytest.fixture
def acknowledging(driver, monkeypatch):
    """The peer's system has whatever the transport has let go of."""

    def is_delivered(transport):
        return not transport.get_write_buffer_size()

    monkeypatch.setattr("h2asgi.connection.is_delivered", is_delivered)


@pytest.mark.usefixtures("acknowledging")
def test_idle_connections_finish_at_once(driver):
    driver.serve(hello)
    unknown, one, two = driver.connect(), driver.http1(), driver.http2()
    one.send(GET)
    two.request()
    calls = driver.idle_calls
    for peer in (unknown, one, two):
        assert not peer.connection.finished
        peer.connection.begin_shutdown()
    driver.loop.settle()
    assert unknown.transport.lost
    assert one.connection.finished
    driver.loop.advance(0.5)  # no answer to the PING between the GOAWAYs
    assert two.connection.finished
    assert not two.transport.aborted
    assert driver.idle_calls > calls


@pytest.mark.usefixtures("acknowledging")
def test_the_server_is_told_when_an_idle_connection_begins_to_linger(driver):
    driver.serve(hello)
    peer = driver.http2()
    peer.connection.begin_shutdown()
    calls = driver.idle_calls
    driver.loop.advance(0.5)  # no answer to the PING between the GOAWAYs
    assert peer.connection.finished
    assert driver.idle_calls == calls + 1


def test_a_request_that_may_be_on_its_way_is_waited_for(driver):
    driver.serve(hello)
    unknown, idle, used = driver.connect(), driver.http1(), driver.http1()
    driver.loop.advance(0.75)
    for peer in (unknown, idle, used):
        peer.connection.leave()
    driver.loop.settle()
    used.send(GET)
    assert b"connection: close" in used.take()
    assert used.transport.is_closing()
    assert not idle.transport.is_closing()
    assert not unknown.transport.is_closing()
    driver.loop.advance(0.25)
    assert idle.transport.is_closing()
    assert unknown.transport.is_closing()


@pytest.mark.parametrize("asks", [True, False])
def test_goaway_is_sent_at_once_but_for_a_connection_without_a_request(driver, asks):
    """HAProxy has opened it for one that it would not send any more."""
    driver.serve(hello)
    old, new = driver.http2(), driver.http2()
    old.request()
    driver.loop.settle()
    for peer in (old, new):
        peer.connection.leave()
    driver.loop.settle()
    for peer in (old, new):
        peer.read()
    assert (len(old.goaway), len(new.goaway)) == (1, 0)
    stream_id = new.request() if asks else None
    driver.loop.advance(1.0)
    new.read()
    assert len(new.goaway) == 1
    assert stream_id is None or new.responses[stream_id].body == b"hello"


def test_a_connection_that_has_been_idle_for_longer_is_closed_at_once(driver):
    driver.serve(hello)
    peer = driver.http1()
    peer.send(GET)
    driver.loop.advance(1.0)
    peer.connection.leave()
    driver.loop.settle()
    assert peer.transport.is_closing()


def test_a_response_whose_head_has_not_said_it_is_not_the_last_one(driver):
    """The client may send a request the moment it has the rest, and is told then."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.http1()
    peer.send(GET)
    app.start(START, body(b"o", more=True))
    driver.loop.advance(5.0)
    peer.connection.leave()
    app.start(body(b"k"), None)
    driver.loop.settle()
    driver.loop.advance(0.75)
    assert b"connection: close" not in peer.take()
    assert not peer.transport.is_closing()
    peer.send(GET)
    app.start(START, body(b"ok"))
    driver.loop.settle()
    assert b"connection: close" in peer.take()
    assert peer.transport.is_closing()


def test_a_head_that_has_begun_to_arrive_has_its_time(driver):
    driver.serve(hello)
    peer = driver.http1()
    driver.loop.advance(5.0)
    peer.send(GET[:10])
    peer.connection.leave()
    driver.loop.settle()
    assert not peer.transport.is_closing()
    peer.send(GET[10:])
    assert b"connection: close" in peer.take()


def test_what_lies_in_the_kernel_is_read_before_the_connection_is_closed(driver):
    """The loop may have been blocked since it last looked."""
    driver.serve(hello)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = driver.http1()
        peer.transport._extra["socket"] = ours
        driver.loop.advance(5.0)
        theirs.send(GET)
        peer.connection.leave()
        driver.loop.settle()
        assert not peer.transport.is_closing()
        peer.send(ours.recv(100))
        assert b"connection: close" in peer.take()


def test_http2_requests_in_flight_finish_first(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.http2()
    stream_id = peer.request()
    peer.connection.begin_shutdown()
    driver.loop.advance(1)
    peer.read()
    assert [frame.last_stream_id for frame in peer.goaway] == [2**31 - 1, stream_id]
    assert not peer.transport.is_closing()
    late = peer.request()
    app.start(START, body(b"done"))
    driver.loop.settle()
    assert peer.response(late).error_code == 7  # REFUSED_STREAM
    assert peer.responses[stream_id].body == b"done"
    driver.loop.advance(LINGER_TIME)  # for what the client still sends
    assert peer.transport.is_closing()
    assert not peer.connection.finished
    peer.transport.lose()
    assert peer.connection.finished


def test_http1_request_in_flight_finishes_and_says_close(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.http1()
    peer.send(GET)
    peer.connection.begin_shutdown()
    driver.loop.settle()
    assert not peer.transport.is_closing()
    app.start(START, body(b"done"))
    driver.loop.settle()
    answer = peer.take()
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"done")
    assert peer.transport.is_closing()
    assert not peer.connection.finished


@pytest.mark.usefixtures("acknowledging")
def test_answer_that_still_lies_in_the_transport_is_not_finished(driver):
    """Its application is done with it, and its client is not."""

    async def app(scope, receive, send):
        await send(START)
        await send(body(bytes(WRITE_SIZE // 4)))

    driver.serve(app)
    peer = driver.connect()
    peer.transport.stall()
    peer.send(GET)
    assert not driver.state.tasks
    peer.connection.begin_shutdown()
    driver.loop.settle()
    assert peer.transport.is_closing()
    assert not peer.connection.finished
    peer.transport.drain()
    driver.loop.settle()
    assert peer.connection.finished


def test_answer_is_delivered_when_the_peer_has_acknowledged_it(driver):
    """Asks the system, since the buffers of TLS transports cannot all be seen."""
    driver.serve(hello)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = driver.http1()
        peer.transport._extra["socket"] = ours
        ours.send(b"answer")
        peer.connection.begin_shutdown()
        driver.loop.settle()
        assert not peer.connection.finished
        theirs.recv(100)
        assert peer.connection.finished
        peer.transport._buffer += b"more"
        assert not peer.connection.finished


@pytest.mark.parametrize("unknown", ["no such request", "no socket"])
def test_delivery_that_cannot_be_known_is_awaited(driver, monkeypatch, unknown):
    driver.serve(hello)
    peer = driver.http1()
    if unknown == "no socket":
        peer.transport._extra["socket"] = None  # TLS, while the loss waits to be told
    else:
        monkeypatch.setattr("h2asgi.tcp._QUEUE_REQUEST", None)
    peer.connection.begin_shutdown()
    driver.loop.settle()
    assert not peer.connection.finished
    peer.transport.lose()
    assert peer.connection.finished


def test_system_that_cannot_be_asked_for_delivery(monkeypatch):
    """Windows has no such request; the driver is imported there all the same."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("h2asgi.elsewhere", tcp.__file__)
    elsewhere = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "h2asgi.elsewhere", elsewhere)
    spec.loader.exec_module(elsewhere)
    assert elsewhere._QUEUE_REQUEST is None
    assert tcp._QUEUE_REQUEST is not None


def test_shutdown_of_a_connection_that_is_closing_changes_nothing(driver):
    driver.serve(hello)
    unknown, broken = driver.connect(), driver.connect()
    unknown.transport.close = lambda: None  # takes its time
    unknown.connection.begin_shutdown()
    broken.send(BROKEN)
    deadlines = driver.loop.timers_left()
    for peer in (unknown, broken):
        peer.connection.begin_shutdown()
    driver.loop.settle()
    assert driver.loop.timers_left() == deadlines


def test_lost_connections_take_every_call(driver):
    driver.serve(hello)
    for peer in (driver.connect(), driver.http1(), driver.http2()):
        peer.transport.lose()
        peer.connection.begin_shutdown()
        peer.connection.abort_streams()
        peer.connection.abort()
        peer.connection.resume_writing()
        driver.loop.settle()
        assert peer.connection.finished


def test_abort_streams_resets_what_is_in_flight_and_closes(driver):
    app = Stepwise()
    app.start("receive", "receive")
    driver.serve(app)
    peer = driver.http2()
    stream_id = peer.request()
    peer.connection.begin_shutdown()
    driver.loop.settle()
    peer.connection.abort_streams()
    driver.loop.settle()
    assert peer.response(stream_id).error_code == 8  # CANCEL
    assert [frame.error_code for frame in peer.goaway] == [0, 0]
    driver.loop.advance(LINGER_TIME)
    assert peer.transport.is_closing()
    assert not peer.transport.aborted
    assert app.done[1] == {"type": "http.disconnect"}
    assert not app.task.done()
    assert [record.status for record in driver.records] == [0]


def test_abort_streams_cuts_an_http1_answer_off(driver):
    app = Stepwise()
    app.start(START, body(b"half", more=True))
    driver.serve(app)
    peer = driver.http1()
    peer.send(GET)
    peer.connection.abort_streams()
    driver.loop.settle()
    assert peer.transport.aborted
    app.start(body(b"more"))
    driver.loop.settle()
    assert isinstance(app.done[2], OSError)


@pytest.mark.parametrize("data", [b"", BROKEN])
def test_abort_streams_drops_a_connection_that_has_none(driver, data):
    driver.serve(silent)
    peer = driver.connect()
    peer.send(data)
    peer.connection.abort_streams()
    assert peer.transport.aborted


def test_abort_drops_the_connection(driver):
    driver.serve(silent)
    peer = driver.http2()
    peer.request()
    peer.connection.abort()
    driver.loop.settle()
    assert peer.transport.aborted
    assert peer.connection.finished
    assert driver.state.connections == set()
    assert [record.status for record in driver.records] == [0]
