"""WSGI applications over the real protocols: bodies as they come, clients that leave, errors."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import apps.django_app  # noqa: F401 - which configures Django
import httpx
import pytest
from apps.letters import HANG
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from flask import Flask, Response, request
from serving import BackgroundServer, Command, httpx_client

from h2asgi.errors import ClientDisconnected

Serve = Callable[..., BackgroundServer]


class Gate:
    """Lets a test and an application in its thread wait for each other."""

    def __init__(self) -> None:
        self.events: dict[str, threading.Event] = {}

    def of(self, name: str) -> threading.Event:
        return self.events.setdefault(name, threading.Event())

    def wait(self, name: str) -> None:
        assert self.of(name).wait(HANG), name


@pytest.fixture
def served(serve: Serve) -> Callable[..., BackgroundServer]:
    """Serve a WSGI application."""
    return partial(serve, interface="wsgi")


@pytest.fixture
def connect(protocol: str) -> Iterator[Callable[[BackgroundServer], httpx.Client]]:
    """Give a client of a server; closing it ends its connection, whatever it waits for."""
    with ExitStack() as clients:

        def start(server: BackgroundServer) -> httpx.Client:
            return clients.enter_context(httpx_client(server, protocol))

        yield start


@pytest.fixture
def client(
    served: Callable[..., BackgroundServer], connect: Callable[[BackgroundServer], httpx.Client]
) -> Callable[..., httpx.Client]:
    """Serve a WSGI application and give a client of it."""
    return lambda app: connect(served(app))


def flask_app() -> Flask:
    app = Flask(__name__)

    @app.get("/hello/<name>")
    def hello(name: str) -> dict[str, str]:
        return {
            "name": name,
            "q": request.args["q"],
            "scheme": request.scheme,
            "protocol": request.environ["SERVER_PROTOCOL"],
        }

    @app.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    @app.post("/lines")
    def lines() -> dict[str, Any]:
        first = request.stream.readline(4)
        return {"first": first.decode(), "rest": [line.decode() for line in request.stream]}

    @app.get("/down")
    def down() -> Response:
        return Response((bytes(10_000) for _ in range(100)), mimetype="application/octet-stream")

    @app.get("/fields")
    def fields() -> dict[str, str]:
        return dict(request.headers)

    @app.get("/broken")
    def broken() -> str:
        raise LookupError("no such thing")

    return app


def django_echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, headers={"x-scheme": str(request.scheme)})


def django_broken(request: HttpRequest) -> HttpResponse:
    raise LookupError("no such thing")


urlpatterns = [path("echo", csrf_exempt(django_echo)), path("broken", django_broken)]


def test_flask(client: Callable[..., httpx.Client], protocol: str) -> None:
    peer = client(flask_app())
    response = peer.get("/hello/J%C3%BCrgen", params={"q": "a b"})
    assert (response.http_version, response.status_code) == (protocol, 200)
    assert response.json() == {
        "name": "Jürgen",
        "q": "a b",
        "scheme": "https",
        "protocol": "HTTP/2" if protocol == "HTTP/2" else "HTTP/1.1",
    }
    assert len(peer.get("/down").content) == 1_000_000
    assert peer.get("/absent").status_code == 404
    assert peer.head("/hello/x", params={"q": ""}).content == b""


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_flask_reads_a_body_with_and_without_content_length(
    client: Callable[..., httpx.Client], size: int
) -> None:
    peer = client(flask_app())
    body = os.urandom(size)
    assert peer.post("/echo", content=body).content == body
    pieces = (body[start : start + 50_000] for start in range(0, size, 50_000))
    assert peer.post("/echo", content=pieces).content == body


def test_lines_of_a_body(client: Callable[..., httpx.Client]) -> None:
    response = client(flask_app()).post("/lines", content=iter([b"one ", b"two\nthr", b"ee\nf"]))
    assert response.json() == {"first": "one ", "rest": ["two\n", "three\n", "f"]}


def test_a_field_with_an_underscore_cannot_pass_for_another(
    client: Callable[..., httpx.Client],
) -> None:
    fields = client(flask_app()).get("/fields", headers={"x_real_ip": "192.0.2.1", "x-b": "2"})
    assert "X-Real-Ip" not in fields.json()
    assert fields.json()["X-B"] == "2"


def test_a_body_is_read_while_it_comes_and_a_response_sent_while_it_is_made(
    client: Callable[..., httpx.Client],
) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        assert environ["wsgi.input"].read(5) == b"first"
        gate.of("first part read").set()
        assert environ["wsgi.input"].read() == b"second"
        start_response("200 OK", [])
        yield b"one"
        gate.wait("first chunk seen")
        yield b"two"

    def body() -> Iterator[bytes]:
        yield b"first"
        gate.wait("first part read")
        yield b"second"

    with client(app).stream("POST", "/", content=body()) as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"one"
        gate.of("first chunk seen").set()
        assert b"".join(chunks) == b"two"


def test_clients_that_leave_their_responses_leave_no_thread_behind(
    served: Callable[..., BackgroundServer], connect: Callable[[BackgroundServer], httpx.Client]
) -> None:
    closed = threading.Semaphore(0)

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.release()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return endless() if environ["PATH_INFO"] == "/endless" else [b"here"]

    server = served(app, wsgi_threads=2)
    for _ in range(5):
        peer = connect(server)
        with peer.stream("GET", "/endless") as response:
            next(response.iter_raw())
        peer.close()
        assert closed.acquire(timeout=HANG)
    assert connect(server).get("/").content == b"here"


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    client: Callable[..., httpx.Client],
) -> None:
    gate, seen = Gate(), []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        gate.of("begun").set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            seen.append(error)
            raise
        finally:
            gate.of("ended").set()
        return []

    def body() -> Iterator[bytes]:
        yield b"a part"
        gate.wait("begun")
        raise RuntimeError("the client breaks off")

    peer = client(app)
    with pytest.raises(RuntimeError):
        peer.post("/", content=body())
    peer.close()
    gate.wait("ended")
    assert [type(error) for error in seen] == [ClientDisconnected]


def test_a_request_that_takes_too_long_gives_its_thread_back(
    served: Callable[..., BackgroundServer], connect: Callable[[BackgroundServer], httpx.Client]
) -> None:
    """Its chunks find nobody, and the thread is free for the next."""
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/late":
            gate.wait("answered")
        start_response("200 OK", [])
        for _ in range(100):
            yield b"x"

    server = served(app, wsgi_threads=1, response_timeout=1.0)
    peer = connect(server)
    assert peer.get("/late").status_code == 503
    gate.of("answered").set()
    assert len(peer.get("/").content) == 100
    server.errors.clear()


def test_a_body_that_does_not_come_gives_its_thread_back(
    served: Callable[..., BackgroundServer], connect: Callable[[BackgroundServer], httpx.Client]
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"here"]

    server = served(app, wsgi_threads=1, request_body_timeout=0.2)
    with server.connect("http/1.1") as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\npart")
        assert sock.recv(100).startswith(b"HTTP/1.1 408 ")
    assert connect(server).get("/").content == b"here"


def test_a_target_that_is_not_ascii_never_reaches_it(
    served: Callable[..., BackgroundServer],
) -> None:
    """a2wsgi decodes the query as ASCII."""
    server = served(flask_app())
    with server.connect("http/1.1") as sock:
        sock.sendall(b"GET /hello/x?q=\xff HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")


def _broken(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise LookupError("no such thing")


def _too_long(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"too long"] * 100


@pytest.mark.parametrize(
    ("app", "text"),
    [(_broken, "LookupError('no such thing')"), (_too_long, "longer than its content-length")],
)
def test_an_error_is_logged_once(
    served: Callable[..., BackgroundServer],
    connect: Callable[[BackgroundServer], httpx.Client],
    app: Any,
    text: str,
) -> None:
    server = served(app)
    assert connect(server).get("/").status_code == 500
    assert [text in line for line in server.errors] == [True]
    server.errors.clear()


def test_frameworks_log_their_errors_themselves(
    served: Callable[..., BackgroundServer],
    connect: Callable[[BackgroundServer], httpx.Client],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = served(flask_app())
    assert connect(server).get("/broken").status_code == 500
    assert server.errors == []
    assert caplog.text.count("LookupError: no such thing") == 1


def test_django(
    served: Callable[..., BackgroundServer],
    connect: Callable[[BackgroundServer], httpx.Client],
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "ROOT_URLCONF", __name__)
    server = served(get_wsgi_application())
    peer = connect(server)
    body = os.urandom(1_000_000)
    response = peer.post("/echo", content=body)
    assert (response.http_version, response.status_code) == (protocol, 200)
    assert response.headers["x-scheme"] == "https"
    assert response.content == body
    assert peer.get("/broken").status_code == 500
    assert server.errors == []


def test_websockets_are_refused(serve: Serve) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    server = serve(flask_app(), tls=False, interface="wsgi")
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://localhost:{server.port}/")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_the_command_stops_without_waiting_for_idle_threads(
    command: Callable[..., Command], lifespan: str
) -> None:
    server = command("apps.wsgi_app:app", "--interface", "wsgi", "--lifespan", lifespan, tls=False)
    assert httpx.get(server.url, trust_env=False).text == "Hello"
    server.terminate()
    assert server.wait() == 0
    assert not any("leaving threads" in line for line in server.output)
