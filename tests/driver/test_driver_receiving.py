"""The way in: bodies, credit, disconnects, and the life of the application's task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys

import pytest
from applications import START, Stepwise, body, hello, reader, silent

from h2asgi.config import HTTP1Config, HTTP2Config

STREAM_WINDOW = 256 * 1024
FRAME = bytes(16_384)
VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("VALUE", default="unset")


def upload(peer, size, *, end_stream=False):
    """A stream that has sent ``size`` octets of body, in full frames."""
    stream_id = peer.request("POST", end_stream=False)
    for _ in range(size // len(FRAME)):
        peer.body(stream_id, FRAME)
    if end_stream:
        peer.body(stream_id, b"", end_stream=True)
    return stream_id


def test_body_reaches_the_application(driver):
    driver.serve(reader)
    peer = driver.http2()
    stream_id = upload(peer, 4 * len(FRAME), end_stream=True)
    assert peer.response(stream_id).body == b"65536"


def test_trailers_end_the_body(driver):
    """ASGI has no message for them, but the request is complete."""
    driver.serve(reader)
    peer = driver.http1()
    peer.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    peer.send(b"3\r\nabc\r\n0\r\nchecksum: 1\r\n\r\n")
    assert peer.take().endswith(b"\r\n\r\n3")


def test_credit_is_given_for_what_the_application_took_and_not_before(driver):
    """RFC 9113 section 5.2: a WINDOW_UPDATE says that there is room again."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.http2()
    stream_id = upload(peer, STREAM_WINDOW)
    assert stream_id not in peer.credits()
    app.start("receive")
    driver.loop.settle()
    assert len(app.done[0]["body"]) == STREAM_WINDOW
    assert peer.credits()[stream_id] == STREAM_WINDOW


def test_unread_streams_do_not_starve_a_sibling(driver):
    """Field note 20."""

    async def app(scope, receive, send):
        await (silent if scope["path"] == "/silent" else reader)(scope, receive, send)

    driver.serve(app)
    peer = driver.http2()
    window = 65_535 + peer.credits().get(0, 0)
    for _ in range(8):
        stream_id = peer.request("POST", "/silent", end_stream=False)
        for _ in range(STREAM_WINDOW // len(FRAME)):
            peer.body(stream_id, FRAME)
    stream_id = upload(peer, STREAM_WINDOW, end_stream=True)
    assert peer.response(stream_id).body == b"%d" % STREAM_WINDOW
    assert window < 9 * STREAM_WINDOW


def test_body_after_the_answer_is_dropped_and_its_connection_credit_given_back(driver):
    """Field note 1: on HTTP/2 the stream is over, but what was under way is no error."""
    driver.serve(hello)
    peer = driver.http2()
    stream_id = peer.request("POST", end_stream=False)
    response = peer.response(stream_id)
    assert (response.ended, response.error_code) == (True, None)
    for _ in range(64):
        peer.body(stream_id, FRAME)
    assert peer.credits() == pytest.approx({0: 64 * len(FRAME)}, rel=0.5)
    assert peer.response(peer.request()).body == b"hello"


def test_body_that_arrives_while_the_answer_waits_is_dropped_with_credit(driver):
    driver.serve(hello)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request("POST", end_stream=False)
    assert not driver.state.tasks
    for _ in range(STREAM_WINDOW // len(FRAME)):
        peer.body(stream_id, FRAME)
    assert peer.credits()[stream_id] >= STREAM_WINDOW // 2
    peer.body(stream_id, b"", end_stream=True)
    peer.credit(stream_id, 5)
    response = peer.response(stream_id)
    assert (response.body, response.ended, response.error_code) == (b"hello", True, None)


def test_body_that_the_application_no_longer_reads_is_dropped_with_credit(driver):
    """A HEAD is answered with the head; the task goes on and reads nothing."""
    app = Stepwise()
    app.start(START, body(b"x"))
    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request("POST", end_stream=False)
    for _ in range(STREAM_WINDOW // len(FRAME)):
        peer.body(stream_id, FRAME)
    assert peer.credits()[stream_id] >= STREAM_WINDOW // 2


def test_shared_buffer_is_not_kept(driver):
    """Two connections take turns on one buffer, which is overwritten after each read."""
    bodies = []

    async def app(scope, receive, send):
        data, more = b"", True
        while more:
            message = await receive()
            data += message["body"]
            more = message["more_body"]
        bodies.append(data)
        await hello(scope, receive, send)

    driver.serve(app)
    first, second, third = driver.http2(), driver.http1(), driver.http2()
    one = first.request("POST", end_stream=False)
    two = third.request("POST", end_stream=False)
    second.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 40\r\n\r\n")
    for _ in range(10):
        first.deliver(b"\x00\x00\x04\x00\x00" + one.to_bytes(4, "big") + b"1111")
        second.deliver(b"2222")
        third.deliver(b"\x00\x00\x04\x00\x00" + two.to_bytes(4, "big") + b"3333")
    first.body(one, b"", end_stream=True)
    third.body(two, b"", end_stream=True)
    assert sorted(bodies) == [b"1111" * 10, b"2222" * 10, b"3333" * 10]
    assert first.connection.get_buffer(1) is second.connection.get_buffer(-1)


def test_http1_reading_stops_at_the_window_and_goes_on_when_the_body_is_taken(driver):
    app = Stepwise()
    driver.serve(app, http1=HTTP1Config(receive_window=1024))
    peer = driver.http1()
    peer.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2048\r\n\r\n")
    peer.send(bytes(1023))
    assert peer.transport.reading
    peer.send(bytes(1))
    assert not peer.transport.reading
    app.start("receive")
    driver.loop.settle()
    assert peer.transport.reading
    peer.send(bytes(1024))
    app.start("receive")
    driver.loop.settle()
    assert [len(message["body"]) for message in app.done] == [1024, 1024]


def test_http1_reading_stops_within_the_turn(driver):
    """Transports deliver once in a turn, and an application that waits has its own in the turn."""
    driver.serve(silent, http1=HTTP1Config(receive_window=len(FRAME)))
    peer = driver.http1()
    peer.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
    assert peer.transport.reading
    peer.deliver(FRAME)
    driver.loop.settle()
    assert not peer.transport.reading


def test_http1_reading_goes_on_after_an_answer_that_left_the_body_unread(driver):
    app = Stepwise()
    driver.serve(app, http1=HTTP1Config(receive_window=1024))
    peer = driver.http1()
    peer.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2048\r\n\r\n" + bytes(1024))
    assert not peer.transport.reading
    app.start(START, body(b"early"))
    driver.loop.settle()
    assert peer.transport.reading
    peer.send(bytes(1024) + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert b"early" in peer.take()
    assert len(driver.state.tasks) == 2


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("waiting", [True, False])
def test_lost_connection_is_http_disconnect_at_once_and_cancels_nothing(driver, protocol, waiting):
    app = Stepwise()
    driver.serve(app)
    peer = getattr(driver, protocol)()
    if protocol == "http1":
        peer.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n")
    else:
        peer.request("POST", end_stream=False)
    if waiting:
        app.start("receive")
        driver.loop.settle()
        assert app.done == []
    peer.transport.lose()
    if not waiting:
        app.start("receive")
    driver.loop.settle(3)
    assert app.done == [{"type": "http.disconnect"}]
    assert not app.task.done()
    assert driver.state.connections == set()
    app.finish()
    driver.loop.settle()
    assert not app.task.cancelled()
    assert driver.state.tasks == set()


def test_reset_is_http_disconnect_at_once_and_cancels_nothing(driver):
    """Field note 15; the sibling is not told."""
    applications = []

    async def app(scope, receive, send):
        applications.append(Stepwise())
        applications[-1].start("receive", "receive")
        await applications[-1](scope, receive, send)

    driver.serve(app)
    peer = driver.http2()
    first, second = peer.request(), peer.request()
    peer.reset(first)
    assert applications[0].done[1:] == [{"type": "http.disconnect"}]
    assert applications[1].done[1:] == []
    assert not applications[0].task.done()
    assert peer.response(second).error_code is None


def test_reset_of_a_stream_that_was_answered_is_nothing(driver):
    driver.serve(hello)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request()
    peer.reset(stream_id)
    assert [record.status for record in driver.records] == [200]
    assert not peer.transport.is_closing()


def test_disconnect_follows_the_answer(driver):
    app = Stepwise()
    app.start("receive", START, body(b"x"), "receive")
    driver.serve(app)
    driver.http2().request()
    assert app.done[3] == {"type": "http.disconnect"}


def test_each_request_has_a_context_of_its_own(driver):
    seen = []

    async def app(scope, receive, send):
        seen.append(VALUE.get())
        VALUE.set(scope["path"])
        await hello(scope, receive, send)
        seen.append(VALUE.get())

    driver.serve(app)
    peer = driver.http2()
    (_, one), (_, two) = peer.head("GET", "/1"), peer.head("GET", "/2")
    peer.send(one + two)
    assert sorted(seen) == ["/1", "/2", "unset", "unset"]
    assert VALUE.get() == "unset"


def test_pipelined_requests_are_answered_in_order(driver):
    """RFC 9112 section 9.3.2."""
    paths = []

    async def app(scope, receive, send):
        paths.append(scope["path"])
        await send(START)
        await send(body(scope["path"].encode()))

    driver.serve(app)
    peer = driver.http1()
    peer.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(5)))
    assert paths == ["/0", "/1", "/2", "/3", "/4"]
    assert [part[:2] for part in peer.take().split(b"\r\n\r\n")[1:]] == [
        b"/0", b"/1", b"/2", b"/3", b"/4",
    ]  # fmt: skip


def test_task_that_was_cancelled_is_forgotten(driver):
    driver.serve(silent)
    peer = driver.http2()
    stream_id = peer.request()
    (task,) = driver.state.tasks
    calls = driver.idle_calls
    task.cancel()
    driver.loop.settle()
    assert driver.state.tasks == set()
    assert driver.idle_calls == calls + 1
    assert peer.response(stream_id).error_code == 2


def test_body_that_comes_with_its_head_is_there_at_once(driver):
    """One message, and no turn of the loop between the two calls."""
    seen = []

    async def app(scope, receive, send):
        receiving = receive()
        try:
            receiving.send(None)
        except StopIteration as stop:
            seen.append(stop.value)

    driver.serve(app)
    post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
    # From inside the loop: outside of it no task begins at once.
    driver.loop.call_soon(driver.http1().deliver, post)
    driver.loop.settle()
    assert seen == [{"type": "http.request", "body": b"hi", "more_body": False}]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin one way only")
@pytest.mark.parametrize("end", ["reset", "loss"])
def test_application_is_spared_a_request_that_ends_before_it_begins(driver, end):
    called = []

    async def app(scope, receive, send):
        called.append(scope)

    driver.serve(app)
    peer = driver.http2()
    stream_id, head = peer.head("POST", end_stream=False)
    if end == "reset":
        peer.deliver(head)
        peer.reset(stream_id)
    else:
        peer.deliver(head)
        peer.transport.lose()
        driver.loop.settle()
    assert [record.status for record in driver.records] == [0]
    assert driver.state.tasks == set()
    assert called == []


def test_server_is_told_when_the_last_task_ends(driver):
    driver.serve(silent)
    peer = driver.http2()
    peer.request()
    peer.request()
    calls = driver.idle_calls
    for task, told in zip(tuple(driver.state.tasks), (0, 1), strict=True):
        task.cancel()
        driver.loop.settle()
        assert driver.idle_calls == calls + told


@pytest.mark.parametrize("turns", [0, 1])
def test_exception_that_stops_a_task_is_not_reported_again_by_asyncio(driver, turns):
    """The fixture looks at what the loop was told."""
    ran = []

    async def app(scope, receive, send):
        for _ in range(turns):
            await asyncio.sleep(0)
        ran.append(True)
        raise BaseExceptionGroup("stop", [KeyboardInterrupt()])

    driver.serve(app)
    peer = driver.http2()
    stream_id, head = peer.head()
    driver.loop.call_soon(peer.deliver, head)  # where tasks begin at once
    driver.loop.settle()
    assert peer.response(stream_id).error_code == 2
    assert ran
    assert driver.state.tasks == set()
    gc.collect()


def test_exception_of_a_task_is_logged_once_by_its_cycle(driver, caplog):
    async def app(scope, receive, send):
        raise ValueError("mistake")

    driver.serve(app)
    peer = driver.http2()
    assert peer.response(peer.request()).status == 500
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1


def test_no_observer_and_nobody_to_call_is_fine(driver):
    driver.serve(hello, traced=False)
    driver.state.on_idle = None
    peer = driver.http2()
    assert peer.response(peer.request()).body == b"hello"
    peer.transport.lose()
    closing = driver.http1()
    closing.connection.begin_shutdown()
    driver.loop.settle()
    assert closing.transport.is_closing()


def test_one_stream_too_many_costs_that_stream_only(driver):
    """Field note 2; RFC 9113 section 5.1.2."""
    driver.serve(silent, http2=HTTP2Config(max_concurrent_streams=1))
    peer = driver.http2()
    first, second = peer.request(), peer.request()
    assert peer.response(second).error_code == 7
    assert peer.response(first).error_code is None


def test_ping_acknowledgement_is_taken(driver):
    driver.serve(hello)
    peer = driver.http2()
    peer.send(b"\x00\x00\x08\x06\x01" + bytes(12))
    assert not peer.transport.is_closing()


@pytest.mark.parametrize("how", ["lost", "closed by the client", "shut down"])
def test_what_a_connection_leaves_unread_leaves_the_budget(driver, how):
    driver.serve(silent)
    peer = driver.http2()
    upload(peer, 4 * len(FRAME))
    assert driver.state.unread_bodies.used == 4 * len(FRAME)
    if how == "lost":
        peer.transport.lose()
    elif how == "closed by the client":
        peer.end()
    else:
        peer.connection.abort_streams()
        driver.loop.settle()
        peer.transport.lose()
    driver.loop.settle()
    assert driver.state.unread_bodies.used == 0


def test_connections_share_the_budget(driver):
    driver.serve(silent)
    for _ in range(2):
        upload(driver.http2(), len(FRAME))
    assert driver.state.unread_bodies.used == 2 * len(FRAME)
