"""How applications begin: in which context, after what, and when not at all."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextvars import ContextVar, copy_context

import pytest
from applications import START, Greeter, Stepwise, body, hello

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx"
CHUNKS = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"

path: ContextVar[str] = ContextVar("path", default="none")


class Keeper:
    """Says hello, and keeps what it finds in its context, where it leaves its path."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.waited: asyncio.Future[None] | None = None

    async def __call__(self, scope, receive, send):
        self.found.append(path.get())
        path.set(scope["path"])
        if self.waited is not None:
            await self.waited
        await hello(scope, receive, send)


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
def test_the_next_request_of_a_connection_has_a_context_of_its_own(driver, request_):
    """It may come between the answer to the one before and the flush that this has scheduled."""
    app = Keeper()
    app.waited = driver.loop.create_future()
    driver.serve(app)
    peer = driver.http1()
    peer.send(request_ % 1)
    app.waited.set_result(None)
    while not peer.take():
        driver.loop.turn()
    peer.send(request_ % 2)
    assert peer.take().endswith(b"hello")
    assert app.found == ["none"] * 2


def test_pipelined_requests_have_contexts_of_their_own(driver):
    app = Keeper()
    driver.serve(app)
    driver.http1().send(GET % 1 + GET % 2 + GET % 3)
    assert app.found == ["none"] * 3


def test_streams_have_contexts_of_their_own(driver):
    app = Keeper()
    driver.serve(app)
    peer = driver.http2()
    for method, end_stream in [("GET", True), ("POST", False), ("GET", True)]:
        # What is read may be read in the context of an application that had reading go on.
        context = copy_context()
        context.run(path.set, "somebody's")
        context.run(peer.deliver, peer.head(method, end_stream=end_stream)[1])
        driver.loop.settle()
    assert app.found == ["none"] * 3


@pytest.mark.parametrize("alpn", [False, "http/1.1"])
def test_a_connection_whose_end_ends_the_response_is_closed_when_send_returns(driver, alpn):
    """RFC 9112 section 6.3: an application that blocks the loop then keeps nobody waiting."""
    seen = []

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await send(START)
        await send(body(b"a", more=True))
        await send(body(b"b"))
        seen.append((peer.take()[-2:], peer.transport.is_closing()))

    driver.serve(app)
    peer = driver.connect(alpn)
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert seen == [(b"ab", True)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin one way only")
def test_no_application_begins_for_a_request_that_is_reset_before(driver):
    app = Greeter()
    begun = []

    def stop() -> None:
        begun.extend(app.paths)
        peer.connection.abort_streams()

    driver.serve(app)
    peer = driver.http1()
    driver.loop.call_soon(peer.deliver, GET % 1)
    driver.loop.call_soon(stop)
    driver.loop.settle()
    assert app.paths == begun
    assert [record.status for record in driver.records] in ([0], [200])
    assert driver.state.beginning == 0


def test_an_answer_behind_the_mistake_of_its_client_is_not_taken_for_sent(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.http1()
    peer.send(CHUNKS)
    app.start(START, body(b"ok"))
    peer.deliver(b"zz\r\n")
    driver.loop.settle()
    assert isinstance(app.done[-1], OSError)
    assert [record.status for record in driver.records] == [0, 400]
    app.finish()


async def interrupted(scope, receive, send):
    if scope["path"] == "/1":
        raise KeyboardInterrupt
    await hello(scope, receive, send)


def settle_after_interrupt(driver):
    with pytest.raises(KeyboardInterrupt):
        driver.loop.settle()
    driver.loop.settle()
    gc.collect()
    driver.loop.errors.clear()  # nobody has asked for that KeyboardInterrupt, says asyncio


def test_an_application_that_ends_the_process_leaves_the_others_to_the_loop(driver):
    driver.serve(interrupted)
    peer = driver.http2()
    heads = [peer.head("POST", f"/{number}", end_stream=False) for number in (1, 2, 3)]
    peer.deliver(b"".join(data for _, data in heads))
    settle_after_interrupt(driver)
    assert driver.state.beginning == 0
    assert [peer.response(stream_id).body for stream_id, _ in heads[1:]] == [b"hello"] * 2


def test_an_application_that_ends_the_process_leaves_other_connections_to_the_loop(driver):
    driver.serve(interrupted)
    peers = [driver.http1() for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.deliver(GET % number)
    settle_after_interrupt(driver)
    answers = [peer.take() for peer in peers]
    assert answers[0].endswith(b"hello")
    assert not answers[1]
    assert answers[2].endswith(b"hello")


def test_connections_that_were_read_in_one_turn_flush_in_the_next(driver):
    """And the loop has one callback for all of them."""
    driver.serve(hello)
    peers = [driver.http1() for _ in range(3)]
    driver.loop.settle()
    calls = []
    scheduled = driver.loop.call_soon

    def call_soon(callback, *args, **options):
        calls.append(callback)
        return scheduled(callback, *args, **options)

    driver.state.flushes._call_soon = call_soon
    for number, peer in enumerate(peers):
        peer.deliver(GET % number)
    assert len(calls) == 1
    driver.loop.settle()
    assert all(peer.take().endswith(b"hello") for peer in peers)
