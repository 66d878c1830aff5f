"""``http.response.trailers``, and the trailers of requests."""

from __future__ import annotations

import asyncio

import pytest
from fake_sink import FakeSink, cycle, send_all

from h2asgi.errors import ClientDisconnected, ErrorCode

RESET = ("reset", ErrorCode.INTERNAL_ERROR)
CHUNKED = {"http_version": "1.1", "accepts_trailers": True}
DISCARDING = {"http_version": "1.1", "accepts_trailers": False}


def start(status=200, *headers, trailers=True):
    return {
        "type": "http.response.start",
        "status": status,
        "headers": headers,
        "trailers": trailers,
    }


def body(data=b"", more_body=False):
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def trailers(*headers, **more):
    return {"type": "http.response.trailers", "headers": headers, **more}


CHECKSUM = (b"x-checksum", b"1")


@pytest.mark.parametrize("options", [{}, CHUNKED])
def test_trailers_end_the_response_behind_its_body(options):
    sink, _ = send_all(start(), body(b"a", True), body(b"b"), trailers(CHECKSUM), **options)
    assert sink.calls[1:] == [
        ("data", b"a", False),
        ("data", b"b", False),
        ("trailers", [CHECKSUM]),
    ]
    assert b"content-length" not in sink.head[1]
    assert sink.finished == [(200, 2)]


def test_an_empty_body_leaves_head_and_trailers():
    """As a gRPC error is: nothing but two field sections."""
    sink, _ = send_all(start(), body(), trailers((b"Grpc-Status", b"5")))
    assert sink.kinds == ["headers", "flush", "trailers"]
    assert sink.head[2] is False
    assert b"content-length" not in sink.head[1]
    assert sink.calls[-1] == ("trailers", [(b"grpc-status", b"5")])


def test_trailers_may_come_in_several_messages():
    sink, _ = send_all(
        start(),
        body(b"x"),
        trailers(CHECKSUM, more_trailers=True),
        trailers(more_trailers=True),
        trailers((b"a", b"1"), (b"a", b"2")),
    )
    assert sink.calls[-1] == ("trailers", [CHECKSUM, (b"a", b"1"), (b"a", b"2")])
    assert sink.kinds.count("trailers") == 1
    assert sink.finished == [(200, 1)]


def test_trailers_without_a_field_end_the_stream():
    sink, _ = send_all(start(), body(b"x"), trailers())
    assert sink.calls[1:] == [("data", b"x", False), ("data", b"", True)]


def test_a_client_that_would_discard_trailers_gets_none():
    """RFC 9110 section 6.5.1; the application need not care."""
    sink, _ = send_all(
        start(200, (b"content-length", b"1")), body(b"x"), trailers(CHECKSUM), **DISCARDING
    )
    assert sink.head[1][b"content-length"] == b"1"
    assert sink.calls[1:] == [("data", b"x", False), ("data", b"", True)]
    assert sink.finished == [(200, 1)]


def test_a_content_length_makes_way_for_chunks_but_holds():
    """RFC 9112 section 7.1.2: there is no other place for trailers in HTTP/1.1."""
    length = (b"content-length", b"1")
    sink, _ = send_all(start(200, length), body(b"x"), trailers(CHECKSUM), **CHUNKED)
    assert b"content-length" not in sink.head[1]
    assert sink.kinds == ["headers", "data", "trailers"]
    sink, reason = send_all(start(200, length), body(b"xy"), **CHUNKED)
    assert "longer" in reason
    sink, _ = send_all(start(200, length), body(b"x"), trailers(CHECKSUM))
    assert sink.head[1][b"content-length"] == b"1"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_content_has_no_trailers(method, status):
    sink, _ = send_all(
        start(status), body(b"x"), trailers(CHECKSUM), method=method, accepts_trailers=True
    )
    assert sink.kinds == ["headers", "flush", "flush"]
    assert sink.head[2] is True
    assert sink.finished == [(status, 0)]


@pytest.mark.parametrize(
    "name",
    [
        *("content-length", "transfer-encoding", "host", "trailer", "te", "connection"),
        *("set-cookie", "content-type", "Content-Encoding", "date", "location"),
    ],
)
def test_fields_that_mean_something_only_ahead_of_a_body_are_refused(name):
    """RFC 9110 section 6.5.1."""
    field = (name.encode(), b"1")
    sink, reason = send_all(start(), body(b"x"), trailers(field))
    assert name.lower() in reason
    assert sink.calls[-1] == RESET


@pytest.mark.parametrize(
    "messages",
    [
        (start(), body(b"x"), trailers((b":status", b"200"))),
        (start(), body(b"x"), trailers((b"a", b"b\r\nc: d"))),
        (start(), body(b"x"), trailers(("a", b"b"))),
        (start(), body(b"x"), trailers() | {"headers": None}),
        (start(), body(b"x", True), trailers(CHECKSUM)),
        (start(), body(b"x"), body(b"y")),
        (start(), body(b"x"), start()),
        (start(trailers=False), body(b"x", True), trailers(CHECKSUM)),
    ],
)
def test_an_illegal_message_before_the_end_resets_the_stream(messages):
    sink, reason = send_all(*messages)
    assert reason
    assert sink.calls[-1] == RESET
    assert len(sink.finished) == 1


@pytest.mark.parametrize("messages", [(start(), trailers(CHECKSUM)), (trailers(CHECKSUM),)])
def test_trailers_ahead_of_everything_write_nothing(messages):
    sink, reason = send_all(*messages)
    assert reason
    assert sink.calls == []


def test_trailers_that_were_not_announced_come_after_the_end():
    sink, reason = send_all(start(trailers=False), body(b"x"), trailers(CHECKSUM))
    assert "over" in reason
    assert sink.kinds == ["headers", "data"]


def test_trailers_that_were_announced_and_never_came_are_the_applications_mistake(caplog):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"x"))

    async def main():
        sink = FakeSink()
        await cycle(sink).run(app)
        assert sink.calls[-1] == RESET

    asyncio.run(main())
    assert "without completing" in caplog.text


def test_a_client_that_leaves_before_the_trailers_is_told():
    async def main():
        one = cycle(FakeSink())
        await one.send(start())
        await one.send(body(b"x"))
        one.disconnect()
        with pytest.raises(ClientDisconnected):
            await one.send(trailers(CHECKSUM))

    asyncio.run(main())


def test_receive_waits_on_until_the_trailers_are_out():
    """Between body and trailers the client may still cancel."""

    async def main():
        one = cycle(FakeSink())
        await one.receive()
        await one.send(start())
        await one.send(body(b"x"))
        waiting = asyncio.create_task(one.receive())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        await one.send(trailers(CHECKSUM))
        assert await asyncio.wait_for(waiting, 5) == {"type": "http.disconnect"}

    asyncio.run(main())


# Of requests.


def test_the_last_piece_of_a_request_carries_its_trailers():
    async def main():
        one = cycle(FakeSink(), end_stream=False)
        one.body.feed(b"abc")
        assert await one.receive() == {"type": "http.request", "body": b"abc", "more_body": True}
        one.end_request([CHECKSUM])
        assert await one.receive() == {
            "type": "http.request",
            "body": b"",
            "more_body": False,
            "trailers": [CHECKSUM],
        }

    asyncio.run(main())
