"""The client of grpcio against an ASGI application that speaks gRPC, over TLS and mutual TLS."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import grpc_app, letters
from client_certificates import ClientAuthority
from serving import BackgroundServer

from h2asgi.protocol.engines import ENGINES

grpc: Any = pytest.importorskip("grpc")

LARGE = 4 * 1024 * 1024
Serve = Callable[..., BackgroundServer]


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> ClientAuthority:
    return ClientAuthority(tmp_path_factory.mktemp("clients"))


@pytest.fixture(params=ENGINES["http2"])
def engine(request: pytest.FixtureRequest) -> str:
    try:
        ENGINES["http2"][request.param]()
    except ImportError as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            pytest.fail(f"{error}, and H2ASGI_REQUIRE_NATIVE is set")
        pytest.skip(str(error))
    return str(request.param)


def connect(server: BackgroundServer, client_file: str | None = None) -> Any:
    """A channel to the server, with a client certificate if there is one."""
    assert server.certificate is not None
    client = Path(client_file).read_bytes() if client_file else None
    authority = Path(server.certificate.ca_file).read_bytes()
    credentials = grpc.ssl_channel_credentials(authority, client, client)
    options = [
        ("grpc.max_receive_message_length", 2 * LARGE),
        ("grpc.max_send_message_length", 2 * LARGE),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.secure_channel(f"localhost:{server.port}", credentials, options)


@pytest.fixture(params=["TLS", "mTLS"])
def channel(
    request: pytest.FixtureRequest, serve: Serve, engine: str, clients: ClientAuthority
) -> Iterator[Any]:
    options: dict[str, str] = {}
    client_file = None
    if request.param == "mTLS":
        options = {"ca_certs": clients.ca_file, "cert_reqs": "required"}
        client_file = clients["good"].file
    with connect(serve(grpc_app.app, http2_engine=engine, **options), client_file) as channel:
        yield channel


def test_the_application_sees_whose_certificate_it_is(channel: Any, request: Any) -> None:
    name = channel.unary_unary("/Echo/Who")(b"", timeout=letters.HANG)
    mutual = request.node.callspec.params["channel"] == "mTLS"
    assert name == (rb"CN=good\, client,OU=Clients,O=Example" if mutual else b"")


@pytest.mark.parametrize("kind", ["missing", "expired", "revoked", "foreign"])
def test_calls_without_a_good_certificate_reach_no_application(
    serve: Serve, engine: str, clients: ClientAuthority, kind: str
) -> None:
    called = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            called.append(scope["path"])

    options = {"ca_certs": clients.ca_file, "crl_file": clients.crl_file}
    server = serve(app, http2_engine=engine, cert_reqs="required", **options)
    client_file = None if kind == "missing" else clients[kind].file
    with connect(server, client_file) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/Echo/Who")(b"", timeout=letters.HANG)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert called == []


def test_unary_with_metadata_both_ways(channel: Any) -> None:
    reply, call = channel.unary_unary("/Echo/Reversed").with_call(
        b"hello", metadata=[("x-note", "remember")], timeout=letters.HANG
    )
    assert reply == b"olleh"
    assert call.code() is grpc.StatusCode.OK
    assert ("x-note", "remember") in call.initial_metadata()
    assert ("x-note-at-the-end", "remember") in call.trailing_metadata()


def test_messages_of_4_mb(channel: Any) -> None:
    message = os.urandom(LARGE)
    assert channel.unary_unary("/Echo/Reversed")(message, timeout=letters.HANG) == message[::-1]


def test_server_streaming(channel: Any) -> None:
    replies = channel.unary_stream("/Echo/Count")(b"1000", timeout=letters.HANG)
    assert list(replies) == [b"%d" % number for number in range(1000)]


def test_client_streaming(channel: Any) -> None:
    messages = (b"x" * size for size in range(1000))
    reply = channel.stream_unary("/Echo/Sum")(messages, timeout=letters.HANG)
    assert reply == b"1000 499500"


def test_bidirectional_streaming_in_step(channel: Any) -> None:
    """Each message is sent only when the one before it has come back."""
    turn = threading.Semaphore()

    def messages() -> Iterator[bytes]:
        for number in range(500):
            assert turn.acquire(timeout=letters.HANG)
            yield b"%d" % number

    received = []
    for reply in channel.stream_stream("/Echo/Each")(messages(), timeout=letters.HANG):
        received.append(reply)
        turn.release()
    assert received == [b"%d" % number for number in range(500)]


def test_bidirectional_streaming_of_many(channel: Any) -> None:
    messages = (b"%d" % number for number in range(5000))
    replies = channel.stream_stream("/Echo/Each")(messages, timeout=letters.HANG)
    assert list(replies) == [b"%d" % number for number in range(5000)]


def test_a_status_with_the_head_alone(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/Echo/Refuse")(b"", timeout=letters.HANG)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such thing"


def test_a_status_in_trailers_behind_a_message(channel: Any) -> None:
    replies = channel.unary_stream("/Echo/Break")(b"", timeout=letters.HANG)
    assert next(replies) == b"so far"
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "it broke"


def test_an_unknown_method(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/Echo/Nothing")(b"", timeout=letters.HANG)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["unary_stream", "stream_stream"])
def test_a_cancelled_call_is_a_disconnect(channel: Any, method: str) -> None:
    """RST_STREAM(CANCEL), before and after the client has ended its half."""
    key = os.urandom(8).hex()
    sent = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"x"
        sent.wait(letters.HANG)

    request = b"x" if method == "unary_stream" else messages()
    call = getattr(channel, method)("/Echo/Wait")(request, metadata=[("x-key", key)])
    assert next(call) == b"began"
    call.cancel()
    letters.wait(f"{key} left")
    sent.set()
    assert channel.unary_unary("/Echo/Reversed")(b"ab", timeout=letters.HANG) == b"ba"


def test_a_deadline_reaches_the_application_and_ends_the_call(channel: Any) -> None:
    key = os.urandom(8).hex()
    channel.unary_unary("/Echo/Reversed")(b"ab", timeout=letters.HANG)  # the connection is there
    call = channel.unary_stream("/Echo/Wait")(b"x", metadata=[("x-key", key)], timeout=2)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert letters.wait(f"{key} deadline")
    letters.wait(f"{key} left")


def test_many_calls_share_a_connection(channel: Any) -> None:
    method = channel.stream_unary("/Echo/Each")
    calls = [method.future(iter([b"%d" % number]), timeout=letters.HANG) for number in range(300)]
    assert [call.result() for call in calls] == [b"%d" % n for n in range(300)]
