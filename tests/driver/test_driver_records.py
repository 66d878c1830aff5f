"""Answers to what never reaches the application, and what the trace is told of requests."""

from __future__ import annotations

import pytest
from applications import START, Stepwise, body, hello, reader, silent

from h2asgi.config import HTTP2Config

SMALL = HTTP2Config(max_header_list_size=1024)


def record(driver):
    (only,) = driver.records
    return only


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_http1_rejection_is_answered_and_recorded(driver, method):
    """HEAD has no content (RFC 9110 section 9.3.2)."""
    driver.serve(silent)
    peer = driver.http1()
    peer.send(b"%b /p HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n" % method.encode())
    head, _, content = peer.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nserver: h2asgi\r\n" in head
    assert b"\r\nconnection: close" in head
    assert content == (b"" if method == "HEAD" else b"repeated host\n")
    assert b"content-length: 14\r\n" in head
    seen = record(driver)
    assert (seen.method, seen.target, seen.http_version) == (method, b"/p", "1.1")
    assert (seen.status, seen.body_size) == (400, len(content))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_http2_rejection_is_answered_and_recorded(driver, method):
    driver.serve(hello, http2=SMALL)
    peer = driver.http2()
    stream_id = peer.request(method, "/p", ("x", "x" * 1024))
    response = peer.response(stream_id)
    assert (response.status, response.ended, response.error_code) == (431, True, None)
    assert bool(response.body) is (method == "GET")
    seen = record(driver)
    assert (seen.method, seen.target, seen.http_version) == (method, b"/p", "2")
    assert (seen.status, seen.body_size) == (431, len(response.body))
    assert peer.response(peer.request()).body == b"hello"


def test_connect_is_answered_501(driver):
    """Field note 9."""
    driver.serve(silent)
    peer = driver.http1()
    peer.send(b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n")
    assert peer.take().startswith(b"HTTP/1.1 501 ")


@pytest.mark.parametrize("size", [1, 200_000])
def test_rejection_of_a_pipelined_request_follows_the_answer_before_it(driver, size):
    """It turns up while the answer leaves, and nothing else happens on the connection."""

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x" * size))

    driver.serve(app)
    peer = driver.http1()
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    answers = peer.take()
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"xHTTP/1.1 400 " in answers
    assert sorted(seen.status for seen in driver.records) == [200, 400]
    driver.loop.advance(2)
    assert peer.transport.is_closing()


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_request_is_recorded_once_when_its_answer_ends(driver, protocol):
    app = Stepwise()
    driver.serve(app)
    peer = getattr(driver, protocol)()
    if protocol == "http1":
        peer.send(b"POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi")
    else:
        peer.body(peer.request("POST", "/a?b", end_stream=False), b"hi", end_stream=True)
    app.start({**START, "status": 201}, body(b"one", more=True))
    driver.loop.advance(1.5)
    assert driver.records == []
    app.start(body(b"three"))
    driver.loop.settle()
    seen = record(driver)
    assert (seen.client, seen.method, seen.target) == (("192.0.2.1", 5000), "POST", b"/a?b")
    assert (seen.status, seen.body_size, seen.duration) == (201, 8, pytest.approx(1.5))
    peer.transport.lose()
    app.finish()
    driver.loop.settle()
    assert len(driver.records) == 1


def test_abandoned_request_is_recorded_once_with_what_was_sent(driver):
    app = Stepwise()
    app.start(START, body(b"half", more=True))
    driver.serve(app)
    peer = driver.http2()
    peer.reset(peer.request())
    peer.transport.lose()
    app.finish()
    driver.loop.settle()
    seen = record(driver)
    assert (seen.status, seen.body_size) == (200, 4)


def test_request_without_any_answer_is_recorded_with_status_0(driver):
    driver.serve(silent)
    peer = driver.http2()
    peer.reset(peer.request())
    assert record(driver).status == 0


def test_failed_application_is_recorded_with_500(driver):
    async def app(scope, receive, send):
        raise ValueError("mistake")

    driver.serve(app)
    driver.http2().request()
    assert record(driver).status == 500


def test_malformed_http2_request_costs_its_stream_only(driver):
    """RFC 9113 section 8.1.1; the application never sees it, and so no record of it."""
    driver.serve(reader)
    peer = driver.http2()
    living = peer.request("POST", end_stream=False)
    malformed = peer.request("GET", "/", ("connection", "close"))
    assert peer.response(malformed).error_code == 1
    peer.body(living, b"abc", end_stream=True)
    assert peer.response(living).body == b"3"
    assert len(driver.records) == 1
