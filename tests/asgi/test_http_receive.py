"""``receive()``: bodies, credit, 100 (Continue), disconnects."""

from __future__ import annotations

import asyncio

import pytest
from fake_sink import FakeSink, cycle

DISCONNECT = {"type": "http.disconnect"}
START = {"type": "http.response.start", "status": 200}


def request(body=b"", more_body=False):
    return {"type": "http.request", "body": body, "more_body": more_body}


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 5)


async def is_waiting(task):
    """Give the task every chance to run, and tell whether it waits nevertheless."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


def test_a_request_without_body_gives_one_empty_message_field_note_22():
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        assert await soon(one.receive()) == request()
        again = asyncio.create_task(one.receive())
        assert await is_waiting(again)
        one.disconnect()
        assert await soon(again) == DISCONNECT
        assert sink.acknowledged == 0

    asyncio.run(main())


def test_everything_unread_comes_in_one_message_and_is_acknowledged_when_taken():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        one.body.feed(b"abc")
        one.body.feed(b"def")
        assert sink.acknowledged == 0
        assert await soon(one.receive()) == request(b"abcdef", True)
        assert sink.acknowledged == 6
        one.body.feed(b"g")
        one.end_request([(b"trailer", b"1")])
        trailers = {"trailers": [(b"trailer", b"1")]}
        assert await soon(one.receive()) == request(b"g", False) | trailers
        assert sink.acknowledged == 7

    asyncio.run(main())


def test_an_end_that_comes_later_gives_an_empty_last_message():
    async def main():
        one = cycle(FakeSink(), end_stream=False)
        one.body.feed(b"abc")
        assert await soon(one.receive()) == request(b"abc", True)
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        one.end_request([])
        assert await soon(waiting) == request(b"", False)

    asyncio.run(main())


def test_a_waiting_receive_is_woken_by_data():
    async def main():
        one = cycle(FakeSink(), end_stream=False)
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        one.body.feed(b"x")
        assert await soon(waiting) == request(b"x", True)

    asyncio.run(main())


def test_concurrent_receives_share_the_body_without_loss():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        receivers = [asyncio.create_task(one.receive()) for _ in range(3)]
        assert await is_waiting(receivers[2])
        one.body.feed(b"a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert [r.done() for r in receivers].count(True) == 1
        one.body.feed(b"b")
        for _ in range(5):
            await asyncio.sleep(0)
        one.disconnect()
        messages = await soon(asyncio.gather(*receivers))
        bodies = [m["body"] for m in messages if m["type"] == "http.request"]
        assert sorted(bodies) == [b"a", b"b"]
        assert messages.count(DISCONNECT) == 1
        assert sink.acknowledged == 2

    asyncio.run(main())


def test_a_cancelled_receive_loses_no_data():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        cancelled = asyncio.create_task(one.receive())
        assert await is_waiting(cancelled)
        one.body.feed(b"precious")
        cancelled.cancel()  # woken already, but cancelled before it runs
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        assert sink.acknowledged == 0
        assert await soon(one.receive()) == request(b"precious", True)

    asyncio.run(main())


def test_polling_receive_with_timeouts_leaves_nothing_behind():
    async def main():
        one = cycle(FakeSink())
        await soon(one.receive())
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.receive(), 0.0001)
        assert not one.body._waiters

    asyncio.run(main())


def test_a_disconnect_is_told_at_once_and_for_ever_field_note_15():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        one.body.feed(b"unread")
        waiting = asyncio.create_task(one.body.wait())
        await asyncio.sleep(0)
        one.disconnect()
        await soon(waiting)
        for _ in range(2):
            assert await soon(one.receive()) == DISCONNECT
        one.body.feed(b"late")
        assert one.body.unread == 0
        assert await soon(one.receive()) == DISCONNECT
        assert sink.acknowledged == 0  # what is dropped is the engine's to give back

    asyncio.run(main())


def test_after_the_response_is_complete_receive_gives_disconnect_at_once():
    async def main():
        one = cycle(FakeSink(), end_stream=False)
        one.body.feed(b"unread")
        listener = asyncio.create_task(one.receive())
        assert await soon(listener) == request(b"unread", True)
        listener = asyncio.create_task(one.receive())
        assert await is_waiting(listener)
        await one.send(START)
        await one.send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert await is_waiting(listener)
        await one.send({"type": "http.response.body"})
        assert await soon(listener) == DISCONNECT
        one.body.feed(b"more of the upload")
        assert await soon(one.receive()) == DISCONNECT
        assert one.body.unread == 0

    asyncio.run(main())


def test_an_early_response_before_the_body_was_read_gives_disconnect():
    async def main():
        one = cycle(FakeSink(), end_stream=False)
        one.body.feed(b"unread")
        await one.send(START)
        await one.send({"type": "http.response.body", "body": b"too large"})
        assert await soon(one.receive()) == DISCONNECT

    asyncio.run(main())


async def _answered(one):
    await one.send(START)
    await one.send({"type": "http.response.body", "body": b"x"})


async def _head_answered(one):
    await one.send(START)
    await one.send({"type": "http.response.body", "body": b"x", "more_body": True})


async def _disconnected(one):
    one.disconnect()


async def _abandoned(one):
    await one.send(START)
    await one.send({"type": "http.response.body", "body": b"x", "more_body": True})
    with pytest.raises(RuntimeError):
        await one.send(START)


@pytest.mark.parametrize(
    ("event", "method"),
    [(_answered, "GET"), (_head_answered, "HEAD"), (_disconnected, "GET"), (_abandoned, "GET")],
)
def test_first_receive_after_the_end_gives_disconnect_also_without_a_body(event, method):
    async def main():
        one = cycle(FakeSink(), method=method)
        await event(one)
        for _ in range(2):
            assert await soon(one.receive()) == DISCONNECT

    asyncio.run(main())


def informationals(sink):
    return [call for call in sink.calls if call[0] == "informational"]


def test_100_is_sent_once_when_receive_is_first_called():
    """RFC 9110 section 10.1.1, over HTTP/2 too."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, method="POST", end_stream=False, expect_continue=True)
        assert sink.calls == []
        waiting = [asyncio.create_task(one.receive()) for _ in range(2)]
        assert await is_waiting(waiting[0])
        assert sink.calls == [("informational", 100, [])]
        one.body.feed(b"x")
        one.end_request([])
        await soon(waiting[0])
        assert len(informationals(sink)) == 1
        one.disconnect()
        await soon(waiting[1])

    asyncio.run(main())


def test_100_is_still_sent_while_the_head_is_only_held():
    async def main():
        sink = FakeSink()
        one = cycle(sink, method="POST", end_stream=False, expect_continue=True)
        await one.send(START)
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        assert len(informationals(sink)) == 1
        one.end_request([])
        await soon(waiting)

    asyncio.run(main())


def _body_arrived(one):
    one.body.feed(b"x")


def _request_ended(one):
    one.end_request([])


@pytest.mark.parametrize("event", [_body_arrived, _request_ended])
def test_no_100_once_the_body_arrives_or_the_request_has_ended(event):
    async def main():
        sink = FakeSink()
        one = cycle(sink, method="POST", end_stream=False, expect_continue=True)
        event(one)
        await soon(one.receive())
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        assert informationals(sink) == []
        one.disconnect()
        await soon(waiting)

    asyncio.run(main())


def test_no_100_once_the_response_has_started():
    async def main():
        sink = FakeSink()
        one = cycle(sink, method="POST", end_stream=False, expect_continue=True)
        await one.send(START)
        await one.send({"type": "http.response.body", "body": b"x", "more_body": True})
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        assert informationals(sink) == []
        one.disconnect()
        await soon(waiting)

    asyncio.run(main())


def test_no_100_for_a_client_that_does_not_wait_or_has_gone():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        one.disconnect()
        await soon(waiting)
        two = cycle(sink, end_stream=False, expect_continue=True)
        two.disconnect()
        assert await soon(two.receive()) == DISCONNECT
        assert informationals(sink) == []

    asyncio.run(main())


def test_a_client_that_closed_its_side_is_reported_but_still_answered():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=True)
        assert (await one.receive())["type"] == "http.request"
        waiting = asyncio.create_task(one.receive())
        assert await is_waiting(waiting)
        one.client_closed()
        assert (await soon(waiting)) == {"type": "http.disconnect"}
        await one.send(START)
        await one.send({"type": "http.response.body", "body": b"late"})
        assert ("data", b"late", True) in sink.calls

    asyncio.run(main())


def test_a_client_that_closed_its_side_has_its_request_read_first():
    async def main():
        one = cycle(FakeSink(), method="POST", end_stream=False)
        one.body.feed(b"x")
        one.end_request([])
        one.client_closed()
        assert (await one.receive())["body"] == b"x"
        assert (await one.receive()) == {"type": "http.disconnect"}

    asyncio.run(main())
