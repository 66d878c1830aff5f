"""A real browser: a page with a parallel burst of requests, an upload and server-sent events."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from browser import document
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from serving import BackgroundServer, Certificate

PAGE = b"""<!doctype html><title>h2asgi</title><pre id="result">waiting</pre><script>
const text = (path, init) => fetch(path, init).then(response => response.text());
const events = new Promise(resolve => {
  const source = new EventSource("/events");
  source.onmessage = event => { source.close(); resolve(event.data); };
});
(async () => {
  const parallel = await Promise.all([...Array(50).keys()].map(n => text("/echo/" + n)));
  const upload = await text("/size", {method: "POST", body: new Blob(["x".repeat(1048576)])});
  const [page] = performance.getEntriesByType("navigation");
  document.getElementById("result").textContent = [
    page.nextHopProtocol, new Set(parallel).size, upload, await events, await text("/version"),
  ].join(" ");
})();
</script>
"""


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    content_type, body = b"text/plain", scope["path"].encode()
    if scope["path"] == "/":
        content_type, body = b"text/html", PAGE
    elif scope["path"] == "/version":
        body = scope["http_version"].encode()
    elif scope["path"] == "/events":
        content_type, body = b"text/event-stream", b"data: event\n\n"
    elif scope["path"] == "/size":
        size, more_body = 0, True
        while more_body:
            message = await receive()
            size += len(message.get("body", b""))
            more_body = message.get("more_body", False)
        body = str(size).encode()
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def key_hash(certificate: Certificate) -> str:
    """What Chromium takes to trust one key, without touching its certificate store."""
    leaf = x509.load_pem_x509_certificate(Path(certificate.certfile).read_bytes())
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def chromium(server: BackgroundServer, folder: Path, *options: str) -> str:
    """Open the server's page, give its document once it is loaded."""
    assert server.certificate is not None
    trusted = f"--ignore-certificate-errors-spki-list={key_hash(server.certificate)}"
    return document(server.url + "/", folder, trusted, *options)


@pytest.mark.tool("chromium")
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "h2 50 1048576 event 2"), ({"http2": False}, "http/1.1 50 1048576 event 1.1")],
    ids=["HTTP/2", "HTTP/1.1"],
)
def test_chromium(serve, tmp_path, options, expected):
    server = serve(app, **options)
    # Time that stands still while anything is being fetched: the page fetches when it is loaded.
    page = chromium(server, tmp_path, "--virtual-time-budget=20000")
    assert f'<pre id="result">{expected}</pre>' in page
