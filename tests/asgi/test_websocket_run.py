"""``run()``: what becomes of a WebSocket when the application returns or raises."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fake_websocket import WebSocket

from h2asgi.errors import ErrorCode

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 3000}
DENIAL = {"type": "websocket.http.response.start", "status": 401, "headers": []}
PIECE = {"type": "websocket.http.response.body", "body": b"no", "more_body": True}


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="h2asgi.error")
    return caplog


def run(*messages, then=None, gone=False):
    """Run an application that sends ``messages``; ``gone`` is whether its peer leaves after."""

    async def main():
        websocket = WebSocket()

        async def app(scope, receive, send):
            assert scope["type"] == "websocket"
            for message in messages:
                await send(message)
            if gone:
                websocket.disconnect(1006, "")
            if then is ClientDisconnect:
                await send({"type": "websocket.send", "text": "x"})
            elif then is not None:
                raise then

        await websocket.cycle.run(app)
        assert websocket.http.ended == 1
        assert len(websocket.http.finished) == 1
        return websocket

    return asyncio.run(main())


ClientDisconnect = object()


def closes(websocket):
    return [call[1] for call in websocket.sink.calls if call[0] == "close"]


def test_return_before_the_acceptance_is_500_and_one_line(log):
    websocket = run()
    assert websocket.http.head[0] == 500
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None


def test_exception_before_the_acceptance_is_500_and_one_traceback(log):
    websocket = run(then=ValueError("boom"))
    assert websocket.http.head[0] == 500
    assert websocket.http.finished == [(500, 21)]
    [record] = log.records
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.parametrize("then", [None, ValueError("boom")])
def test_denial_that_was_not_begun_on_the_wire_becomes_500(log, then):
    assert run(DENIAL, then=then).http.head[0] == 500
    assert len(log.records) == 1


@pytest.mark.parametrize("then", [None, ValueError("boom")])
def test_denial_that_is_left_half_done_is_reset(log, then):
    websocket = run(DENIAL, PIECE, then=then)
    assert websocket.http.calls[-1] == ("reset", ErrorCode.INTERNAL_ERROR)
    assert len(log.records) == 1


def test_return_after_the_acceptance_is_1000(log):
    websocket = run(ACCEPT)
    assert closes(websocket) == [1000]
    assert websocket.http.calls == []
    assert log.records == []


def test_exception_after_the_acceptance_is_1011_and_one_traceback(log):
    websocket = run(ACCEPT, then=ValueError("boom"))
    assert closes(websocket) == [1011]
    assert websocket.http.calls == []
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), BaseException("panic"), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("accepted", [True, False])
def test_what_is_no_exception_is_the_applications_mistake_too(log, error, accepted):
    websocket = run(*[ACCEPT] * accepted, then=error)
    assert closes(websocket) == [1011] * accepted
    assert websocket.http.kinds == ["headers", "data"] * (not accepted)
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is error


@pytest.mark.parametrize("then", [None, ValueError("boom")])
def test_application_that_has_closed_is_done(log, then):
    websocket = run(ACCEPT, CLOSE, then=then)
    assert closes(websocket) == [3000]
    assert len(log.records) == (then is not None)


@pytest.mark.parametrize("messages", [(), (ACCEPT,)])
def test_what_the_peer_brought_about_is_no_error(log, messages):
    websocket = run(*messages, gone=True, then=ClientDisconnect)
    assert closes(websocket) == []
    assert websocket.http.calls == []
    assert [record.levelno for record in log.records] == [logging.DEBUG]


@pytest.mark.parametrize("messages", [(), (ACCEPT,)])
def test_return_after_the_peer_has_gone_says_nothing(log, messages):
    websocket = run(*messages, gone=True)
    assert (closes(websocket), websocket.http.calls, log.records) == ([], [], [])


def test_mistake_after_the_peer_has_gone_is_logged(log):
    run(ACCEPT, gone=True, then=ValueError("boom"))
    assert [record.levelno for record in log.records] == [logging.ERROR]


def test_illegal_message_that_escapes_is_the_applications_exception(log):
    websocket = run(ACCEPT, {"type": "websocket.send"})
    assert closes(websocket) == [1011]
    assert [record.levelno for record in log.records] == [logging.ERROR]


@pytest.mark.parametrize("accepted", [True, False])
def test_cancellation_ends_the_websocket_and_the_task(log, accepted):
    async def main():
        websocket = WebSocket()

        async def app(scope, receive, send):
            if accepted:
                await send(ACCEPT)
            await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(websocket.cycle.run(app))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return websocket

    websocket = asyncio.run(main())
    assert closes(websocket) == ([1011] if accepted else [])
    assert websocket.http.kinds == ([] if accepted else ["reset"])
    what = "WebSocket" if accepted else "response"
    [record] = log.records
    assert record.getMessage().endswith(f": cancelled without completing the {what}")


def test_cancellation_after_the_peer_has_left_is_no_mistake(log):
    async def main():
        websocket = WebSocket()

        async def app(scope, receive, send):
            await send(ACCEPT)
            websocket.disconnect(1006, "")
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(websocket.cycle.run(app))

    asyncio.run(main())
    assert log.records == []
