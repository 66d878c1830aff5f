"""Lines for requests that take long, with ``--slow-request``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from applications import START, Stepwise, body, hello, silent

from h2asgi.config import LogConfig

SLOW = LogConfig(slow_request=5)


def told(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def serve(driver, app):
    driver.serve(app, log=SLOW)
    return driver.http2()


def test_a_request_that_goes_on_is_told_once_with_where_it_waits(driver, caplog):
    peer = serve(driver, silent)
    peer.request("GET", "/a?b")
    driver.loop.advance(4.9)
    assert told(caplog) == []
    for _ in range(5):
        driver.loop.advance(0.2)
    (line,) = told(caplog)
    assert re.fullmatch(
        r"GET /a\?b takes longer than 5 s, no response begun, "
        r"waits at \S+applications\.py:\d+ in silent",
        line,
    )
    (record,) = [found for found in caplog.records if found.levelname == "WARNING"]
    assert record.__dict__["stream"] == 1
    driver.loop.advance(100)
    assert len(told(caplog)) == 1


def test_its_end_is_not_told_again(driver, caplog):
    app = Stepwise()
    peer = serve(driver, app)
    peer.request()
    driver.loop.advance(6)
    app.start(START, body(b"late"))
    driver.loop.settle()
    assert driver.records[0].duration == 6
    assert len(told(caplog)) == 1


def test_a_response_that_goes_on_says_so(driver, caplog):
    app = Stepwise()
    peer = serve(driver, app)
    app.start(START, body(b"some", more=True))
    peer.request()
    driver.loop.advance(6)
    assert "takes longer than 5 s, response 200 begun, waits at " in told(caplog)[0]


def test_each_request_has_its_own_time(driver, caplog):
    peer = serve(driver, silent)
    peer.request("GET", "/1")
    driver.loop.advance(3)
    peer.request("GET", "/2")
    driver.loop.advance(3)
    assert [line.split(" ")[1] for line in told(caplog)] == ["/1"]
    driver.loop.advance(1.5)
    assert [line.split(" ")[1] for line in told(caplog)] == ["/1"]
    driver.loop.advance(1.5)
    assert [line.split(" ")[1] for line in told(caplog)] == ["/1", "/2"]


def test_quick_requests_are_not_told(driver, caplog):
    peer = serve(driver, hello)
    for _ in range(20):
        peer.request()
        driver.loop.advance(1)
    assert len(driver.records) == 20
    assert told(caplog) == []


def test_one_that_blocked_the_loop_is_told_at_its_end(driver, caplog):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        driver.loop.now += 7
        await hello(scope, receive, send)

    serve(driver, app).request("GET", "/blocks")
    assert told(caplog) == ["GET /blocks took 7.00 s"]


def test_the_innermost_calls_of_the_application_are_named(driver, caplog):
    async def query() -> None:
        await asyncio.sleep(1000)

    async def pages() -> AsyncIterator[None]:
        await query()
        yield

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await query()

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        async for _ in pages():
            pass

    async def dividing(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(query())

    for application in (app, streaming, dividing):
        serve(driver, application).request()
    driver.loop.advance(6)
    calls = [re.findall(r" in \S+<locals>\.(\w+)", line) for line in told(caplog)]
    assert calls == [["query", "app"], ["query", "pages", "streaming"], ["query", "dividing"]]


def test_a_request_in_many_calls_is_one_short_line(driver, caplog):
    async def app(scope: Any, receive: Any, send: Any, depth: int = 200) -> None:
        if depth:
            await app(scope, receive, send, depth - 1)
        await asyncio.get_running_loop().create_future()

    serve(driver, app).request("GET", "/" + "x" * 9000)
    driver.loop.advance(6)
    assert len(told(caplog)[0]) < 10_000


def test_without_the_option_nothing_looks(driver, caplog):
    driver.serve(silent)
    driver.http2().request()
    driver.loop.advance(50)
    assert told(caplog) == []
