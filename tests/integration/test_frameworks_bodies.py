"""FastAPI, Starlette, Django, Quart and Litestar: bodies in both directions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
from apps import content

MIB = 1024 * 1024


def test_form(client: httpx.Client) -> None:
    fields = {"first": "a b&c", "second": "grüße ☃"}
    response = client.post("/form", data=fields)
    assert response.status_code == 200
    assert response.json() == fields


def test_multipart_upload_of_a_mebibyte(client: httpx.Client) -> None:
    data = os.urandom(MIB)
    response = client.post(
        "/upload",
        data={"note": "ünïcode"},
        files={"file": ("random.bin", data, "application/octet-stream")},
    )
    assert response.status_code == 200
    assert response.json() == {
        "note": "ünïcode",
        "filename": "random.bin",
        "size": MIB,
        "sha256": content.sha256(data),
    }


def test_upload_of_unknown_length(client: httpx.Client) -> None:
    """Chunked on HTTP/1.1, plain DATA on HTTP/2; more than all windows together."""

    def body() -> Iterator[bytes]:
        for number in range(60):
            yield content.piece(number)

    response = client.post("/stream-up", content=body())
    assert response.json() == {
        "size": 60 * content.PIECE_SIZE,
        "sha256": content.sha256(content.pieces(60)),
    }


def test_upload_without_a_body(client: httpx.Client) -> None:
    """Field note 22."""
    response = client.post("/stream-up")
    assert response.json() == {"size": 0, "sha256": content.sha256(b"")}


def test_download_of_unknown_length(client: httpx.Client) -> None:
    """Field note 3: the end of the body is told."""
    response = client.get("/stream-down", params={"count": 60})
    assert response.status_code == 200
    assert content.sha256(response.content) == content.sha256(content.pieces(60))


def test_download_of_nothing(client: httpx.Client) -> None:
    """Field note 3."""
    response = client.get("/stream-down", params={"count": 0})
    assert response.status_code == 200
    assert response.content == b""
