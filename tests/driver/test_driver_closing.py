"""How connections end: what is on its way arrives, and nothing is kept for ever."""

from __future__ import annotations

import re
import socket
import struct
import sys

import pytest
from applications import START, Stepwise, body, hello, reader, silent
from peers import HTTP2Peer

from h2asgi.closing import CLOSE_TIME, LINGER_OCTETS, LINGER_TIME
from h2asgi.output import WRITE_SIZE

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
BROKEN = b"GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n"
EMPTY_DATA_FRAME_ON_CONNECTION = bytes(9)


def test_last_answer_is_written_before_the_close(driver):
    driver.serve(hello)
    peer = driver.connect()
    peer.send(LAST)
    assert peer.take().endswith(b"hello")
    assert peer.transport.lost
    assert not peer.transport.aborted


@pytest.mark.parametrize("alpn", [False, "http/1.1"])
@pytest.mark.parametrize("data", [BROKEN, UPLOAD])
def test_answer_to_a_peer_that_is_still_sending_lingers(driver, alpn, data):
    """RFC 9112 section 9.6. In the clear the peer sees the end at once; TLS has no half-close."""
    driver.serve(hello)
    peer = driver.connect(alpn)
    peer.send(data + bytes(1000))
    assert peer.take().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 "))
    assert peer.transport.write_eof_called is (alpn is False)
    assert not peer.transport.is_closing()
    peer.send(bytes(100_000))
    driver.loop.advance(LINGER_TIME - 0.1)
    assert not peer.transport.is_closing()
    driver.loop.advance(0.1)
    assert peer.transport.is_closing()
    assert len(driver.records) == 1


def test_lingering_ends_when_the_peer_closes(driver):
    driver.serve(hello)
    peer = driver.connect()
    peer.send(BROKEN)
    assert not peer.transport.is_closing()
    assert peer.end() is False
    assert peer.transport.lost
    assert driver.loop.timers_left() == []


def test_lingering_ends_after_so_many_octets(driver):
    driver.serve(hello)
    peer = driver.connect()
    peer.send(BROKEN)
    peer.send(bytes(LINGER_OCTETS))
    assert not peer.transport.is_closing()
    peer.send(bytes(1))
    assert peer.transport.is_closing()
    peer.connection.buffer_updated(1)  # what the transport had read before


@pytest.mark.parametrize("how", ["time", "octets"])
def test_slow_reader_gets_the_rest_of_its_answer_after_lingering(driver, how):
    """An early answer to an upload: lingering bounds what is read, not what is written."""
    size = 3 * WRITE_SIZE

    async def app(scope, receive, send):
        await send(START)
        await send(body(bytes(size)))

    driver.serve(app)
    peer = driver.connect()
    peer.transport.stall()
    peer.send(UPLOAD)
    peer.transport.drain()
    driver.loop.settle()
    peer.transport.stall()
    peer.transport._buffer += b"the rest"
    if how == "time":
        driver.loop.advance(LINGER_TIME)
    else:
        peer.send(bytes(LINGER_OCTETS + 1))
    assert not peer.transport.aborted
    peer.transport.drain()
    assert peer.take().endswith(bytes(size) + b"the rest")
    driver.loop.settle()
    assert peer.transport.lost


def test_peer_that_has_reset_cannot_be_half_closed(driver):
    """shutdown(2) then fails; the loss itself is told later."""
    driver.serve(hello)
    peer = driver.connect()

    def write_eof():
        raise OSError(107, "Transport endpoint is not connected")

    peer.transport.write_eof = write_eof
    peer.send(BROKEN)
    driver.loop.advance(LINGER_TIME)
    assert peer.transport.lost


def test_lingering_reads_even_if_reading_was_paused(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect()
    peer.send(UPLOAD + bytes(256 * 1024))
    assert not peer.transport.reading
    app.start(START, body(b"enough"))
    driver.loop.settle()
    assert peer.transport.reading
    assert peer.transport.write_eof_called
    peer.send(bytes(10))


def test_connection_error_on_http2_sends_goaway_and_lingers(driver):
    """RFC 9113 section 5.4.1."""
    driver.serve(silent)
    peer = driver.http2()
    peer.request()
    peer.send(EMPTY_DATA_FRAME_ON_CONNECTION)
    peer.read()
    assert [frame.error_code for frame in peer.goaway] == [1]
    assert not peer.transport.is_closing()
    peer.send(bytes(5000))
    driver.loop.advance(LINGER_TIME)
    assert peer.transport.is_closing()


def test_what_arrives_after_the_end_is_not_served(driver):
    driver.serve(hello)
    peer = driver.http2()
    peer.send(EMPTY_DATA_FRAME_ON_CONNECTION)
    peer.request()
    assert driver.records == []
    assert peer.connection.eof_received() is False


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_answer_that_is_cut_off_looks_cut_off(driver, version):
    """RFC 9112 section 8: a clean end would make half a response look whole."""

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"half", more=True))
        raise ValueError("mistake")

    driver.serve(app)
    peer = driver.connect()
    peer.send(b"GET / HTTP/%b\r\nhost: a\r\n\r\n" % version)
    assert b"half" in peer.take()
    assert peer.transport.aborted
    # In the clear only RST tells: SO_LINGER, on and 0 seconds.
    options = peer.transport.get_extra_info("socket").options
    assert options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]
    assert driver.records[0].body_size == 4


def test_peer_that_does_not_read_is_closed_in_the_end(driver):
    driver.serve(hello)
    peer = driver.connect()
    peer.transport.stall()
    peer.send(LAST)
    driver.loop.advance(CLOSE_TIME - 1)
    assert not peer.transport.lost
    driver.loop.advance(1)
    assert peer.transport.aborted
    assert peer.transport.lost


def test_peer_that_reads_a_little_has_its_time_anew(driver):
    driver.serve(hello)
    peer = driver.connect()
    peer.transport.stall()
    peer.send(LAST)
    driver.loop.advance(CLOSE_TIME - 1)
    del peer.transport._buffer[:1]
    driver.loop.advance(1)
    assert not peer.transport.lost
    driver.loop.advance(CLOSE_TIME)
    assert peer.transport.aborted


def test_slow_peer_that_goes_on_reading_gets_all_of_a_large_last_answer(driver):
    """12.5 MiB at 2 Mbit/s, with connection: close and the body in one message."""

    async def app(scope, receive, send):
        await send(START)
        await send(body(bytes(100 * WRITE_SIZE)))

    driver.serve(app)
    peer = driver.connect()
    peer.transport.stall()
    peer.send(LAST)
    for _ in range(60):
        driver.loop.advance(1)
        peer.transport.arrived += peer.transport._buffer[: 2 * WRITE_SIZE]
        del peer.transport._buffer[: 2 * WRITE_SIZE]
        if not peer.transport._buffer:
            peer.transport.drain()
            peer.transport.stall()
    driver.loop.settle()
    assert not peer.transport.aborted
    assert len(peer.take()) > 100 * WRITE_SIZE


def test_tls_peer_that_does_not_answer_close_notify_is_closed_in_the_end(driver):
    driver.serve(hello)
    peer = driver.http1()
    peer.send(LAST)
    assert not peer.transport.lost
    driver.loop.advance(CLOSE_TIME)
    assert peer.transport.lost


# End of input.


def test_half_closed_client_gets_its_answer(driver):
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect()
    peer.send(GET)
    assert peer.end() is True
    app.start("receive", "receive", START, body(b"answer"))
    driver.loop.settle()
    assert app.done[1] == {"type": "http.disconnect"}
    assert peer.take().endswith(b"answer")
    assert peer.transport.lost
    assert not peer.transport.aborted
    assert driver.records[0].status == 200


@pytest.mark.parametrize("alpn", [False, "http/1.1"])
def test_end_of_input_in_the_turn_of_the_answer_does_not_lose_it(driver, alpn):
    """The transport closes once ``eof_received`` has returned."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect(alpn)
    peer.send(GET)
    app.start(START, body(b"answer", more=True))
    for _ in range(5):
        driver.loop.turn()
        if app.done:
            break
    assert peer.take() == b""  # the flush comes after the end in this turn
    peer.end()
    assert peer.take().endswith(b"\r\n6\r\nanswer\r\n")
    assert peer.transport.is_closing() is bool(alpn)  # in the clear the rest may follow


@pytest.mark.skipif(sys.version_info < (3, 12), reason="applications begin a turn later")
@pytest.mark.parametrize("alpn", [False, "http/1.1"])
def test_a_request_whose_client_ends_at_once_is_answered_if_that_takes_no_wait(driver, alpn):
    """Over TLS, too, where ``close_notify`` may come in the same read as the request."""
    driver.serve(hello)
    peer = driver.connect(alpn)

    def read() -> None:
        peer.deliver(GET)
        if not peer.connection.eof_received():
            peer.transport.close()

    driver.loop.call_soon(read)
    driver.loop.settle()
    assert peer.take().endswith(b"hello")
    assert peer.transport.is_closing()
    assert [record.status for record in driver.records] == [200]


def test_end_of_input_over_tls_is_the_end(driver):
    """TLS transports cannot be half-closed."""
    driver.serve(silent)
    peer = driver.connect("http/1.1")
    peer.send(GET)
    assert peer.end() is False


def test_end_of_input_within_a_body_is_a_disconnect(driver):
    """RFC 9112 section 8."""
    app = Stepwise()
    driver.serve(app)
    peer = driver.connect()
    peer.send(UPLOAD)
    app.start("receive")
    driver.loop.settle()
    assert peer.end() is False
    assert app.done == [{"type": "http.disconnect"}]
    assert peer.transport.lost
    assert driver.records[0].status == 0


@pytest.mark.parametrize("data", [b"", b"PRI * H"])
def test_end_of_input_before_the_protocol_is_known(driver, data):
    driver.serve(hello)
    peer = driver.connect()
    peer.send(data)
    assert peer.end() is False
    assert peer.transport.lost
    assert driver.state.connections == set()


def test_end_of_input_on_idle_connections(driver):
    driver.serve(hello)
    one, two = driver.connect(), driver.http2()
    one.send(GET)
    assert [one.end(), two.end()] == [False, False]
    assert one.transport.lost
    assert two.transport.is_closing()


def test_end_of_input_disconnects_http2_streams(driver):
    app = Stepwise()
    app.start("receive", "receive")
    driver.serve(app)
    peer = driver._accept(HTTP2Peer, False).start()
    peer.request()
    assert peer.end() is False
    assert app.done[1] == {"type": "http.disconnect"}


def test_loss_with_an_error_is_no_traceback(driver, caplog):
    """Field note 5."""
    caplog.set_level("DEBUG", "h2asgi")
    driver.serve(reader)
    peer = driver.http1()
    peer.transport.lose(ConnectionResetError("reset by peer"))
    assert re.search(r"192\.0\.2\.1:5000 \(connection \d+\): lost: reset by peer", caplog.text)
    assert all(record.exc_info is None for record in caplog.records)
