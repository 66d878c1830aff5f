"""The way out: one flush a turn, and what ``send()`` waits for."""

from __future__ import annotations

import asyncio
import sys

import pytest
from applications import START, Greeter, Stepwise, body, hello

from h2asgi.errors import ClientDisconnected
from h2asgi.output import LARGEST_WRITE, MAX_WRITES, WRITE_SIZE
from h2asgi.protocol.engine import SEND_HIGH_WATER, SEND_LOW_WATER

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LARGE = bytes(SEND_HIGH_WATER + 1)
WIDE = {"INITIAL_WINDOW_SIZE": 2**24}


def test_transport_holds_no_more_than_one_turns_writes(driver):
    driver.serve(hello)
    assert driver.http2().transport._high == WRITE_SIZE


def test_many_streams_that_send_in_one_turn_make_one_write(driver):
    driver.serve(hello)
    peer = driver.http2()
    peer.transport.writes.clear()
    heads = [peer.head() for _ in range(50)]
    peer.send(b"".join(data for _, data in heads))
    assert len(peer.transport.writes) == 1
    assert {bytes(peer.response(stream_id).body) for stream_id, _ in heads} == {b"hello"}


def test_no_turn_makes_more_than_one_write(driver):
    driver.serve(hello)
    peer = driver.http2()
    for _ in range(5):
        peer.deliver(peer.head()[1])
    for _ in range(5):
        peer.transport.writes.clear()
        driver.loop.turn()
        assert len(peer.transport.writes) <= 1


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_send_has_its_bytes_in_the_transport_when_it_returns(driver, protocol):
    """For applications that block right after: ASGI's "flush any data"."""
    seen = []

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"first", more=True))
        seen.append(bytes(peer.transport.arrived))
        await send(body(b"last"))
        seen.append(bytes(peer.transport.arrived))

    driver.serve(app)
    peer = getattr(driver, protocol)()
    peer.send(GET) if protocol == "http1" else peer.request()
    assert b"first" in seen[0]
    assert b"last" in seen[1]


def test_send_has_its_bytes_in_the_transport_even_if_its_siblings_send_much(driver):
    size = 32 * 1024
    missing = []

    async def app(scope, receive, send):
        await send(START)
        await send(body(scope["path"].encode() * (size // 2)))
        if bytes(peer.transport.arrived).count(scope["path"].encode()) < size // 2:
            missing.append(scope["path"])

    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.send(b"".join(peer.head("GET", f"/{name}")[1] for name in "abcdefgh"))
    assert missing == []


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_answer_without_body_is_in_the_transport_when_send_returns(driver, protocol):
    seen = []

    async def app(scope, receive, send):
        await send({**START, "status": 204})
        await send(body())
        seen.append(len(peer.transport.writes))

    driver.serve(app)
    peer = getattr(driver, protocol)()
    peer.transport.writes.clear()
    peer.send(GET) if protocol == "http1" else peer.request()
    assert seen == [1]


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_100_continue_is_sent_when_the_application_first_reads(driver, protocol):
    """RFC 9110 section 10.1.1; Java's client waits for it on HTTP/2 too."""
    app = Stepwise()
    driver.serve(app)
    peer = getattr(driver, protocol)()
    if protocol == "http1":
        peer.send(
            b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
        )
        assert peer.take() == b""
        app.start("receive")
        driver.loop.settle()
        assert peer.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    else:
        stream_id = peer.request("POST", "/", ("expect", "100-continue"), end_stream=False)
        assert peer.response(stream_id).informational == []
        app.start("receive")
        driver.loop.settle()
        assert peer.response(stream_id).informational == [100]


def stalled_by_window(driver, app, steps):
    """An HTTP/2 stream whose window lets nothing through."""
    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    app.start(*steps)
    return peer, peer.request()


def test_send_waits_above_the_high_water_mark_only(driver):
    app = Stepwise()
    at_the_mark = body(bytes(SEND_HIGH_WATER), more=True)
    stalled_by_window(driver, app, [START, at_the_mark])
    assert app.done == [None, None]
    app.start(body(b"x", more=True))
    driver.loop.settle()
    assert app.done == [None, None]


def test_waiting_send_goes_on_exactly_at_the_low_water_mark(driver):
    app = Stepwise()
    peer, stream_id = stalled_by_window(driver, app, [START, body(LARGE, more=True)])
    assert app.done == [None]
    peer.credit(stream_id, len(LARGE) - SEND_LOW_WATER - 1)
    assert app.done == [None]
    peer.credit(stream_id, 1)
    assert app.done == [None, None]
    assert len(peer.response(stream_id).body) == len(LARGE) - SEND_LOW_WATER


def test_window_wakes_its_own_writer_only(driver):
    """RFC 9113 section 5.2: streams are flow-controlled one by one."""
    applications = []

    async def app(scope, receive, send):
        applications.append(Stepwise())
        applications[-1].start(START, body(LARGE))
        await applications[-1](scope, receive, send)

    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    first, second = peer.request(), peer.request()
    peer.credit(0, len(LARGE))
    peer.credit(second, len(LARGE))
    assert [application.done for application in applications] == [[None], [None, None]]
    assert peer.response(second).ended
    assert peer.response(first).body == b""


def test_two_senders_on_one_stream_wait_and_both_go_on(driver):
    done = []

    async def app(scope, receive, send):
        async def sender(name):
            await send(body(name * len(LARGE), more=True))
            done.append(name)

        await send(START)
        await asyncio.gather(sender(b"a"), sender(b"b"))
        await send(body(b"."))

    driver.serve(app)
    peer = driver.http2(**WIDE)
    stream_id = peer.request()
    peer.read()
    assert done == []  # the connection window is still 65,535
    peer.credit(0, 2**24)
    assert sorted(done) == [b"a", b"b"]
    response = peer.response(stream_id)
    assert response.body == b"a" * len(LARGE) + b"b" * len(LARGE) + b"."
    assert response.ended


def test_cancelled_send_leaves_its_bytes_and_harms_nobody(driver):
    cancelled = []

    async def app(scope, receive, send):
        await send(START)
        try:
            async with asyncio.timeout(5):
                await send(body(LARGE, more=True))
        except TimeoutError:
            cancelled.append(True)
        await send(body(b"."))

    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request()
    driver.loop.advance(5)
    assert cancelled == [True]
    peer.credit(0, 2**20)
    peer.credit(stream_id, 2**20)
    response = peer.response(stream_id)
    assert len(response.body) == len(LARGE) + 1
    assert response.ended


def test_cancelled_send_is_passed_over_when_its_stream_is_reset(driver):
    async def app(scope, receive, send):
        await send(START)
        await send(body(LARGE, more=True))

    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request()
    (task,) = driver.state.tasks
    task.cancel()
    peer.reset(stream_id)
    assert not driver.state.tasks
    assert driver.records[0].status == 200


@pytest.mark.parametrize("how", ["reset", "loss", "error", "goaway"])
def test_waiting_send_raises_when_the_client_goes(driver, how):
    """ASGI HTTP spec, "Disconnected Client"; field note 23."""
    app = Stepwise()
    peer, stream_id = stalled_by_window(driver, app, [START, body(LARGE, more=True)])
    assert app.done == [None]
    if how == "reset":
        peer.reset(stream_id)
    elif how == "loss":
        peer.transport.lose(ConnectionResetError("reset"))
    elif how == "error":
        peer.send(bytes(9))  # an empty DATA frame on stream 0
    else:
        peer.connection.abort_streams()
    driver.loop.settle()
    assert isinstance(app.done[1], ClientDisconnected)
    assert isinstance(app.done[1], OSError)
    app.start(body(b"more"))
    driver.loop.settle()
    assert isinstance(app.done[2], OSError)


def test_send_that_fails_in_the_application_releases_its_other_writers(driver):
    outcome = []

    async def app(scope, receive, send):
        async def sender():
            try:
                await send(body(LARGE, more=True))
            except OSError as error:
                outcome.append(error)

        await send({**START, "headers": [(b"content-length", b"%d" % len(LARGE))]})
        writer = asyncio.ensure_future(sender())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await send(body(b"too much"))
        await writer

    driver.serve(app)
    peer = driver.http2(INITIAL_WINDOW_SIZE=0)
    stream_id = peer.request()
    assert isinstance(outcome[0], ClientDisconnected)
    assert peer.response(stream_id).error_code == 2  # INTERNAL_ERROR


def test_paused_transport_is_given_nothing_and_reading_goes_on(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.transport.stall()
    app.start(START, *[body(bytes(SEND_HIGH_WATER), more=True)] * 6)
    stream_id = peer.request()
    waiting = len(app.done)
    assert waiting < 7
    written = len(peer.transport.writes)
    peer.credit(stream_id, 1000)
    driver.loop.settle()
    assert len(peer.transport.writes) == written
    assert peer.transport.reading
    peer.transport.drain()
    driver.loop.settle()
    assert len(app.done) == 7
    assert len(peer.response(stream_id).body) == 6 * SEND_HIGH_WATER


def test_reset_is_seen_while_the_transport_is_paused(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.transport.stall()
    app.start(START, *[body(bytes(SEND_HIGH_WATER), more=True)] * 6)
    peer.reset(peer.request())
    assert isinstance(app.done[-1], ClientDisconnected)


def test_large_answer_leaves_in_bounded_writes(driver):
    size = 5 * WRITE_SIZE

    async def app(scope, receive, send):
        await send(START)
        await send(body(bytes(size)))

    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.transport.writes.clear()
    response = peer.response(peer.request())
    assert len(response.body) == size
    assert response.ended
    first, second, *_ = peer.transport.writes
    assert WRITE_SIZE <= first < WRITE_SIZE + 2 * 16_384
    assert LARGEST_WRITE <= second < LARGEST_WRITE + 2 * 16_384
    assert len(driver.records) == 1


def test_writes_are_small_again_when_the_kernel_has_enough(driver):
    """What is in the transport can no longer be reprioritised."""
    size = 20 * WRITE_SIZE
    app = Stepwise()
    app.start(START, body(bytes(size)))
    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    writes = peer.transport.writes
    writes.clear()
    peer.transport.stalls_at = 3
    peer.request()
    assert [write // WRITE_SIZE for write in writes] == [1, 2, 2]
    writes.clear()
    peer.transport.drain()
    peer.transport.stall()
    driver.loop.settle()
    assert [write // WRITE_SIZE for write in writes] == [1]


def test_what_was_written_since_counts_before_a_large_write(driver):
    """The transport never has more than its mark and one write of the usual size."""
    bodies = [body(bytes(size)) for size in (5 * WRITE_SIZE, WRITE_SIZE * 3 // 4, 5 * WRITE_SIZE)]
    apps = iter(bodies)

    async def app(scope, receive, send):
        await send(START)
        await send(next(apps))

    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.response(peer.request())
    peer.transport.stall()
    peer.request()
    peer.request()
    assert WRITE_SIZE < peer.transport.get_write_buffer_size() < 2 * WRITE_SIZE


@pytest.mark.parametrize("drained", [True, False])
def test_last_send_of_a_closing_connection_waits_and_succeeds(driver, drained):
    """The connection ends because of this answer; its writer must not hear of a disconnect."""
    size = 5 * WRITE_SIZE
    app = Stepwise()
    app.start(START, body(bytes(size)))
    driver.serve(app)
    peer = driver.http1()
    if not drained:
        peer.transport.stall()
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    peer.transport.drain()
    driver.loop.settle()
    assert app.done == [None, None]
    assert peer.take().endswith(bytes(size))
    assert peer.transport.is_closing()
    assert [(record.status, record.body_size) for record in driver.records] == [(200, size)]
    app.finish()


def test_unread_answers_end_a_connection_whose_transport_is_paused(driver):
    """CVE-2019-9512: PINGs from a peer that does not read."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.http2(**WIDE)
    peer.credit(0, 2**24)
    peer.transport.stall()
    app.start(START, *[body(bytes(SEND_HIGH_WATER), more=True)] * 6)
    peer.request()
    for _ in range(10):
        peer.send((b"\x00\x00\x08\x06\x00" + bytes(12)) * 100)
    assert not peer.connection._closing
    peer.send(b"\x00\x00\x08\x06\x00" + bytes(12))
    assert peer.connection._closing
    assert isinstance(app.done[-1], ClientDisconnected)
    driver.loop.advance(60)
    driver.loop.advance(60)
    assert peer.transport.lost
    assert not driver.loop.timers_left()


def test_transport_that_keeps_tiny_writes_gets_no_more_of_them(driver):
    """Each costs it hundreds of octets, so what a peer does not read is kept in the engine."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect(False)
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
    app.start(START, body(b"x", more=True))
    driver.loop.settle()
    peer.transport.stall()
    for _ in range(4):
        app.start(*[body(b"x", more=True)] * 200)
        driver.loop.settle(1000)
    assert len(app.done) == 802
    assert len(peer.transport.writes) < 2 * MAX_WRITES
    peer.transport.drain()
    driver.loop.settle()
    assert peer.take().count(b"1\r\nx\r\n") == 801
    peer.transport.stall()
    app.start(body(bytes(50_000), more=True), body(b"x", more=True))
    driver.loop.settle()
    assert len(app.done) == 804, "the mark is not what it was"


@pytest.mark.parametrize(("method", "status", "data"), [
    ("GET", 200, b"hello"), ("HEAD", 200, b"hello"), ("GET", 204, b""), ("GET", 307, b""),
])  # fmt: skip
def test_the_end_of_a_response_leaves_within_send_over_http1(driver, method, status, data):
    """There is nobody on the connection to share a write with, and no turn to wait for."""
    seen = []

    async def app(scope, receive, send):
        await send({**START, "status": status})
        asyncio.get_running_loop().call_soon(seen.append, "turn")
        await send(body(data))
        seen.append(peer.take())

    driver.serve(app)
    peer = driver.http1()
    peer.send(f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    assert seen[0].startswith(b"HTTP/1.1 %d" % status)
    assert seen[0].endswith(b"\r\n\r\n" + (data if method == "GET" else b""))
    assert seen[1:] == ["turn"]


def test_pieces_of_nothing_do_not_keep_others_from_their_turn(driver):
    others = []

    async def app(scope, receive, send):
        await send(START)
        asyncio.get_running_loop().call_soon(others.append, "turn")
        while not others:
            await send(body(b"", more=True))
        await send(body(b"hello"))

    driver.serve(app)
    peer = driver.http1()
    peer.send(GET)
    assert others == ["turn"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin a turn later anyway")
def test_what_others_have_sent_is_read_before_the_first_answer_is_written(driver):
    app = Greeter()
    driver.serve(app)
    peers = [driver.http1(), driver.http1()]
    for peer in peers:
        peer.deliver(GET)
    assert app.paths == []
    driver.loop.turn()
    assert app.paths == ["/", "/"]
    assert [peer.take()[-5:] for peer in peers] == [b"hello"] * 2
