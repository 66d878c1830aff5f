"""The application behind ``--inspect``: a page, what it is told, and what it exports."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from .._version import __version__
from ..asgi.scope import Receive, Scope, Send
from . import har
from .access import Access
from .news import News
from .recorder import TICK, Recorder

logger = logging.getLogger("h2asgi")

MAX_VIEWERS: Final = 4
"""Pages that are open at once: each has everything encoded for itself."""

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_FIELDS: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

_FILES: Final = {
    "/": "index.html",
    "/style.css": "style.css",
    "/inspector.js": "inspector.js",
    "/requests.js": "requests.js",
    "/frames.js": "frames.js",
    "/connections.js": "connections.js",
    "/dom.js": "dom.js",
    "/icon.svg": "icon.svg",
}


class Inspector:
    """The ASGI application. ``stopping`` ends the streams of events."""

    def __init__(self, recorder: Recorder, access: Access) -> None:
        self._recorder = recorder
        self._access = access
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method, path = scope["method"], scope["path"]
        refusal = self._access.refusal(method, path, dict(scope["headers"]))
        if refusal is not None:
            logger.debug("inspector: %s %s: %s", method, path, refusal)
            await _respond(send, 403, b"text/plain", refusal.encode() + b"\n")
        elif path == "/api/clear" and method == "POST":
            self._recorder.clear()
            await _respond(send, 204, b"text/plain", b"")
        elif method not in ("GET", "HEAD"):
            await _respond(send, 405, b"text/plain", b"GET alone\n")
        elif path in _FILES:
            await self._file(send, _FILES[path])
        elif path == "/api/events" and method == "GET":
            await self._events(receive, send)
        elif path == "/api/requests.har":
            recorder = self._recorder
            content = har.archive(recorder.streams, recorder.wall_epoch, recorder.epoch)
            await _export(send, "requests.har", content)
        elif path == "/api/frames.json":
            await _export(send, "frames.json", self._frame_log())
        else:
            await _respond(send, 404, b"text/plain", b"no such page\n")

    async def _file(self, send: Send, name: str) -> None:
        content = files(__package__).joinpath("static", name).read_bytes()
        await _respond(send, 200, _TYPES[name.rpartition(".")[2]], content)

    def _frame_log(self) -> dict[str, Any]:
        recorder = self._recorder
        return {
            "creator": {"name": "h2asgi inspector", "version": __version__},
            "began": recorder.wall_epoch,
            "skipped": recorder.skipped_frames,
            "connections": [one.as_json(recorder.epoch) for one in recorder.connections],
            "frames": [one.as_json(recorder.epoch) for one in recorder.frames],
        }

    # What a viewer is told.

    async def _events(self, receive: Receive, send: Send) -> None:
        recorder = self._recorder
        if recorder.viewers >= MAX_VIEWERS:
            await _respond(send, 503, b"text/plain", b"too many pages are open\n")
            return
        recorder.join()
        woken = asyncio.Event()
        gone = asyncio.ensure_future(_until_gone(receive))
        gone.add_done_callback(lambda _: woken.set())
        stopping = asyncio.ensure_future(self.stopping.wait())
        stopping.add_done_callback(lambda _: woken.set())
        try:
            fields = [(b"content-type", b"text/event-stream"), *_FIELDS]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await self._tell(send, woken)
        except OSError:
            pass  # the viewer is gone
        finally:
            gone.cancel()
            stopping.cancel()
            recorder.leave()

    async def _tell(self, send: Send, woken: asyncio.Event) -> None:
        news = News(self._recorder)
        while not woken.is_set():
            if text := news.take():
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await woken.wait()
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _export(send: Send, name: str, content: dict[str, Any]) -> None:
    disposition = f'attachment; filename="h2asgi-{name}"'.encode()
    body = json.dumps(content, indent=1).encode()
    await _respond(send, 200, b"application/json", body, [(b"content-disposition", disposition)])


async def _respond(
    send: Send, status: int, kind: bytes, body: bytes, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    fields = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        *_FIELDS,
        *(more or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
