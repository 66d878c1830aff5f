"""More requests than the process is to have in work: answered at once, without the application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from applications import START, Stepwise, body
from tunnel_peers import HTTP1WebSocket, HTTP2WebSocket

from h2asgi.config import Limits

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"
TWO = Limits(concurrency=2)


class Held:
    """Answers when the test says so; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        await send(START)
        await send(body(b"hello"))

    def release(self, driver: Any) -> None:
        self.waiting.pop(0).set_result(None)
        driver.loop.settle()


def test_http1_gets_503_and_retry_after(driver):
    app = Held()
    driver.serve(app, limits=TWO)
    for _ in range(2):
        driver.http1().send(GET)
    peer = driver.http1()
    for request in (GET, POST + b"hello", GET):
        peer.send(request)
        answer = peer.take()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"connection: close" not in answer
    assert app.calls == 2
    assert [record.status for record in driver.records] == [503] * 3
    app.release(driver)
    peer.send(GET)
    assert peer.take() == b""
    app.release(driver)
    app.release(driver)
    assert peer.take().endswith(b"hello")
    assert app.calls == 3


def test_http2_gets_503_on_the_stream_and_siblings_go_on(driver):
    app = Held()
    driver.serve(app, limits=TWO)
    peer = driver.http2()
    first, second, third = (peer.request() for _ in range(3))
    upload = peer.request("POST", end_stream=False)
    for stream_id in (third, upload):
        response = peer.response(stream_id)
        assert response.status == 503
        assert ("retry-after", "1") in response.headers
    assert app.calls == 2
    app.release(driver)
    app.release(driver)
    assert [peer.response(stream_id).status for stream_id in (first, second)] == [200, 200]
    assert peer.goaway == []


def test_requests_whose_application_runs_in_the_next_turn_count(driver):
    """A hundred uploads that come in one read."""
    app = Held()
    driver.serve(app, limits=TWO)
    peer = driver.http2()
    heads = [peer.head("POST", end_stream=False) for _ in range(100)]
    peer.send(b"".join(data for _, data in heads))
    assert app.calls == 2
    statuses = [peer.response(stream_id).status for stream_id, _ in heads]
    assert statuses.count(503) == 98


def test_uploads_that_are_reset_before_they_begin_do_not_count(driver):
    driver.serve(Held())
    peer = driver.http2()
    for _ in range(5):
        stream_id, head = peer.head("POST", end_stream=False)
        peer.deliver(head)
        peer.reset(stream_id)
    assert driver.state.in_work == len(driver.state.tasks)


def test_applications_that_go_on_without_their_client_count(driver):
    """Or a client that resets would have as many in work as it likes."""
    app = Held()
    driver.serve(app, limits=TWO)
    peer = driver.http2()
    for _ in range(2):
        peer.reset(peer.request())
    assert peer.response(peer.request()).status == 503
    app.release(driver)
    peer.request()
    assert app.calls == 3


@pytest.mark.parametrize("far_end", [HTTP1WebSocket, HTTP2WebSocket])
def test_websockets_count_and_are_refused(driver, far_end):
    app = Stepwise()
    app.start("receive", {"type": "websocket.accept"})
    driver.serve(app, limits=Limits(concurrency=1))
    open_one = far_end(driver, "/ws")
    assert open_one.status == (101 if far_end is HTTP1WebSocket else 200)
    assert far_end(driver, "/ws").status == 503
    peer = driver.http1()
    peer.send(GET)
    assert peer.take().startswith(b"HTTP/1.1 503 ")


def test_no_limit_by_default(driver):
    app = Held()
    driver.serve(app)
    peer = driver.http2()
    for _ in range(100):
        peer.request()
    assert app.calls == 100
