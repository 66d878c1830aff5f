"""FastAPI, Starlette, Django, Quart and Litestar: clients that leave, and work that goes on."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from apps import letters
from h2client import H2Client
from serving import BackgroundServer

# Django leaves the body of a request that was aborted to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning"
)


@pytest.fixture(autouse=True)
def _collected_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def _wait_for_the_generator(key: str) -> None:
    """A framework that stops between two events leaves the generator to the garbage collector."""
    deadline = time.monotonic() + letters.HANG
    while not letters.posted(f"{key} ended"):
        assert time.monotonic() < deadline, "the generator lives on"
        gc.collect()
        time.sleep(0.01)


def test_background_task_neither_delays_the_answer_nor_is_lost(
    client: httpx.Client, key: str
) -> None:
    response = client.get("/background", params={"key": key})
    assert "accepted" in response.text
    # The answer is here while the task still waits for this:
    assert not letters.posted(f"{key} done")
    letters.post(f"{key} go on")
    letters.wait(f"{key} done")


def test_leaving_ends_server_sent_events(client: httpx.Client, key: str) -> None:
    """Field note 15, for a connection that is closed."""
    with client.stream("GET", "/events", params={"key": key}) as response:
        events = response.iter_text()  # kept: httpx leaves as soon as it is dropped
        assert next(events).startswith("data: tick")
        assert not letters.posted(f"{key} ended")
    client.close()
    _wait_for_the_generator(key)


def test_reset_ends_server_sent_events(framework: BackgroundServer, key: str) -> None:
    """Field note 15: RST_STREAM alone, the connection stays and serves on."""
    with H2Client(framework.connect("h2")) as client:
        stream_id = client.start(f"/events?key={key}")
        client.read_until(lambda: client.responses[stream_id].body)
        client.reset(stream_id)
        _wait_for_the_generator(key)
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200


def test_leaving_during_a_long_request_is_noticed(
    framework: BackgroundServer, protocol: str, key: str
) -> None:
    sock = framework.connect("h2" if protocol == "HTTP/2" else "http/1.1")
    if protocol == "HTTP/2":
        H2Client(sock).start(f"/wait?key={key}")
    else:
        sock.sendall(b"GET /wait?key=%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % key.encode())
    letters.wait(f"{key} began")
    assert not letters.posted(f"{key} ended")
    sock.close()
    letters.wait(f"{key} ended")


def test_reset_during_a_long_request_is_noticed(framework: BackgroundServer, key: str) -> None:
    """Field note 15."""
    with H2Client(framework.connect("h2")) as client:
        stream_id = client.start(f"/wait?key={key}")
        letters.wait(f"{key} began")
        client.reset(stream_id)
        letters.wait(f"{key} ended")
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200
