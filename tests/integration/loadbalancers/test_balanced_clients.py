"""Who the client is, behind each load balancer: by fields of HTTP, and by the PROXY protocol."""

from __future__ import annotations

import ast
import socket
from collections.abc import Callable, Iterator
from typing import Any

import balanced_app
import pytest
from apps.letters import HANG
from balancers import (
    PASSTHROUGH,
    RECIPES,
    Balancer,
    HAProxy,
    Recipe,
    Site,
    instance_options,
    with_recipes,
)
from h2client import H2Client
from serving import BackgroundServer, Certificate

CLIENT = "127.0.0.2"
"""Another address than the load balancer's, which is the one that is believed."""

SPOOFS = [
    ("x-forwarded-for", "192.0.2.66"),
    ("x-forwarded-proto", "gopher"),
    ("forwarded", "for=192.0.2.66;proto=gopher"),
]


def _scope(balancer: Balancer, *, version: str) -> dict[str, Any]:
    """Ask for the scope from CLIENT, with fields that lie."""
    context = balancer.certificate.client_context("h2" if version == "2" else "http/1.1")
    address = ("127.0.0.1", balancer.port)
    sock = socket.create_connection(address, timeout=HANG, source_address=(CLIENT, 0))
    with context.wrap_socket(sock, server_hostname="localhost") as tls:
        if version == "2":
            client = H2Client(tls)
            (response,) = client.finish(client.start("/scope", headers=SPOOFS))
            return ast.literal_eval(response.body.decode())
        fields = "".join(f"{name}: {value}\r\n" for name, value in SPOOFS)
        request = f"GET /scope HTTP/1.1\r\nhost: localhost\r\n{fields}connection: close\r\n\r\n"
        tls.sendall(request.encode())
        body = b"".join(iter(lambda: tls.recv(65_536), b"")).partition(b"\r\n\r\n")[2]
        return ast.literal_eval(body[body.index(b"{") : body.rindex(b"}") + 1].decode())


@pytest.mark.parametrize("version", ["2", "1.1"])
@with_recipes(*RECIPES)
def test_the_application_sees_the_client_by_forwarded_fields(site: Site, version: str) -> None:
    """X-Forwarded-For, or RFC 7239; what the client says of itself is not believed."""
    scope = _scope(site.balancer, version=version)
    assert scope["client"][0] == CLIENT
    assert scope["scheme"] == "https"


@pytest.fixture
def proxied(
    balance: Callable[..., HAProxy], certificate: Certificate
) -> Iterator[Callable[..., HAProxy]]:
    """A recipe in front of an instance that asks for the PROXY protocol."""
    origins: list[BackgroundServer] = []

    def start(recipe: Recipe, values: dict[str, str]) -> HAProxy:
        options = instance_options(proxy_protocol=True, forwarded=None)
        origin = BackgroundServer(balanced_app.app, certificate if recipe.tls else None, options)
        origin.start()
        origins.append(origin)
        return balance(recipe, [origin.port], values)

    yield start
    for origin in origins:
        origin.stop()
        assert origin.errors == []


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
@with_recipes(PASSTHROUGH)
def test_the_application_sees_the_client_by_the_proxy_protocol_before_its_own_tls(
    recipe: Recipe, header: str, proxied: Callable[..., HAProxy]
) -> None:
    """Versions 1 and 2; health checks have the header too, or nothing would be answered."""
    balancer = proxied(recipe, {"send-proxy-v2 ": header + " "})
    for version in ("2", "1.1"):
        scope = _scope(balancer, version=version)
        assert (scope["client"][0], scope["http_version"]) == (CLIENT, version)
        assert scope["server"][1] == balancer.port
    balancer.wait_for_checks("L7OK", "L7OK")


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2-ssl"])
@with_recipes(*(recipe for recipe in RECIPES if recipe.program == "haproxy"))
def test_the_application_sees_the_client_by_the_proxy_protocol_and_http2(
    recipe: Recipe, header: str, proxied: Callable[..., HAProxy]
) -> None:
    """Over TLS and in the clear; HAProxy keeps the connections of its clients apart."""
    values = {"default-server ": f"default-server {header} check-send-proxy "}
    balancer = proxied(recipe, values)
    for version in ("2", "1.1"):
        scope = _scope(balancer, version=version)
        assert (scope["client"][0], scope["http_version"]) == (CLIENT, "2")
        if recipe.tls or header.endswith("ssl"):
            assert scope["scheme"] == "https"
    balancer.wait_for_checks("L7OK", "L7OK")
