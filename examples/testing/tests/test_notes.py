from __future__ import annotations

import httpx
import pytest
from websockets.asyncio.client import connect

from h2asgi.testing import LiveServer


def test_notes_are_kept(h2asgi_client: httpx.Client) -> None:
    assert h2asgi_client.post("/notes", content=b"milk").status_code == 201
    response = h2asgi_client.get("/notes")
    assert response.http_version == "HTTP/2"
    assert response.json() == {"notes": ["milk"], "http_version": "2"}


def test_each_test_has_a_lifespan_of_its_own(h2asgi_client: httpx.Client) -> None:
    assert h2asgi_client.get("/notes").json()["notes"] == []


async def test_in_asyncio(h2asgi_server: LiveServer) -> None:
    async with h2asgi_server.async_client() as client:
        response = await client.get("/notes")
    assert response.http_version == "HTTP/2"


@pytest.mark.parametrize("count", [1, 2])
def test_one_server_for_all_tests(h2asgi_session_server: LiveServer, count: int) -> None:
    with h2asgi_session_server.client(http2=False) as client:
        response = client.post("/notes", content=b"bread")
    assert response.http_version == "HTTP/1.1"
    assert response.json() == count


async def test_a_websocket(h2asgi_server: LiveServer) -> None:
    url = h2asgi_server.websocket_url + "/live"
    async with connect(url, ssl=h2asgi_server.ssl_context()) as websocket:
        await websocket.send("quiet")
        assert await websocket.recv() == "QUIET"


def test_what_breaks_is_answered(h2asgi_client: httpx.Client) -> None:
    assert h2asgi_client.get("/broken").status_code == 500
