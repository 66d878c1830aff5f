"""The id of a request: who may choose it, and where it is seen."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from applications import START, body, hello
from peers import HTTP2Peer
from websocket_app import App

from h2asgi.config import HTTP1Config, HTTP2Config, Limits, Timeouts
from h2asgi.errors import ConfigurationError
from h2asgi.forwarded import Forwarding
from h2asgi.request_ids import RequestIDs
from h2asgi.trust import Trusted

NAME = "x-request-id"
PROXY, STRANGER = ("10.0.0.1", 5000), ("192.0.2.1", 5000)
made_here = re.compile("[0-9a-f]{32}").fullmatch


class Answers:
    """Says hello with ``fields``, or raises; keeps the ids that it was given."""

    def __init__(self, *fields: tuple[bytes, bytes], error: Exception | None = None) -> None:
        self.fields = fields
        self.error = error
        self.ids: list[list[bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ids.append([value for name, value in scope["headers"] if name == NAME.encode()])
        if self.error is not None:
            raise self.error
        await send({**START, "headers": self.fields})
        await send(body(b"hello"))


@pytest.fixture
def serve(driver):
    def serve(app: Any, **config: Any) -> None:
        driver.serve(app, **config)
        driver.state.request_ids = RequestIDs("X-Request-Id")
        driver.state.forwarding = Forwarding(Trusted(["10.0.0.0/8"]), "x-forwarded")

    return serve


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def ask(request, driver):
    """Ask on a new connection with fields besides; gives the status and the response's ids."""

    def http1(*fields: tuple[str, str], peername: Any = PROXY) -> tuple[int, list[str]]:
        peer = driver.connect("http/1.1", peername=peername)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        peer.send(f"GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n".encode())
        head = peer.take().partition(b"\r\n\r\n")[0].decode()
        return int(head.split(" ")[1]), re.findall(f"(?i)^{NAME}: (.*?)\r?$", head, re.MULTILINE)

    def http2(*fields: tuple[str, str], peername: Any = PROXY) -> tuple[int, list[str]]:
        peer = driver._accept(HTTP2Peer, "h2", peername=peername).start()
        response = peer.response(peer.request("GET", "/", *fields))
        return int(response.status), [value for name, value in response.headers if name == NAME]

    return http1 if request.param == "HTTP/1.1" else http2


@pytest.mark.parametrize(
    "given",
    ["abc", "a" * 128, "Root=1-67891233-abcdef;Self=1", "a1/b2+c=.:@~_", "0f-4e"],
)
def test_a_proxy_that_is_believed_chooses_the_id(driver, serve, ask, given):
    app = Answers()
    serve(app)
    assert ask((NAME, given)) == (200, [given])
    assert app.ids == [[given.encode()]]
    assert driver.records[0].request_id == given


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "a\\b", "a,b", "a{b", "a\xe9", "a" * 129])
def test_what_is_no_word_of_harmless_characters_is_replaced(driver, serve, ask, given):
    app = Answers()
    serve(app)
    status, ids = ask((NAME, given))
    assert status == 200
    assert made_here(*ids)
    assert app.ids == [[ids[0].encode()]]
    assert driver.records[0].request_id == ids[0]


def test_two_ids_are_none(serve, ask):
    app = Answers()
    serve(app)
    _, ids = ask((NAME, "one"), (NAME, "two"))
    assert made_here(*ids)
    assert app.ids == [[ids[0].encode()]]


def test_a_stranger_does_not_choose_it(serve, ask):
    app = Answers()
    serve(app)
    _, ids = ask((NAME, "mine"), peername=STRANGER)
    assert made_here(*ids)
    assert app.ids == [[ids[0].encode()]]


def test_every_request_has_its_own(serve, ask):
    serve(hello)
    assert len({ask()[1][0] for _ in range(100)}) == 100


def test_the_other_fields_stay_as_they_are(driver, serve):
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await hello(scope, receive, send)

    serve(app)
    peer = driver.connect("http/1.1", peername=STRANGER)
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\nX-Request-ID: b\r\nx-c: d\r\n\r\n" * 2)
    for headers in seen:
        assert headers[:-1] == [(b"host", b"a"), (b"x-c", b"d")]
    assert len({headers[-1] for headers in seen}) == 2


def test_an_application_may_answer_with_another_one(driver, serve, ask):
    serve(Answers((NAME.encode(), b"other")))
    assert ask((NAME, "abc")) == (200, ["other"])
    assert driver.records[0].request_id == "abc"


def test_an_error_line_has_the_ids(driver, serve, ask, caplog):
    serve(Answers(error=ValueError("bad")))
    assert ask((NAME, "abc")) == (500, ["abc"])
    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.exc_info
    assert line.__dict__["request_id"] == "abc"
    assert line.__dict__["stream"] == driver.records[0].stream_id == 1
    assert line.__dict__["connection"] == driver.records[0].connection


def test_what_the_server_refuses_has_one(driver, serve, ask):
    serve(hello, limits=Limits(concurrency=0))
    assert ask((NAME, "abc")) == (503, ["abc"])
    assert driver.records[0].request_id == "abc"


def test_what_is_malformed_has_one(driver, serve, ask):
    small = 1024
    http1, http2 = HTTP1Config(max_head_size=small), HTTP2Config(max_header_list_size=small)
    serve(hello, http1=http1, http2=http2)
    status, ids = ask((NAME, "abc"), ("x", "x" * small))
    assert status == 431
    assert made_here(*ids)
    assert driver.records[0].request_id == ids[0]
    assert driver.records[0].headers == []


def test_an_answer_in_the_place_of_the_application_has_it(driver, serve):
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    serve(silent, timeouts=Timeouts(response=10))
    peer = driver._accept(HTTP2Peer, "h2", peername=PROXY).start()
    stream_id = peer.request("GET", "/", (NAME, "abc"))
    for _ in range(10):
        driver.loop.advance(5)
    response = peer.response(stream_id)
    assert response.status == 503
    assert (NAME, "abc") in response.headers


def test_a_websocket_has_one(driver, serve, far_end):
    app = App()
    app.loop = driver.loop
    serve(app)
    far_end(driver, "/ws")
    fields = dict(app.scope["headers"])
    assert made_here(fields[NAME.encode()].decode())
    assert driver.records[0].request_id == fields[NAME.encode()].decode()


def test_without_the_option_there_is_none(driver, ask):
    app = Answers()
    driver.serve(app)
    assert ask() == (200, [])
    assert app.ids == [[]]
    assert driver.records[0].request_id == ""


@pytest.mark.parametrize("name", ["", "a b", "x:y", "Host", "content-length", "\u00e4", "Cookie"])
def test_a_name_that_cannot_be_is_an_operators_error(name):
    with pytest.raises(ConfigurationError, match="--request-id-header must be"):
        RequestIDs(name)


def test_connections_and_streams_have_numbers(driver):
    driver.serve(hello)
    first, second = driver.http2(), driver.http1()
    first.request()
    first.request()
    second.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
    found = [(record.connection, record.stream_id) for record in driver.records]
    one, other = found[0][0], found[2][0]
    assert other == one + 1
    assert found == [(one, 1), (one, 3), (other, 1), (other, 2)]
