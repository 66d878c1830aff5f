"""WebSockets as the application sees them (ASGI WebSocket spec 2.5)."""

from __future__ import annotations

import asyncio

import pytest
from fake_websocket import WebSocket

from h2asgi.asgi.websocket import SMALLEST_MESSAGE
from h2asgi.errors import ClientDisconnected, IllegalMessage

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
DENIAL = {"type": "websocket.http.response.start", "status": 401, "headers": []}
DENIAL_BODY = {"type": "websocket.http.response.body", "body": b"no"}


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def text(data="x"):
    return {"type": "websocket.send", "text": data}


def with_websocket(test, *arguments, accepted=True, **options):
    """Run ``test`` with a WebSocket, an open one unless told otherwise."""

    async def main():
        websocket = WebSocket(*arguments, **options)
        if accepted:
            await websocket.accept()
            websocket.sink.calls.clear()
        await test(websocket)

    asyncio.run(main())


# The scope.


def test_scope():
    state = {"a": 1}
    scope = WebSocket("chat", "v2", version="2", state=state).scope
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "2",
        "scheme": "wss",
        "path": "/chat/é",
        "raw_path": b"/chat/%C3%A9",
        "query_string": b"room=1",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8443),
        "subprotocols": ["chat", "v2"],
        "state": {"a": 1},
        "extensions": {"websocket.http.response": {}},
    }
    assert scope["state"] is not state


# Up to the acceptance.


def test_connect_comes_first_and_acceptance_is_the_answer():
    async def test(websocket):
        websocket.disconnect(1006, "")
        assert await websocket.receive() == CONNECT
        assert await websocket.receive() == disconnect(1006)

    with_websocket(test, accepted=False)


def test_acceptance_carries_subprotocol_and_fields():
    async def test(websocket):
        headers = [(b"X-A", b"1"), (b"connection", b"close")]
        await websocket.send({**ACCEPT, "subprotocol": "chat", "headers": headers})
        assert websocket.sink.calls == [
            ("accept", "chat", [(b"x-a", b"1"), (b"server", b"h2asgi"), (b"date", b"now")])
        ]
        assert websocket.http.finished == [(101, 0)]
        assert websocket.http.calls == []

    with_websocket(test, "chat", "v2", accepted=False)


@pytest.mark.parametrize(
    ("accept", "why"),
    [
        ({"subprotocol": "other"}, "not offered"),
        ({"subprotocol": b"chat"}, "must be str"),
        ({"headers": [(b"x", "text")]}, "must be bytes"),
        ({"headers": [(b"x", b"a\r\nb")]}, "control character"),
        ({"headers": 1}, "iterable of pairs"),
    ],
)
def test_wrong_acceptance_raises_and_leaves_the_choice_open(accept, why):
    async def test(websocket):
        with pytest.raises(IllegalMessage, match=why):
            await websocket.send({**ACCEPT, **accept})
        assert websocket.sink.calls == []
        await websocket.send(ACCEPT)
        assert [call[0] for call in websocket.sink.calls] == ["accept"]

    with_websocket(test, "chat", accepted=False)


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_close_before_the_acceptance_is_403(version):
    async def test(websocket):
        await websocket.send({**CLOSE, "code": 4000})
        status, fields, _ = websocket.http.head
        assert (status, fields[b"content-length"]) == (403, b"9")
        assert websocket.http.body == b"Forbidden"
        assert websocket.http.finished == [(403, 9)]
        assert await websocket.receive() == CONNECT
        assert await websocket.receive() == disconnect(1006)
        for message in (ACCEPT, CLOSE, text(), DENIAL):
            with pytest.raises(IllegalMessage):
                await websocket.send(message)
        assert websocket.sink.calls == []

    with_websocket(test, accepted=False, version=version)


@pytest.mark.parametrize(
    "message",
    [text(), {"type": "http.response.start", "status": 200}, {"type": "websocket.receive"}, {}, 1],
)
def test_wrong_messages_before_the_acceptance_raise(message):
    async def test(websocket):
        with pytest.raises(IllegalMessage):
            await websocket.send(message)
        await websocket.send(ACCEPT)

    with_websocket(test, accepted=False)


# A denial.


def test_denial_is_a_response_that_may_be_streamed():
    async def test(websocket):
        await websocket.send({**DENIAL, "headers": [(b"x-a", b"1")]})
        await websocket.send({**DENIAL_BODY, "more_body": True})
        await websocket.send(DENIAL_BODY)
        status, fields, _ = websocket.http.head
        assert (status, fields[b"x-a"]) == (401, b"1")
        assert websocket.http.body == b"nono"
        assert websocket.http.finished == [(401, 4)]
        assert await websocket.receive() == CONNECT
        assert await websocket.receive() == disconnect(1006)

    with_websocket(test, accepted=False)


def test_denial_keeps_the_rules_of_responses():
    async def test(websocket):
        with pytest.raises(IllegalMessage, match="before"):
            await websocket.send(DENIAL_BODY)
        with pytest.raises(IllegalMessage, match="status"):
            await websocket.send({**DENIAL, "status": 101})
        await websocket.send({**DENIAL, "headers": [(b"content-length", b"1")]})
        for message in (ACCEPT, CLOSE, text()):
            with pytest.raises(IllegalMessage, match="after a denial"):
                await websocket.send(message)
        with pytest.raises(IllegalMessage, match="content-length"):
            await websocket.send(DENIAL_BODY)

    with_websocket(test, accepted=False)


def test_denial_that_a_client_would_take_for_acceptance_is_refused():
    """RFC 8441 section 5: over HTTP/2 a 2xx accepts."""

    async def test(websocket):
        with pytest.raises(IllegalMessage, match="200 to 299"):
            await websocket.send({**DENIAL, "status": 204})
        assert websocket.http.calls == []

    with_websocket(test, accepted=False, version="2")


def test_denial_to_a_peer_that_is_gone():
    async def test(websocket):
        await websocket.send(DENIAL)
        websocket.disconnect(1006, "")
        with pytest.raises(ClientDisconnected):
            await websocket.send(DENIAL_BODY)
        assert websocket.http.finished == [(0, 0)]

    with_websocket(test, accepted=False)


# Messages.


def test_messages_come_in_order_and_before_the_end():
    async def test(websocket):
        websocket.feed("a")
        websocket.feed(b"b")
        websocket.feed("")
        websocket.disconnect(1001, "gone")
        websocket.feed("too late")
        assert [await websocket.receive() for _ in range(5)] == [
            {"type": "websocket.receive", "text": "a"},
            {"type": "websocket.receive", "bytes": b"b"},
            {"type": "websocket.receive", "text": ""},
            disconnect(1001, "gone"),
            disconnect(1001, "gone"),
        ]
        assert websocket.sink.taken == 1  # when none was left

    with_websocket(test)


def test_first_end_counts():
    async def test(websocket):
        websocket.disconnect(1005, "")
        websocket.disconnect(1006, "")
        assert await websocket.receive() == disconnect(1005)

    with_websocket(test)


def test_waiting_messages_count_as_memory_and_never_as_nothing():
    async def test(websocket):
        websocket.feed("")
        assert websocket.cycle.queued == SMALLEST_MESSAGE
        websocket.feed(bytes(10_000))
        assert websocket.cycle.queued > SMALLEST_MESSAGE + 10_000
        # Four octets for each character, because of one of them.
        websocket.feed("a" * 9_999 + "\N{GRINNING FACE}")
        assert websocket.cycle.queued > 50_000
        for _ in range(3):
            await websocket.receive()
        assert websocket.cycle.queued == 0

    with_websocket(test)


def test_cancelled_receive_loses_no_message():
    async def test(websocket):
        receiving = asyncio.ensure_future(websocket.receive())
        await asyncio.sleep(0)
        websocket.feed("a")
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert (await websocket.receive())["text"] == "a"

    with_websocket(test)


def test_several_tasks_may_receive():
    async def test(websocket):
        receiving = [asyncio.ensure_future(websocket.receive()) for _ in range(3)]
        await asyncio.sleep(0)
        websocket.feed("a")
        websocket.feed("b")
        websocket.disconnect(1000, "")
        first, second, third = await asyncio.gather(*receiving)
        assert (first["text"], second["text"], third) == ("a", "b", disconnect(1000))

    with_websocket(test)


def test_end_wakes_who_receives():
    async def test(websocket):
        receiving = asyncio.ensure_future(websocket.receive())
        await asyncio.sleep(0)
        websocket.disconnect(1006, "")
        assert await receiving == disconnect(1006)

    with_websocket(test)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"text": "é"}, "é"),
        ({"text": ""}, ""),
        ({"bytes": b"a", "text": None}, b"a"),
        ({"bytes": bytearray(b"a")}, b"a"),
        ({"bytes": memoryview(b"a")}, b"a"),
    ],
)
def test_send(message, sent):
    async def test(websocket):
        await websocket.send({"type": "websocket.send", **message})
        assert websocket.sink.calls == [("message", sent)]
        assert type(websocket.sink.calls[0][1]) is type(sent)

    with_websocket(test)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": "a", "bytes": b"a"},
        {"type": "websocket.send", "text": b"a"},
        {"type": "websocket.send", "bytes": "a"},
        {"type": "websocket.send", "text": "\ud800"},
        ACCEPT,
        DENIAL,
        {"type": "websocket.receive"},
        {"type": ["websocket.send"]},
        {**CLOSE, "code": 999},
        {**CLOSE, "code": 5000},
        {**CLOSE, "code": "1000"},
        {**CLOSE, "reason": b"x"},
        {**CLOSE, "reason": "\ud800"},
    ],
)
def test_wrong_messages_on_an_open_websocket_raise_and_change_nothing(message):
    async def test(websocket):
        with pytest.raises(IllegalMessage):
            await websocket.send(message)
        assert websocket.sink.calls == []
        await websocket.send(text())
        assert websocket.sink.calls == [("message", "x")]

    with_websocket(test)


def test_send_waits_while_the_peer_does_not_read():
    async def test(websocket):
        websocket.sink.window_open = asyncio.Event()
        sending = asyncio.ensure_future(websocket.send(text()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not sending.done()
        websocket.sink.window_open.set()
        await sending

    with_websocket(test)


def test_send_to_a_peer_that_is_gone_raises_an_oserror():
    async def test(websocket):
        websocket.disconnect(1001, "")
        for message in (text(), CLOSE):
            with pytest.raises(ClientDisconnected):
                await websocket.send(message)
        assert websocket.sink.calls == []

    with_websocket(test)


# Closing.


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 3000, "reason": "é" * 61 + "a"}, 3000, "é" * 61 + "a"),
        ({"code": 1012, "reason": "bye"}, 1012, "bye"),
    ],
)
def test_close(message, code, reason):
    async def test(websocket):
        websocket.feed("nobody will take this")
        await websocket.send({**CLOSE, **message})
        assert websocket.sink.calls == [("close", code, reason)]
        assert websocket.cycle.queued == 0
        websocket.feed("nor this")
        websocket.disconnect(1006, "")
        assert await websocket.receive() == disconnect(code, reason)
        for late in (text(), CLOSE, ACCEPT):
            with pytest.raises(IllegalMessage, match="after the WebSocket was closed"):
                await websocket.send(late)

    with_websocket(test)
