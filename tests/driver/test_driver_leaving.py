"""A peer that leaves while reading is suspended (HTTP/1.1): the kernel knows, the loop does not."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from applications import hello

from h2asgi import tcp
from h2asgi.closing import CLOSE_TIME
from h2asgi.reading import LEAVE_CHECK_INTERVAL

PIPELINED = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + bytes(100_000)


def transport_over(sock: Any) -> Any:
    return SimpleNamespace(get_extra_info={"socket": sock}.get)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        return theirs, listening.accept()[0]


@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_end_of_the_peer_is_seen_behind_what_is_unread(end):
    theirs, ours = tcp_pair()
    with theirs, ours:
        theirs.sendall(b"unread")
        assert not tcp.peer_has_closed(transport_over(ours))
        if end == "RST":
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert tcp.peer_has_closed(transport_over(ours))


def test_end_that_cannot_be_known(monkeypatch):
    theirs, ours = tcp_pair()
    with ours:
        theirs.close()
        monkeypatch.delattr("select.poll")  # Windows
        assert not tcp.peer_has_closed(transport_over(ours))
    assert not tcp.peer_has_closed(transport_over(ours))
    assert not tcp.peer_has_closed(transport_over(None))


async def wait_for_ever(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_reading_stays_suspended_while_the_peer_is_there(driver):
    driver.serve(wait_for_ever)
    peer = driver.http1()
    peer.send(PIPELINED)
    for _ in range(3):
        assert not peer.transport.reading
        driver.loop.advance(LEAVE_CHECK_INTERVAL)
    assert not peer.transport.reading


def test_reading_goes_on_to_the_end_of_a_peer_that_left(driver, monkeypatch):
    driver.serve(wait_for_ever)
    peer = driver.http1()
    peer.send(PIPELINED)
    monkeypatch.setattr("h2asgi.reading.peer_has_closed", lambda transport: True)
    driver.loop.advance(LEAVE_CHECK_INTERVAL)
    assert peer.transport.reading
    peer.send(PIPELINED)
    assert peer.transport.reading


def test_nothing_is_looked_for_once_reading_goes_on(driver, monkeypatch):
    driver.serve(hello)
    peer = driver.http1()
    peer.deliver(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 5000)
    driver.loop.turn()
    driver.loop.turn()
    assert not peer.transport.reading
    while not peer.transport.reading:
        driver.loop.turn()
    asked = []
    monkeypatch.setattr("h2asgi.reading.peer_has_closed", asked.append)
    driver.loop.advance(LEAVE_CHECK_INTERVAL)
    assert asked == []


def test_peer_that_left_is_noticed_at_once_when_something_is_sent(driver, monkeypatch):
    """TLS on asyncio drops it with a warning each time, from the client's end on."""
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})

    driver.serve(app)
    peer = driver.http1()
    peer.send(PIPELINED)
    assert not peer.transport.reading
    monkeypatch.setattr("h2asgi.reading.peer_has_closed", lambda transport: True)
    go_on.set()
    for _ in range(3):
        driver.loop.turn()
    assert peer.transport.reading


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_nothing_more_is_written_to_a_transport_that_broke_on_the_way(driver, connection):
    """asyncio logs a warning for each further write."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(8 * 1024 * 1024)})

    driver.serve(app)
    peer = driver.http1()
    peer.transport.breaks = True
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: %b\r\n\r\n" % connection.encode())
    assert len(peer.transport.writes) == 1


def test_tls_peer_that_closes_its_side_without_reading_is_dropped_in_the_end(driver):
    """TLS transports cannot be half-closed: nothing that is sent from then on would arrive."""
    disconnected = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        except OSError:
            disconnected.append(True)
            raise

    driver.serve(app)
    peer = driver.http1()
    peer.transport.stall()
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert not peer.end()
    driver.loop.settle()
    assert disconnected  # at once, though its transport may take its time
    assert not peer.transport.aborted
    driver.loop.advance(CLOSE_TIME)
    assert peer.transport.aborted
