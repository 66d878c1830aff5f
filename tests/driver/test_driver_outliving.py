"""Applications that run on after their streams were reset count as if these were open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hyperframe import frame as frames

from h2asgi.config import HTTP2Config, Limits
from h2asgi.errors import ErrorCode

STREAMS = 5


class Deaf:
    """An application that does not listen for the end of its request."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        await self.may_end.wait()


@pytest.fixture
def app() -> Deaf:
    return Deaf()


@pytest.fixture
def peer(driver: Any, app: Deaf) -> Any:
    driver.serve(
        app,
        http2=HTTP2Config(max_concurrent_streams=STREAMS),
        limits=Limits(http2_reset_burst=100),
    )
    return driver.http2()


def reset_by_the_client(peer: Any) -> None:
    peer.reset(peer.request())


def reset_provoked_from_us(peer: Any) -> None:
    """MadeYouReset."""
    stream_id = peer.request()
    peer.send(frames.DataFrame(stream_id, b"after END_STREAM").serialize())


def reset_in_one_read(peer: Any) -> None:
    stream_id, head = peer.head()
    peer.send(head + frames.RstStreamFrame(stream_id, error_code=8).serialize())


def reset_websocket(peer: Any) -> None:
    extra = (":protocol", "websocket"), ("sec-websocket-version", "13")
    peer.reset(peer.request("CONNECT", "/", *extra, end_stream=False))


ATTACKS = [reset_by_the_client, reset_provoked_from_us, reset_in_one_read, reset_websocket]


@pytest.mark.parametrize("attack", ATTACKS)
def test_resets_start_no_more_applications_than_streams_may_be_open(
    peer: Any, app: Deaf, attack: Any
) -> None:
    for _ in range(4 * STREAMS):
        attack(peer)
    assert app.calls == STREAMS
    stream_id = peer.request()
    assert peer.response(stream_id).error_code == ErrorCode.REFUSED_STREAM
    assert peer.goaway == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_places_come_back_as_applications_end(peer: Any, app: Deaf, attack: Any) -> None:
    for _ in range(2 * STREAMS):
        attack(peer)
    app.may_end.set()
    peer.loop.settle()
    peer.request()
    assert app.calls == STREAMS + 1


def test_open_streams_and_those_that_were_reset_are_counted_together(peer: Any, app: Deaf) -> None:
    for _ in range(STREAMS - 2):
        reset_by_the_client(peer)
    first, second, third = (peer.request() for _ in range(3))
    assert app.calls == STREAMS
    assert peer.response(first).error_code is peer.response(second).error_code is None
    assert peer.response(third).error_code == ErrorCode.REFUSED_STREAM


def test_who_goes_on_opening_refused_streams_is_told_to_calm_down(peer: Any, app: Deaf) -> None:
    for _ in range(STREAMS):
        reset_by_the_client(peer)
    for _ in range(120):
        peer.request()
    peer.read()
    assert app.calls == STREAMS
    assert peer.goaway[-1].error_code == ErrorCode.ENHANCE_YOUR_CALM


def test_work_after_an_answer_is_not_counted(driver: Any) -> None:
    """Background tasks are the application's affair: their requests did not come to nothing."""
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        await asyncio.Event().wait()

    driver.serve(app, http2=HTTP2Config(max_concurrent_streams=STREAMS))
    peer = driver.http2()
    for _ in range(4 * STREAMS):
        peer.reset(peer.request())
    assert len(calls) == 4 * STREAMS
