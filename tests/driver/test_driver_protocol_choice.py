"""Which protocol a connection speaks: ALPN over TLS, the first bytes in the clear."""

from __future__ import annotations

import pytest
from applications import hello
from peers import PREFACE, HTTP2Peer

from h2asgi.config import HTTP1Config, HTTP2Config, Timeouts

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
NO_HTTP1 = HTTP1Config(enabled=False)
NO_HTTP2 = HTTP2Config(enabled=False)


def test_alpn_h2_speaks_http2(driver):
    driver.serve(hello)
    peer = driver.http2()
    stream_id = peer.request()
    response = peer.response(stream_id)
    assert (response.status, response.body, response.ended) == (200, b"hello", True)


@pytest.mark.parametrize("alpn", ["http/1.1", None])
def test_alpn_http1_or_nothing_selected_speaks_http1(driver, alpn):
    driver.serve(hello)
    peer = driver.connect(alpn)
    peer.send(GET)
    assert peer.take().startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("alpn", ["http/1.1", None])
def test_nothing_selected_without_http1_closes(driver, alpn):
    driver.serve(hello, http1=NO_HTTP1)
    peer = driver.connect(alpn)
    assert peer.transport.is_closing()
    assert peer.take() == b""


@pytest.mark.parametrize("data", [GET, PREFACE])
def test_what_arrives_while_such_a_connection_closes_is_not_served(driver, data):
    """TLS hands on what came with the handshake even after close()."""
    driver.serve(hello, http1=NO_HTTP1)
    peer = driver.connect(None)
    peer.send(data)
    assert driver.records == []
    assert not peer.transport.writes
    driver.loop.advance(30)
    assert peer.transport.aborted


def test_server_speaks_first_on_http2(driver):
    """RFC 9113 section 3.4: the server's SETTINGS need not wait for the client's."""
    driver.serve(hello)
    peer = driver._accept(HTTP2Peer, "h2")
    kinds = [type(frame).__name__ for frame in peer.read()]
    assert kinds == ["SettingsFrame", "WindowUpdateFrame"]


def test_preface_in_the_clear_speaks_http2(driver):
    """RFC 9113 section 3.3."""
    driver.serve(hello)
    peer = driver._accept(HTTP2Peer, False).start()
    assert peer.response(peer.request()).body == b"hello"


def test_preface_is_recognised_byte_by_byte(driver):
    driver.serve(hello)
    peer = driver._accept(HTTP2Peer, False)
    for octet in PREFACE[:-1]:
        peer.send(bytes([octet]))
        assert not peer.transport.writes
    peer.send(PREFACE[-1:])
    assert type(peer.read()[0]).__name__ == "SettingsFrame"


def test_request_is_recognised_byte_by_byte(driver):
    driver.serve(hello)
    peer = driver.connect()
    for octet in b"P" + b"OST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n":
        peer.send(bytes([octet]))
    assert peer.take().startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("cut", [3, 18, 23])
def test_mismatch_late_in_the_preface_is_http1(driver, cut):
    driver.serve(hello)
    peer = driver.connect()
    peer.send(PREFACE[:cut])
    assert not peer.transport.writes
    peer.send(b"X" + PREFACE[cut + 1 :])
    assert peer.take().startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))


def test_clear_without_http2_is_http1_from_the_start(driver):
    driver.serve(hello, http2=NO_HTTP2)
    peer = driver.connect()
    peer.send(PREFACE)
    assert peer.take().startswith(b"HTTP/1.1 505 ")


def test_clear_without_http1_is_http2_from_the_start(driver):
    driver.serve(hello, http1=NO_HTTP1)
    peer = driver._accept(HTTP2Peer, False)
    assert peer.transport.writes
    peer.send(GET)
    peer.read()
    assert [frame.error_code for frame in peer.goaway] == [1]


def test_first_bytes_have_a_deadline_in_the_clear(driver):
    driver.serve(hello, timeouts=Timeouts(first_bytes=3))
    peer = driver.connect()
    driver.loop.advance(2)
    peer.send(PREFACE[:10])  # not enough to tell
    driver.loop.advance(0.9)
    assert not peer.transport.is_closing()
    driver.loop.advance(0.1)
    assert peer.transport.lost
    assert not peer.transport.aborted


def test_recognition_ends_the_deadline_of_the_first_bytes(driver):
    driver.serve(hello, timeouts=Timeouts(first_bytes=3, request_headers=30))
    peer = driver.connect()
    peer.send(b"GET")
    driver.loop.advance(10)
    assert not peer.transport.is_closing()
    peer.send(b" / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert peer.take().startswith(b"HTTP/1.1 200 OK\r\n")


def test_unix_peer_has_no_client_address(driver):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    driver.serve(app, root_path="/app", lifespan_state={"db": 1})
    peer = driver.connect(peername="")
    peer.send(GET)
    assert scopes[0]["client"] is None
    assert scopes[0]["scheme"] == "http"
    assert scopes[0]["server"] == ("192.0.2.9", 443)
    assert scopes[0]["root_path"] == "/app"
    assert scopes[0]["state"] == {"db": 1}
    assert str(peer.connection).startswith("unix (connection ")
    assert driver.records[0].client is None


def test_ipv6_peer_is_host_and_port(driver):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    driver.serve(app)
    peer = driver.connect("http/1.1", peername=("2001:db8::1", 5000, 0, 0))
    peer.send(GET)
    assert scopes[0]["client"] == ("2001:db8::1", 5000)
    assert scopes[0]["scheme"] == "https"
    assert str(peer.connection).startswith("2001:db8::1:5000 (connection ")
