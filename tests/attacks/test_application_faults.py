"""Applications that fail in every way, whatever engine is under them.

What must hold: the client gets a 500, or an end that it cannot take for a whole answer; the stream
beside it and the next client are served; the log has one line, with a traceback if it is the
application's; nothing is left. A field that would split a response raises in the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attacked_server import HANG, Streams, connect, leave, serving, until, visit
from hpack import Decoder, Encoder
from http2_peer import GET, PREFACE, SETTINGS_ACK, data, frame, settings
from test_slow_attacks import ENGINES, engine_of

from h2asgi import process
from h2asgi.config import Timeouts
from h2asgi.errors import IllegalMessage

SHORT = 0.2
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"hello"}
MORE = {"type": "http.response.body", "body": b"he", "more_body": True}

RESET = "reset"
"""The end of a response that has begun: RST_STREAM, or a connection that breaks off."""


@pytest.fixture(params=ENGINES, ids=engine_of)
def slices(request: pytest.FixtureRequest) -> dict[str, Any]:
    pytest.importorskip(engine_of(request.param))
    return dict(request.param)


def start(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return START | {"headers": headers} | more


Fault = Callable[[Any, Any], Awaitable[None]]


async def raises(receive: Any, send: Any) -> None:
    raise RuntimeError("a mistake")


async def raises_behind_the_start(receive: Any, send: Any) -> None:
    await send(START)
    raise RuntimeError("a mistake")


async def raises_within_the_body(receive: Any, send: Any) -> None:
    await send(START)
    await send(MORE)
    raise RuntimeError("a mistake")


async def raises_a_group(receive: Any, send: Any) -> None:
    raise BaseExceptionGroup("some", [ValueError("a mistake"), asyncio.CancelledError()])


async def returns(receive: Any, send: Any) -> None:
    pass


async def returns_within_the_body(receive: Any, send: Any) -> None:
    await send(START)
    await send(MORE)


async def raises_what_is_no_exception(receive: Any, send: Any) -> None:
    class Panic(BaseException):
        pass

    raise Panic


async def raises_a_group_of_that(receive: Any, send: Any) -> None:
    raise BaseExceptionGroup("some", [BaseException("a panic")])


async def exits(receive: Any, send: Any) -> None:
    """With the whole process, it thinks."""
    await asyncio.sleep(0)
    raise SystemExit(3)


async def exits_within_the_body(receive: Any, send: Any) -> None:
    await send(START)
    await send(MORE)
    raise SystemExit(3)


async def awaits_what_was_cancelled(receive: Any, send: Any) -> None:
    awaited = asyncio.get_running_loop().create_future()
    awaited.cancel()
    await awaited


async def cancels_itself(receive: Any, send: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def raises_what_no_text_can_be_made_of(receive: Any, send: Any) -> None:
    class Worse(Exception):
        def __str__(self) -> str:
            raise RuntimeError("worse")

    raise Worse


FAULTS: dict[Fault, tuple[str, int]] = {  # what the client sees, and how many lines are logged
    raises: ("500", 1),
    raises_behind_the_start: ("500", 1),
    raises_within_the_body: (RESET, 1),
    raises_a_group: ("500", 1),
    returns: ("500", 1),
    returns_within_the_body: (RESET, 1),
    raises_what_is_no_exception: ("500", 1),
    raises_a_group_of_that: ("500", 1),
    exits: ("500", 1),
    exits_within_the_body: (RESET, 1),
    awaits_what_was_cancelled: ("500", 1),
    cancels_itself: (RESET, 1),
    raises_what_no_text_can_be_made_of: ("500", 1),
}

ILLEGAL: dict[str, list[Any]] = {
    "no dictionary": [None],
    "no type": [{}],
    "a type that is no text": [{"type": 5}],
    "an unknown type": [{"type": "http.response.unknown"}],
    "another protocol's type": [{"type": "websocket.accept"}],
    "a body ahead of the start": [BODY],
    "two starts": [START, START],
    "a status that is no number": [START | {"status": "200"}],
    "an interim status": [START | {"status": 100}],
    "headers that are none": [START | {"headers": 5}],
    "headers that are no pairs": [START | {"headers": [b"x"]}],
    "text in headers": [start(("x", "y"))],  # type: ignore[arg-type]
    "text for a body": [START, BODY | {"body": "text"}],
    "trailers that nobody announced": [START, {"type": "http.response.trailers"}],
    "a length that differs": [start((b"content-length", b"9")), BODY],
    "a length that is none": [start((b"content-length", b"-1"))],
    "a file that is not there": [START, {"type": "http.response.pathsend", "path": "/no/such"}],
    "a path that is none": [START, {"type": "http.response.pathsend", "path": 5}],
    "links that are none": [{"type": "http.response.early_hint", "links": [5]}],
}
SPLITTING: dict[str, list[Any]] = {
    f"{name} in {where}": messages
    for name, octet in (("CR LF", b"\r\nset-cookie: a=b"), ("LF", b"\nx: y"), ("NUL", b"\0"))
    for where, messages in {
        "a value": [start((b"location", b"/" + octet))],
        "a name": [start((b"x" + octet, b"y"))],
        "a length": [start((b"content-length", b"5" + octet))],
        "a link": [{"type": "http.response.early_hint", "links": [b"</a>" + octet]}],
        "the priority": [start((b"priority", b"u=1" + octet))],
        "connection": [start((b"connection", b"close" + octet))],
    }.items()
}


async def answers(slices: dict[str, Any], streams: Streams) -> list[str]:
    """Ask for ``/`` and, beside or behind it, for ``/hello``; status or end of each."""
    if "http1" in slices:
        return [await http1_answer(streams, b"/")]
    reader, writer = streams
    encoder, decoder = Encoder(), Decoder()
    hello = [*GET[:3], (b":path", b"/hello")]
    writer.write(PREFACE + settings() + SETTINGS_ACK + frame(1, 5, 1, encoder.encode(GET)))
    writer.write(frame(1, 5, 3, encoder.encode(hello)))
    found: dict[int, str] = {}
    over: set[int] = set()
    async with asyncio.timeout(HANG):
        while len(over) < 2:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            stream_id = int.from_bytes(head[5:], "big")
            if head[3] == 1:
                fields = decoder.decode(payload)
                if not fields[0][1].startswith("1"):
                    found.setdefault(stream_id, fields[0][1])
                assert "set-cookie" not in dict(fields)
            elif head[3] == 3 and stream_id not in over:
                found[stream_id] = RESET
            if head[3] == 3 or (head[3] < 2 and head[4] & 1):
                over.add(stream_id)
    return [found[1], found[3]]


async def http1_answer(streams: Streams, path: bytes) -> str:
    """What one sees who takes the framing at its word."""
    reader, writer = streams
    writer.write(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path)
    async with asyncio.timeout(HANG):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 1"):
                head = await reader.readuntil(b"\r\n\r\n")
            assert b"set-cookie" not in head
            if b"transfer-encoding: chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            else:
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return RESET
    return head[9:12].decode()


def outcome(slices: dict[str, Any], fault: Any, **timeouts: Any) -> str:
    """What the client of a fault sees, while others are served."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/hello" or scope["client"][1] not in clients:
            await receive()
            await send(START)
            await send(BODY)
        else:
            await fault(receive, send)

    clients: set[int] = set()

    async def main() -> str:
        async with serving(app, timeouts=Timeouts(**timeouts), **slices) as server:
            streams = await connect(server)
            clients.add(streams[1].get_extra_info("sockname")[1])
            first, *beside = await answers(slices, streams)
            assert beside == ["200"] * len(beside)
            assert await visit(server) == b"HTTP/1.1 200 OK"
            leave(streams)
            return first

    return asyncio.run(asyncio.wait_for(main(), 2 * HANG))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_whatever_an_application_raises(
    slices: dict[str, Any], fault: Fault, complaints: list[str]
) -> None:
    seen, lines = FAULTS[fault]
    assert outcome(slices, fault) == seen
    assert len(complaints) == lines
    complaints.clear()


@pytest.mark.parametrize("name", ILLEGAL | SPLITTING)
def test_illegal_messages_raise_in_the_application(
    slices: dict[str, Any], name: str, complaints: list[str]
) -> None:
    """Also those that would put further fields, or another response, into the answer."""
    raised: list[type[Exception]] = []

    async def fault(receive: Any, send: Any) -> None:
        *before, last = (ILLEGAL | SPLITTING)[name]
        for message in before:
            await send(message)
        try:
            await send(last)
        except IllegalMessage as error:
            raised.append(type(error))
            raise

    assert outcome(slices, fault) == "500"
    assert raised == [IllegalMessage]
    assert len(complaints) == 1
    complaints.clear()


def test_an_application_that_goes_on_after_a_refused_message_can_still_answer(
    slices: dict[str, Any],
) -> None:
    async def fault(receive: Any, send: Any) -> None:
        with contextlib.suppress(IllegalMessage):
            await send(start((b"location", b"/\r\nset-cookie: a=b")))
        await send(START)
        await send(BODY)

    assert outcome(slices, fault) == "200"


@pytest.mark.parametrize("swallows", [False, True], ids=["ends", "goes on"])
def test_an_application_that_hangs(
    slices: dict[str, Any], swallows: bool, complaints: list[str]
) -> None:
    """It is cancelled; one that swallows that may go on, and writes into nothing."""
    refused: list[type[BaseException]] = []

    async def fault(receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not swallows:
                raise
        for message in (START, BODY):
            try:
                await send(message)
            except OSError as error:
                refused.append(type(error))

    assert outcome(slices, fault, response=SHORT) == "503"
    assert len(refused) == 2 * swallows
    assert len(complaints) == 1
    assert "no response within" in complaints.pop()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_is_blocked_loses_nobody(slices: dict[str, Any], loop: str) -> None:
    """What clients sent meanwhile is in the kernel; their deadlines are over when it is read."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    late: list[socket.socket] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            late[0].sendall(b"llo")
            late[1].sendall(b"st: a\r\n\r\n")
            time.sleep(4 * SHORT)
        while (await receive()).get("more_body"):
            pass
        await send(START)
        await send(BODY)

    async def main() -> None:
        short = ("request_body", "write", "request_headers", "first_bytes", "keep_alive")
        timeouts = Timeouts(**dict.fromkeys(short, 3 * SHORT))
        async with serving(app, timeouts=timeouts, **slices) as server:
            late.extend(socket.create_connection(server.addresses[0]) for _ in range(2))
            late[0].sendall(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhe")
            late[1].sendall(b"GET /late HTTP/1.1\r\nho")
            await until(lambda: bool(server._state.tasks))
            streams = await connect(server)
            assert (await answers(slices, streams))[0] == "200"
            for sock in late:
                answer = await asyncio.to_thread(sock.recv, 100)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                sock.close()
            leave(streams)

    process.run(process.new_event_loop(loop), asyncio.wait_for(main(), 2 * HANG))


HEAD = Encoder().encode(GET)
POST = frame(1, 4, 1, Encoder().encode([(b":method", b"POST"), *GET[1:]]))
STATES = {
    "nothing": b"",
    "half a preface": PREFACE[:10],
    "the preface": PREFACE,
    "half of SETTINGS": PREFACE + settings((4, 0))[:11],
    "SETTINGS": PREFACE + settings(),
    "half a frame's head": PREFACE + settings() + frame(1, 5, 1, HEAD)[:5],
    "half a field block": PREFACE + settings() + frame(1, 1, 1, HEAD[:3]),
    "a request": PREFACE + settings() + frame(1, 5, 1, HEAD),
    "a request with its windows closed": PREFACE + settings((4, 0)) + frame(1, 5, 1, HEAD),
    "a body to come": PREFACE + settings() + POST,
    "half a body": PREFACE + settings() + POST + data(1, b"he"),
    "half of DATA": PREFACE + settings() + POST + data(1, b"hello")[:11],
    "a whole body": PREFACE + settings() + POST + data(1, b"hello", end=True),
    "a reset": PREFACE + settings() + POST + frame(3, 0, 1, bytes(4)),
    "GOAWAY": PREFACE + settings() + POST + frame(7, 0, 0, bytes(8)),
    "a mistake": PREFACE + settings() + frame(0, 0, 0, b"x"),
}


@pytest.mark.parametrize("slices", ENGINES[2:], ids=engine_of, indirect=True)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("end", ["close", "abort", "half-close"])
def test_http2_clients_that_vanish_in_any_state(
    slices: dict[str, Any], tls: bool, end: str, certificate: Any
) -> None:
    """By FIN, by RST, and by FIN alone, reading on: the server must have nothing left."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            with contextlib.suppress(OSError):
                await send(START)
                await send(MORE | {"body": bytes(100_000)})
                await send(BODY)

    options = {"ssl": certificate.client("h2"), "server_hostname": "localhost"} if tls else {}
    certfile = certificate.certfile if tls else None

    async def main() -> None:
        async with serving(app, certfile=certfile, **slices) as server:
            for octets in STATES.values():
                reader, writer = await connect(server, **options)
                writer.write(octets)
                for _ in range(3):
                    await asyncio.sleep(0)
                if end != "half-close":
                    getattr(writer.transport, end)()
                    continue
                if not tls:
                    writer.write_eof()
                    async with asyncio.timeout(HANG):
                        with contextlib.suppress(ConnectionError):
                            while await reader.read(65_536):
                                pass
                writer.transport.abort()

    asyncio.run(asyncio.wait_for(main(), 3 * HANG))
