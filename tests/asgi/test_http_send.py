"""``send()``: what reaches the sink, and what is refused."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest
from fake_sink import FakeSink, cycle

from h2asgi.errors import ClientDisconnected, ErrorCode, IllegalMessage

RESET = ("reset", ErrorCode.INTERNAL_ERROR)
DEFAULTS = {b"server": b"h2asgi", b"date": b"now"}


def start(status=200, *headers):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data=b"", more_body=False):
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def length(size):
    return (b"content-length", b"%d" % size)


def sent(*messages, **options):
    """Send the messages on a fresh cycle; give what the sink saw."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, **options)
        for message in messages:
            await one.send(message)
        return sink

    return asyncio.run(main())


def refused(*messages, **options):
    """Send the messages, of which the last is illegal; give the error and what the sink saw."""

    async def main():
        sink = FakeSink()
        one = cycle(sink, **options)
        for message in messages[:-1]:
            await one.send(message)
        with pytest.raises(IllegalMessage) as caught:
            await one.send(messages[-1])
        return str(caught.value), sink

    return asyncio.run(main())


# What is written.


def test_the_head_is_held_until_the_first_body_message():
    assert sent(start()).calls == []
    sink = sent(start(), body(b"hello"))
    assert sink.kinds == ["headers", "data"]


def test_a_whole_body_gets_a_content_length_and_ends_the_stream():
    sink = sent(start(201, (b"X-A", b"1")), body(b"hello"))
    fields = {b"x-a": b"1", b"content-length": b"5"} | DEFAULTS
    assert sink.head == (201, fields, False)
    assert sink.calls[1:] == [("data", b"hello", True)]
    assert sink.finished == [(201, 5)]


def test_an_empty_response_is_headers_alone_and_flushed():
    sink = sent({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    assert sink.head == (200, {b"content-length": b"0"} | DEFAULTS, True)
    assert sink.kinds == ["headers", "flush"]
    assert sink.finished == [(200, 0)]


def test_a_content_length_of_the_application_is_kept_and_not_doubled():
    sink = sent(start(200, length(5)), body(b"hello"))
    [(_, _, fields, _), _] = sink.calls
    assert fields.count(length(5)) == 1


def test_a_streamed_body_has_no_content_length_and_its_last_frame_ends_the_stream():
    sink = sent(start(), body(b"a", True), body(b"b", True), body())
    assert b"content-length" not in sink.head[1]
    assert sink.calls[1:] == [("data", b"a", False), ("data", b"b", False), ("data", b"", True)]
    assert sink.finished == [(200, 2)]


def test_an_empty_piece_with_more_to_come_sends_the_head_now():
    sink = sent(start(), body(b"", True))
    assert sink.kinds == ["headers", "flush"]
    assert sink.head[2] is False
    assert b"content-length" not in sink.head[1]
    assert sink.finished == []


def test_an_empty_piece_in_the_middle_writes_nothing_but_yields():
    sink = sent(start(), body(b"a", True), body(b"", True), body(b"b"))
    assert sink.kinds == ["headers", "data", "flush", "data"]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytearray_and_memoryview_bodies_become_bytes_of_their_own(kind):
    sink = sent(start(), body(kind(b"hello")))
    assert sink.body == b"hello"
    assert type(sink.calls[1][1]) is bytes
    assert sink.head[1][b"content-length"] == b"5"


def test_a_memoryview_of_wider_items_counts_octets():
    sink = sent(start(200, length(8)), body(memoryview(b"12345678").cast("I")))
    assert sink.body == b"12345678"


@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_transfer_encoding_of_the_application_is_ignored(http_version):
    sink = sent(
        start(200, (b"transfer-encoding", b"chunked")), body(b"a", True), http_version=http_version
    )
    assert sink.head == (200, DEFAULTS, False)


def test_connection_fields_go_out_on_http1_only():
    messages = start(200, (b"connection", b"close")), body()
    assert b"connection" not in sent(*messages, http_version="2").head[1]
    assert sent(*messages, http_version="1.1").head[1][b"connection"] == b"close"


def test_default_fields_are_read_anew_for_each_response():
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        one._default_fields.fields = [(b"date", b"later")]
        await one.send(start())
        await one.send(body())
        assert sink.head[1] == {b"date": b"later", b"content-length": b"0"}
        assert one._default_fields.fields == [(b"date", b"later")]

    asyncio.run(main())


def test_an_enumerated_status_becomes_a_plain_integer():
    status = sent(start(HTTPStatus.NOT_FOUND), body()).head[0]
    assert status == 404
    assert type(status) is int


# Responses without content (RFC 9110 section 6.4.1).


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("HEAD", 404)])
def test_head_and_304_drop_the_octets_and_keep_the_content_length(method, status):
    sink = sent(start(status, length(5)), body(b"hello"), method=method)
    assert sink.head == (status, dict([length(5)]) | DEFAULTS, True)
    assert sink.kinds == ["headers", "flush"]
    assert sink.finished == [(status, 0)]


@pytest.mark.parametrize("status", [204, 205])
def test_204_and_205_lose_content_and_content_length(status):
    """RFC 9110 sections 8.6 and 15.3.6."""
    sink = sent(start(status, length(5), (b"a", b"1")), body(b"hello"))
    assert sink.head == (status, {b"a": b"1"} | DEFAULTS, True)
    assert sink.kinds == ["headers", "flush"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_no_content_length_is_made_up_where_there_is_no_content(method, status):
    sink = sent(start(status), body(b"hello"), method=method)
    assert sink.head == (status, DEFAULTS, True)


def test_a_head_response_may_leave_its_body_out_or_stream_it():
    assert sent(start(200, length(5)), body(), method="HEAD").kinds == ["headers", "flush"]
    sink = sent(start(200, length(5)), body(b"hel", True), body(b"lo!"), method="HEAD")
    assert sink.kinds == ["headers", "flush", "flush"]
    assert sink.head[2] is True
    assert sink.finished == [(200, 0)]


def test_receive_gives_disconnect_once_a_head_response_has_gone_out():
    """Nothing else would end an endless generator that answers HEAD."""

    async def main():
        one = cycle(FakeSink(), method="HEAD")
        await one.send(start())
        await one.send(body(b"x", True))
        message = await asyncio.wait_for(one.receive(), 5)
        assert message == {"type": "http.disconnect"}
        one.disconnect()
        with pytest.raises(ClientDisconnected):
            await one.send(body(b"x", True))

    asyncio.run(main())


# Content-length (RFC 9110 section 8.6).


@pytest.mark.parametrize(
    ("size", "data", "word"),
    [(5, b"longer", "longer"), (5, b"less", "shorter"), (0, b"x", "longer")],
)
def test_a_whole_body_of_the_wrong_length_is_refused_before_anything_is_written(size, data, word):
    reason, sink = refused(start(200, length(size)), body(data))
    assert word in reason
    assert sink.calls == []
    assert sink.finished == []


def test_a_surplus_in_a_stream_is_never_written_and_resets_it():
    reason, sink = refused(start(200, length(5)), body(b"hel", True), body(b"lo!", True))
    assert "longer than its content-length, by 1" in reason
    assert sink.body == b"hel"
    assert sink.calls[-1] == RESET
    assert sink.finished == [(200, 3)]


def test_a_stream_that_ends_short_is_reset_instead_of_ended():
    reason, sink = refused(start(200, length(5)), body(b"hel", True), body(b"l"))
    assert "shorter than its content-length, by 1" in reason
    assert sink.calls[1:] == [("data", b"hel", False), RESET]


def test_a_streamed_body_of_the_right_length_is_sent():
    sink = sent(
        start(200, length(5)), body(b"", True), body(b"hel", True), body(b"lo", True), body()
    )
    assert sink.body == b"hello"
    assert sink.calls[-1] == ("data", b"", True)


def test_after_a_reset_by_this_side_everything_is_over():
    async def main():
        sink = FakeSink()
        one = cycle(sink, end_stream=False)
        await one.send(start(200, length(1)))
        await one.send(body(b"x", True))
        with pytest.raises(IllegalMessage):
            await one.send(body(b"y", True))
        with pytest.raises(IllegalMessage, match="over"):
            await one.send(body())
        assert await asyncio.wait_for(one.receive(), 5) == {"type": "http.disconnect"}
        one.disconnect()
        assert sink.calls.count(RESET) == 1
        assert sink.finished == [(200, 1)]

    asyncio.run(main())


# Illegal messages.


@pytest.mark.parametrize(
    "messages",
    [
        (body(b"x"),),
        (start(), start()),
        ({"type": "http.response.trailers"},),
        ({"type": "websocket.accept"},),
        ({"type": None},),
        ({},),
        (None,),
        ("http.response.start",),
        ({"type": "http.response.start"},),
        (start(199),),
        (start(100),),
        (start(1000),),
        (start("200"),),
        (start(200.0),),
        (start(None),),
        (start(True),),
        (start(200, ("a", "b")),),
        (start(200, (b":status", b"200")),),
        (start(200, (b"a", b"b\r\nc: d")),),
        (start(200, (b"content-length", b"x")),),
        ({"type": "http.response.start", "status": 200, "headers": None},),
        (start(), body("text")),
        (start(), body(None)),
        (start(), body([b"x"])),
        (start(), body(5)),
    ],
    ids=lambda messages: repr(messages[-1])[:60],
)
def test_an_illegal_message_raises_and_writes_nothing(messages):
    _, sink = refused(*messages)
    assert sink.calls == []
    assert sink.finished == []


@pytest.mark.parametrize(
    "message", [start(), body("text"), {"type": "http.response.trailers"}], ids=lambda m: m["type"]
)
def test_an_illegal_message_in_the_middle_of_a_response_resets_the_stream(message):
    _, sink = refused(start(), body(b"x", True), message)
    assert sink.calls[-1] == RESET
    assert sink.finished == [(200, 1)]


@pytest.mark.parametrize("message", [start(), body(b"y"), body()])
def test_a_message_after_completion_raises_and_changes_nothing(message):
    reason, sink = refused(start(), body(b"x"), message)
    assert "over" in reason
    assert sink.kinds == ["headers", "data"]
    assert sink.finished == [(200, 1)]


def test_a_refused_message_can_be_put_right():
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        with pytest.raises(IllegalMessage):
            await one.send(start(0))
        await one.send(start(200, length(1)))
        with pytest.raises(IllegalMessage):
            await one.send(body(b"xy"))
        await one.send(body(b"x"))
        assert sink.head[0] == 200
        assert sink.body == b"x"

    asyncio.run(main())


def test_the_reason_for_text_says_what_to_do():
    reason, _ = refused(start(), body("text"))
    assert reason == "a body must be bytes, not str: 'text'; encode it first"


def test_reasons_do_not_repeat_a_whole_body():
    reason, _ = refused(start(), body("x" * 1_000_000))
    assert len(reason) < 200


# Disconnects.


@pytest.mark.parametrize("before", [[], [start()], [start(), body(b"x", True)]])
@pytest.mark.parametrize("message", [start(), body(b"y")])
def test_send_after_a_disconnect_raises_an_oserror_field_note_23(before, message):
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        for earlier in before:
            await one.send(earlier)
        seen = list(sink.calls)
        one.disconnect()
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                await one.send(message)
            assert isinstance(caught.value, ClientDisconnected)
        assert sink.calls == seen

    asyncio.run(main())


def test_a_send_that_waits_at_the_high_water_mark_is_told_of_the_disconnect():
    async def main():
        sink = FakeSink()
        sink.window_open = asyncio.Event()
        one = cycle(sink)
        await one.send(start())
        waiting = asyncio.create_task(one.send(body(b"x" * 100, True)))
        while "data" not in sink.kinds:
            await asyncio.sleep(0)
        sink.gone = True
        one.disconnect()
        sink.window_open.set()
        with pytest.raises(ClientDisconnected):
            await asyncio.wait_for(waiting, 5)
        assert sink.finished == [(200, 100)]

    asyncio.run(main())


# The notification.


def test_the_end_is_told_after_the_last_octets_were_taken():
    async def main():
        sink = FakeSink()
        sink.window_open = asyncio.Event()
        one = cycle(sink)
        await one.send(start())
        waiting = asyncio.create_task(one.send(body(b"x")))
        while "data" not in sink.kinds:
            await asyncio.sleep(0)
        assert sink.finished == []
        sink.window_open.set()
        await asyncio.wait_for(waiting, 5)
        assert sink.finished == [(200, 1)]
        one.disconnect()
        assert len(sink.finished) == 1

    asyncio.run(main())


def test_a_last_send_that_is_cancelled_has_sent_everything():
    async def main():
        sink = FakeSink()
        sink.window_open = asyncio.Event()
        one = cycle(sink)
        await one.send(start())
        waiting = asyncio.create_task(one.send(body(b"x")))
        while "data" not in sink.kinds:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert sink.calls[-1] == ("data", b"x", True)
        assert sink.finished == [(200, 1)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("messages", "figures"),
    [([], (0, 0)), ([start()], (0, 0)), ([start(), body(b"abc", True)], (200, 3))],
)
def test_a_disconnect_finishes_the_request_once_with_what_was_sent(messages, figures):
    async def main():
        sink = FakeSink()
        one = cycle(sink)
        for message in messages:
            await one.send(message)
        one.disconnect()
        one.disconnect()
        assert sink.finished == [figures]

    asyncio.run(main())
