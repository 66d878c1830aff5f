"""RFC 9218 over real sockets: one resource of a page that matters, and what a browser asks for."""

from __future__ import annotations

import asyncio
from itertools import groupby

import h2.events
import pytest
from h2client import H2Client
from test_browser import chromium

from h2asgi.protocol.http2.sender import Sender

MIB = 1024 * 1024
PIECE = bytes(64 * 1024)
WIDE = 2**31 - 1


async def download(scope, receive, send):
    """``/N``: N mebibytes in pieces."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["path"][1:]) * MIB // len(PIECE)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})


class Counting(H2Client):
    """Counts the octets of all DATA that came before each stream's end."""

    octets = 0

    def __init__(self, sock):
        self.at_end: dict[int, int] = {}
        super().__init__(sock, stream_window=WIDE, connection_window=WIDE)

    def _note(self, event):
        super()._note(event)
        if isinstance(event, h2.events.DataReceived):
            self.octets += len(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            self.at_end[event.stream_id] = self.octets


@pytest.mark.parametrize("priorities", [True, False])
def test_the_urgent_resource_of_a_page(serve, measured, priorities):
    """Asked for behind twenty others of the same size, it ends as if it were nearly alone."""
    server = serve(download, priorities=priorities)
    with Counting(server.connect("h2")) as client:
        client.flush, flush = lambda: None, client.flush  # all requests in one go
        others = [client.start("/2", headers=[("priority", "u=5")]) for _ in range(20)]
        urgent = client.start("/2", headers=[("priority", "u=0")])
        client.flush = flush
        client.flush()
        client.finish(urgent, *others)
    ratio = client.at_end[urgent] / (2 * MIB)
    measured(f"{ratio:.2f} times its size went until its end")
    if priorities:
        assert ratio <= 1.2
    else:
        assert ratio > 5


PAGE = b"""<!doctype html><title>h2asgi</title><pre id="result">waiting</pre><script>
const ended = element => new Promise(resolve => { element.onload = element.onerror = resolve; });
const image = name => { const one = new Image(); one.src = name; return ended(one); };
const style = document.createElement("link");
style.rel = "stylesheet"; style.href = "/style";
(async () => {
  const all = [image("/image1"), image("/image2"), fetch("/fetch").then(one => one.blob())];
  all.push(ended(style)); document.head.append(style);
  await Promise.all(all);
  document.getElementById("result").textContent = "all";
})();
</script>
"""
BODIES = {"/style": b"s", "/fetch": b"f", "/image1": b"1", "/image2": b"2"}


class Page:
    """The application: it answers when all four resources were asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.all_asked = asyncio.Event()

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        content_type, body = b"text/html", PAGE
        if path in BODIES:
            content_type = b"text/css" if path == "/style" else b"text/plain"
            body = BODIES[path] * MIB
            self.asked[path] = dict(scope["headers"]).get(b"priority", b"none").decode()
            if len(self.asked) == len(BODIES):
                # Later, so that no answer is ahead of the others.
                asyncio.get_running_loop().call_soon(self.all_asked.set)
            await self.all_asked.wait()
        headers = [(b"content-type", content_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.interpreted
@pytest.mark.tool("chromium")
def test_chromium_gets_what_it_asks_for_first(serve, tmp_path, monkeypatch, measured):
    """It says u=0 for the style sheet, u=1 for a fetch, and less for images, which take turns."""
    frames: list[bytes] = []
    write_data = Sender._write_data

    def note(self, stream, data, size, end_stream):
        if bytes(data[:1]) in BODIES.values():
            frames.append(bytes(data[:1]))
        write_data(self, stream, data, size, end_stream)

    monkeypatch.setattr(Sender, "_write_data", note)
    page = Page()
    document = chromium(serve(page), tmp_path, "--virtual-time-budget=20000")
    assert '<pre id="result">all</pre>' in document
    measured(f"asked for {page.asked}")
    runs = [f"{len(list(run))} {kind.decode()}" for kind, run in groupby(frames)]
    measured(f"DATA frames: {', '.join(runs[:8])} ...")
    images = [kind for kind in frames if kind in b"12"]
    assert frames == [b"s"] * 64 + [b"f"] * 64 + images
    # Chromium resets an image once it has seen that it is none.
    assert images[:8] in ([b"1", b"2"] * 4, [b"2", b"1"] * 4)
