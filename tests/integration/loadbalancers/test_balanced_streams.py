"""WebSockets and gRPC through each load balancer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import letters
from apps.letters import HANG
from balancers import RECIPES, Site, with_recipes
from h2client import H2Client
from wsclient import H1WebSocket, H2WebSocket, WebSocketClient
from wsproto.events import CloseConnection

grpc: Any = pytest.importorskip("grpc")


def _echo(websocket: WebSocketClient, site: Site) -> None:
    told = json.loads(websocket.receive())
    assert told["http_version"] == site.recipe.websocket
    for message in ("text ✓", b"binary", os.urandom(300_000)):
        websocket.send(message)
        assert websocket.receive() == message
    websocket.send("close")
    assert websocket.receive() == CloseConnection(code=4000, reason="as asked")


@with_recipes(*RECIPES)
def test_websocket_of_an_http1_client(site: Site) -> None:
    with site.balancer.connect("http/1.1") as sock:
        _echo(H1WebSocket(sock, "/scope"), site)


@with_recipes(*(recipe for recipe in RECIPES if recipe.program in ("haproxy", "envoy")))
def test_websocket_of_an_http2_client(site: Site) -> None:
    """RFC 8441 on both sides; the others do not offer it to their clients."""
    with H2Client(site.balancer.connect("h2")) as client:
        websocket = H2WebSocket(client, "/scope")
        assert websocket.accepted()
        _echo(websocket, site)


@pytest.fixture
def channel(site: Site) -> Iterator[Any]:
    ca = Path(site.balancer.certificate.ca_file).read_bytes()
    target = f"localhost:{site.balancer.port}"
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(ca), options) as channel:
        yield channel


@with_recipes(*RECIPES)
class TestGRPC:
    def test_unary_with_metadata_both_ways(self, channel: Any) -> None:
        reply, call = channel.unary_unary("/Echo/Reversed").with_call(
            b"hello", metadata=[("x-note", "remember")], timeout=HANG
        )
        assert (reply, call.code()) == (b"olleh", grpc.StatusCode.OK)
        assert ("x-note", "remember") in call.initial_metadata()
        assert ("x-note-at-the-end", "remember") in call.trailing_metadata()

    def test_streaming_in_each_direction(self, channel: Any) -> None:
        replies = channel.unary_stream("/Echo/Count")(b"1000", timeout=HANG)
        assert list(replies) == [b"%d" % number for number in range(1000)]
        messages = (b"x" * size for size in range(1000))
        reply = channel.stream_unary("/Echo/Sum")(messages, timeout=HANG)
        assert reply == b"1000 499500"

    def test_streaming_in_both_directions(self, channel: Any) -> None:
        messages = (b"%d" % number for number in range(1000))
        replies = channel.stream_stream("/Echo/Each")(messages, timeout=HANG)
        assert list(replies) == [b"%d" % number for number in range(1000)]

    def test_statuses_with_and_without_a_body(self, channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/Echo/Refuse")(b"", timeout=HANG)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as broken:
            list(channel.unary_stream("/Echo/Break")(b"", timeout=HANG))
        assert broken.value.code() is grpc.StatusCode.INTERNAL

    def test_a_cancelled_call_is_a_disconnect(self, channel: Any, site: Site) -> None:
        if not site.recipe.notices:
            pytest.skip("it finds out when there is something to send")
        key = os.urandom(8).hex()
        call = channel.unary_stream("/Echo/Wait")(b"x", metadata=[("x-key", key)])
        assert next(call) == b"began"
        call.cancel()
        letters.wait(f"{key} left")
