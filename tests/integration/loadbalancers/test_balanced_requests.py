"""Requests through each load balancer, as its recipe configures it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from apps import letters
from apps.letters import HANG
from balanced_app import EVENTS
from balancers import RECIPES, Site, with_recipes
from benchmarks.load import parse
from h2client import H2Client

MEBIBYTE = 1024 * 1024

pytestmark = with_recipes(*RECIPES)


@pytest.fixture
def client(site: Site, protocol: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=site.balancer.url,
        verify=site.balancer.certificate.client_context(),
        http2=protocol == "HTTP/2",
        timeout=HANG,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture
def key() -> str:
    return os.urandom(8).hex()


def test_get(site: Site, client: httpx.Client, protocol: str) -> None:
    response = client.get("/hello")
    assert (response.status_code, response.http_version) == (200, protocol)
    assert response.json() == {"http_version": site.recipe.version}


def test_the_application_sees_the_host_that_the_client_asked_for(client: httpx.Client) -> None:
    assert f"(b'host', b'localhost:{client.base_url.port}')" in client.get("/scope").text


def test_post_of_10_mb(client: httpx.Client) -> None:
    body = os.urandom(10 * MEBIBYTE)
    digest = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert client.post("/digest", content=body).json() == digest


def test_10_mb_up_and_down_at_once(site: Site) -> None:
    """The client reads the echo as it comes, and sends what its windows allow meanwhile."""
    if not site.recipe.full_duplex:
        pytest.skip("it deadlocks, as docs/deploy/haproxy.md says")
    body = os.urandom(10 * MEBIBYTE)
    with H2Client(site.balancer.connect("h2"), connection_window=MEBIBYTE) as client:
        stream_id = client.start("/echo", "POST", end_stream=False)
        client.upload(stream_id, body)
        (response,) = client.finish(stream_id)
    assert (response.status, response.ended) == (200, True)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_both_ways_in_step(site: Site) -> None:
    """Each piece of the request is sent only when the one before it has come back."""
    with H2Client(site.balancer.connect("h2")) as client:
        stream_id = client.start("/echo", "POST", end_stream=False)
        for number in range(1, 11):
            client.send(stream_id, b"0123456789")
            response = client.responses[stream_id]
            client.read_until(lambda n=number, r=response: len(r.body) == 10 * n or r.over)
            assert not response.over
        client.h2.end_stream(stream_id)
        client.flush()
        (response,) = client.finish(stream_id)
    assert (response.body, response.ended) == (b"0123456789" * 10, True)


def test_server_sent_events_arrive_as_they_are_sent(client: httpx.Client, key: str) -> None:
    """The application sends the next one only when the one before it has been seen."""
    letters.post(f"{key} go on 0")
    received = ""
    with client.stream("GET", f"/events?key={key}") as response:
        for text in response.iter_text():
            received += text
            letters.post(f"{key} go on {received.count('data: ')}")
    assert received == "".join(f"data: {number}\n\n" for number in range(EVENTS))


def _waiting(site: Site, key: str) -> str:
    """Apache finds out when it has something to send."""
    return f"/wait?key={key}" + ("" if site.recipe.notices else "&ticks")


def test_the_application_sees_a_request_that_is_reset(site: Site, key: str) -> None:
    """RST_STREAM of the client is a disconnect at the other end; its connection lives on."""
    with H2Client(site.balancer.connect("h2")) as client:
        stream_id = client.start(_waiting(site, key))
        client.read_until(lambda: client.responses[stream_id].body[:5] == b"begun")
        client.reset(stream_id)
        letters.wait(f"{key} left")
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200


def test_the_application_sees_a_client_that_leaves(site: Site, protocol: str, key: str) -> None:
    with site.balancer.connect("h2" if protocol == "HTTP/2" else "http/1.1") as sock:
        if protocol == "HTTP/2":
            client = H2Client(sock)
            stream_id = client.start(_waiting(site, key))
            client.read_until(lambda: client.responses[stream_id].body[:5] == b"begun")
        else:
            sock.sendall(f"GET {_waiting(site, key)} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            received = b""
            while b"begun" not in received:
                received += sock.recv(65_536)
    letters.wait(f"{key} left")


@pytest.mark.tool("h2load")
@pytest.mark.parametrize("load", [("-c10", "-m10"), ("--h1", "-c20")], ids=["h2", "h1"])
def test_h2load_sees_no_failure(site: Site, load: tuple[str, ...]) -> None:
    requests = 2000
    done = subprocess.run(
        ["h2load", f"-n{requests}", *load, f"{site.balancer.url}/hello"],
        capture_output=True, timeout=HANG, check=False, text=True,
    )  # fmt: skip
    outcome = parse(done.stdout)
    assert (outcome.succeeded, outcome.failed) == (requests, 0), done.stdout
