"""``run()``: what becomes of a request when the application returns or raises."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fake_sink import FakeSink, cycle

from h2asgi.errors import ClientDisconnected, ErrorCode, IllegalMessage

RESET = ("reset", ErrorCode.INTERNAL_ERROR)
START = {"type": "http.response.start", "status": 200}
PIECE = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST = {"type": "http.response.body", "body": b"y"}


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="h2asgi.error")
    return caplog


def run(app, *, disconnect=False, **options):
    """Run the application to its end; give what the sink saw."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, **options)

        async def with_disconnect(scope, receive, send):
            await app(scope, receive, send, one.disconnect)

        await one.run(with_disconnect if disconnect else app)
        assert sink.ended == 1
        return sink

    return asyncio.run(main())


def errors(log):
    return [record for record in log.records if record.levelno >= logging.INFO]


def assert_answered_500(sink):
    status, fields, _ = sink.head
    assert status == 500
    assert fields == {
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": b"21",
        b"server": b"h2asgi",
        b"date": b"now",
    }


def sending(*messages, then=None):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def test_a_complete_response_needs_nothing_more(log):
    sink = run(sending(START, LAST))
    assert sink.kinds == ["headers", "data"]
    assert sink.finished == [(200, 1)]
    assert log.records == []


def test_the_application_gets_scope_receive_and_send():
    async def app(scope, receive, send):
        assert scope["path"] == "/"
        assert (await receive())["type"] == "http.request"
        await send(START)
        await send(LAST)

    assert run(app).body == b"y"


@pytest.mark.parametrize("messages", [(), (START,)])
def test_an_exception_before_anything_was_written_gives_500_and_one_traceback(log, messages):
    sink = run(sending(*messages, then=ValueError("boom")))
    assert_answered_500(sink)
    assert sink.calls[1:] == [("data", b"Internal Server Error", True)]
    assert sink.finished == [(500, 21)]
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert isinstance(record.exc_info[1], ValueError)
    assert record.getMessage() == "GET '/': exception in the application"


def test_a_response_without_content_is_complete_with_its_head(log):
    """``receive()`` then gives http.disconnect, which makes frameworks leave out the rest."""
    sink = run(sending(START, PIECE), method="HEAD")
    assert sink.kinds == ["headers", "flush"]
    assert sink.finished == [(200, 0)]
    assert log.records == []


@pytest.mark.parametrize("messages", [(), (START,)])
def test_a_return_without_response_gives_500_and_a_line_without_traceback(log, messages):
    assert_answered_500(run(sending(*messages)))
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert "returned without completing the response" in record.getMessage()


def test_a_500_to_head_has_no_body():
    sink = run(sending(), method="HEAD")
    assert_answered_500(sink)
    assert sink.head[2] is True
    assert sink.body == b""


@pytest.mark.parametrize("then", [None, ValueError("boom")])
def test_half_a_response_is_reset_and_logged_once(log, then):
    sink = run(sending(START, PIECE, then=then))
    assert sink.kinds == ["headers", "data", "reset"]
    assert sink.calls[-1] == RESET
    assert sink.finished == [(200, 1)]
    assert len(log.records) == 1


def test_an_exception_after_completion_is_logged_and_leaves_the_response_alone(log):
    sink = run(sending(START, LAST, then=ValueError("in a background task")))
    assert sink.kinds == ["headers", "data"]
    assert sink.finished == [(200, 1)]
    [record] = errors(log)
    assert record.exc_info[1].args == ("in a background task",)


def test_an_illegal_message_before_anything_was_written_gives_500(log):
    assert_answered_500(run(sending(LAST)))
    [record] = log.records
    assert isinstance(record.exc_info[1], IllegalMessage)


def test_a_body_of_the_wrong_length_gives_500_when_nothing_was_written(log):
    start = START | {"headers": [(b"content-length", b"2"), (b"content-type", b"image/png")]}
    assert_answered_500(run(sending(start, LAST)))
    assert len(log.records) == 1


def test_an_illegal_message_in_the_middle_resets_once_and_is_logged_once(log):
    sink = run(sending(START, PIECE, START))
    assert sink.calls.count(RESET) == 1
    assert sink.kinds[-1] == "reset"
    assert sink.finished == [(200, 1)]
    assert len(log.records) == 1


def test_a_peer_cannot_write_control_characters_into_the_error_line(log):
    async def main():
        one = cycle(FakeSink())
        one.scope["path"] = "/\n\x1b[31mforged é"
        await one.run(sending())

    asyncio.run(main())
    [record] = log.records
    assert record.getMessage().startswith(r"GET '/\n\x1b[31mforged \xe9': ")


# Disconnects (field note 23).


def test_a_client_that_is_gone_is_no_error(log):
    async def app(scope, receive, send, disconnect):
        await send(START)
        await send(PIECE)
        disconnect()
        await send(PIECE)

    sink = run(app, disconnect=True)
    assert sink.kinds == ["headers", "data"]
    assert sink.finished == [(200, 1)]
    assert errors(log) == []
    assert [record.levelno for record in log.records] == [logging.DEBUG]


def test_returning_after_a_disconnect_is_no_error(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        assert await receive() == {"type": "http.disconnect"}

    sink = run(app, disconnect=True)
    assert sink.calls == []
    assert sink.finished == [(0, 0)]
    assert log.records == []


def test_a_group_of_disconnects_is_no_error(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        async with asyncio.TaskGroup() as group:
            group.create_task(send(START))
            group.create_task(send(START))

    sink = run(app, disconnect=True)
    assert sink.calls == []
    assert errors(log) == []


def test_a_group_of_disconnects_and_cancellations_is_no_error(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        inner = BaseExceptionGroup("in", [asyncio.CancelledError()])
        raise BaseExceptionGroup("out", [ClientDisconnected("gone"), inner])

    run(app, disconnect=True)
    assert errors(log) == []


def test_a_mistake_beside_a_disconnect_is_an_error(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        raise ExceptionGroup("both", [ClientDisconnected("gone"), ValueError("boom")])

    assert run(app, disconnect=True).calls == []
    [record] = errors(log)
    assert record.levelno == logging.ERROR


def test_a_mistake_after_a_disconnect_is_an_error_and_writes_nothing(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        raise ValueError("boom")

    assert run(app, disconnect=True).calls == []
    [record] = errors(log)
    assert record.levelno == logging.ERROR
    assert isinstance(record.exc_info[1], ValueError)


def test_a_frameworks_own_name_for_the_disconnect_is_one_line_without_traceback(log):
    class GoneError(Exception):
        pass

    async def app(scope, receive, send, disconnect):
        disconnect()
        try:
            await send(START)
        except OSError:
            raise GoneError("x\n")  # noqa: B904 (Starlette does it so)

    run(app, disconnect=True)
    [record] = errors(log)
    assert record.levelno == logging.INFO
    assert record.exc_info is None
    assert record.getMessage() == r"GET '/': client disconnected: GoneError('x\n')"


def test_groups_of_what_follows_a_disconnect_are_one_line_too(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        error = ValueError("gone")
        error.__cause__ = ClientDisconnected("gone")
        raise ExceptionGroup("all", [error])

    run(app, disconnect=True)
    assert [record.levelno for record in log.records] == [logging.INFO]


def test_a_circle_of_causes_ends(log):
    async def app(scope, receive, send, disconnect):
        disconnect()
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one

    run(app, disconnect=True)
    assert [record.levelno for record in log.records] == [logging.ERROR]


def test_a_disconnected_error_without_a_disconnect_is_the_applications_mistake(log):
    assert_answered_500(run(sending(then=ClientDisconnected("made up"))))
    assert [record.levelno for record in log.records] == [logging.ERROR]


def test_a_client_that_leaves_during_the_500_is_no_second_error(log):
    async def main():
        sink = FakeSink()
        sink.gone = True
        await cycle(sink).run(sending())
        return sink

    sink = asyncio.run(main())
    assert sink.finished == [(500, 21)]
    assert len(errors(log)) == 1


# What stops a task or the process.


@pytest.mark.parametrize(
    ("messages", "kinds"),
    [
        ((), ["reset"]),
        ((START, PIECE), ["headers", "data", "reset"]),
        ((START, LAST), ["headers", "data"]),
    ],
)
def test_cancellation_resets_what_is_not_complete_and_goes_on(log, messages, kinds):
    async def main():
        sink = FakeSink()
        running = asyncio.Event()

        async def app(scope, receive, send):
            await sending(*messages)(scope, receive, send)
            running.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(cycle(sink).run(app))
        await asyncio.wait_for(running.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert sink.kinds == kinds
        assert len(sink.finished) == 1
        assert sink.ended == 1

    asyncio.run(main())
    assert len(log.records) == ("reset" in kinds)  # nobody asked for that


@pytest.mark.parametrize("cancelled", [True, False])
def test_cancellation_after_a_disconnect_writes_nothing(log, cancelled):
    async def main():
        sink = FakeSink()
        one = cycle(sink)

        async def app(scope, receive, send):
            one.disconnect()
            if cancelled:
                asyncio.current_task().cancel()
                await asyncio.sleep(0)
            raise asyncio.CancelledError

        task = asyncio.create_task(one.run(app))
        await asyncio.wait([task])
        assert task.cancelled() == cancelled
        assert sink.calls == []
        assert sink.finished == [(0, 0)]

    asyncio.run(main())
    assert errors(log) == []


@pytest.mark.parametrize("own", [True, False])
def test_cancellation_on_learning_that_the_client_closed_its_side_is_no_mistake(log, own):
    """Of the task itself, or of another one that it then awaits."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, http_version="1.1")

        async def app(scope, receive, send):
            one.client_closed()
            while (await receive())["type"] != "http.disconnect":
                pass
            task = asyncio.current_task() if own else asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await (asyncio.sleep(0) if own else task)

        task = asyncio.create_task(one.run(app))
        await asyncio.wait([task])
        assert task.cancelled() == own
        assert len(sink.finished) == 1

    asyncio.run(main())
    assert errors(log) == []


@pytest.mark.parametrize("messages", [(), (START,)])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        BaseException("panic"),
        asyncio.CancelledError(),
        BaseExceptionGroup("both", [SystemExit(3), ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_else_an_application_raises_is_its_mistake(log, error, messages):
    """As ``pytest.fail()`` and panics of Rust, which are no ``Exception``."""
    assert_answered_500(run(sending(*messages, then=error)))
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is error


def test_a_cycle_that_is_collected_has_nobody_to_answer(log):
    async def app(scope, receive, send):
        await asyncio.get_running_loop().create_future()

    async def main():
        sink = FakeSink()
        coroutine = cycle(sink).run(app)
        coroutine.send(None)
        coroutine.close()
        assert sink.calls == []
        assert sink.ended == 1

    asyncio.run(main())
    assert log.records == []


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_the_process_is_passed_on(error):
    async def app(scope, receive, send):
        raise error

    sink = FakeSink()
    coroutine = cycle(sink).run(app)  # driven by hand: a loop would end with it
    with pytest.raises(type(error)):
        coroutine.send(None)
    assert sink.calls == [RESET]
    assert sink.ended == 1


def test_a_disconnect_does_not_cancel_the_application():
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        steps = []

        async def app(scope, receive, send):
            await receive()
            steps.append(await receive())
            await asyncio.sleep(0)
            steps.append("cleaned up")

        task = asyncio.create_task(one.run(app))
        await asyncio.sleep(0)
        one.disconnect()
        await asyncio.wait_for(task, 5)
        assert steps == [{"type": "http.disconnect"}, "cleaned up"]

    asyncio.run(main())


@pytest.mark.parametrize("messages", [(), (START,), (START, PIECE)])
def test_a_return_on_learning_that_the_client_closed_its_side_is_no_mistake(log, messages):
    """A client that leaves in the clear over HTTP/1.1 looks like one that only closed its side."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, http_version="1.1")

        async def app(scope, receive, send):
            for message in messages:
                await send(message)
            one.client_closed()
            while (await receive())["type"] != "http.disconnect":
                pass

        await one.run(app)
        return sink

    sink = asyncio.run(main())
    assert sink.calls[-1] == RESET
    assert len(sink.finished) == 1
    assert sink.finished[0][0] != 500
    assert errors(log) == []
