"""The inspector in a real browser: what a page load looks like, filters, keyboard, exports."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from devtools import Browser, Tab, chromium
from har_rules import check_har
from serving import BackgroundServer
from test_browser import key_hash

pytestmark = pytest.mark.tool("chromium")

RESOURCES = 30
PICTURES = os.environ.get("H2ASGI_SCREENSHOTS")
"""Folder for pictures of the pages; without it none are kept."""

KINDS = ["style.css", "app.js", "photo.png", "data.json"]


def page() -> bytes:
    names = [f"/static/{n:02}-{KINDS[n % 4]}" for n in range(RESOURCES)]
    listed = json.dumps(names)
    script = (
        f"Promise.all({listed}.map(name => fetch(name + '?access_token=' + 'hunter2')"
        ".then(response => response.arrayBuffer())))"
        ".then(all => { document.title = 'loaded ' + all.length; })"
    )
    return f"<!doctype html><title>loading</title><h1>A page</h1><script>{script}</script>".encode()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    status, kind, body, pieces = 200, b"text/html", page(), 1
    if path.startswith("/static/"):
        number = int(path[8:10])
        kind = {
            "css": b"text/css", "js": b"text/javascript", "png": b"image/png",
            "json": b"application/json",
        }[path.rpartition(".")[2]]  # fmt: skip
        status = 404 if number == 17 else 500 if number == 26 else 200
        await asyncio.sleep(0.01 + 0.012 * (number * 7 % 11))
        body, pieces = b"x" * (700 + 900 * number), 1 + number % 4
    elif path == "/favicon.ico":
        status, body = 204, b""
    headers = [(b"content-type", kind), (b"set-cookie", b"session=hunter2"), (b"etag", b'"1"')]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in range(pieces):
        await send({"type": "http.response.body", "body": body, "more_body": piece + 1 < pieces})
        await asyncio.sleep(0.02 if pieces > 1 else 0)


class Inspected:
    """A server, its inspector in one tab of a browser, and another tab for its pages."""

    def __init__(self, server: BackgroundServer, browser: Browser) -> None:
        self.url = server.url
        host, port = server.inspector
        self.inspector_url = f"http://{host}:{port}"
        self.view: Tab = browser.tab()
        self.view.goto(self.inspector_url + "/")
        self.view.until("document.querySelector('#status').dataset.state == 'live'")
        self.page: Tab = browser.tab()

    def load(self) -> None:
        self.page.goto(self.url + "/")
        self.page.until(f"document.title == 'loaded {RESOURCES}'")
        self.view.until(f"{rows('/static/')}.length == {RESOURCES} && !{open_rows()}")


def rows(text: str) -> str:
    return (
        "[...document.querySelectorAll('#waterfall tbody tr')]"
        f".filter(row => row.textContent.includes('{text}'))"
    )


def open_rows() -> str:
    return f"{rows('…')}.length"


@pytest.fixture
def inspected(serve, tmp_path):
    server = serve(app, inspect="127.0.0.1:0")
    trusted = f"--ignore-certificate-errors-spki-list={key_hash(server.certificate)}"
    with chromium(tmp_path / "profile", trusted) as browser:
        yield Inspected(server, browser)


def test_a_page_and_its_resources_are_seen_filtered_and_exported(inspected):
    inspected.load()
    view = inspected.view
    bars = view.evaluate(
        f"{rows('/static/')}.map(row => row.querySelector('.bar .body').getBoundingClientRect())"
        ".filter(box => box.width > 0 && box.left > 0).length"
    )
    assert bars == RESOURCES
    assert view.evaluate("document.querySelector('#waterfall caption').textContent")
    assert view.evaluate("document.body.textContent").count("hunter2") == 0
    take_pictures(inspected)

    def filtered(field: str, value: str) -> int:
        view.evaluate(
            f"(() => {{ const field = document.querySelector('#{field}'); field.value = '{value}';"
            " field.dispatchEvent(new Event('input')); })()"
        )
        return int(view.evaluate("document.querySelectorAll('#waterfall tbody tr').length"))

    assert filtered("filter-text", "png") == len([n for n in range(RESOURCES) if n % 4 == 2])
    assert filtered("filter-text", "/static/") == RESOURCES
    assert filtered("filter-status", "4") == 1
    assert filtered("filter-status", "5") == 1
    filtered("filter-status", "")
    filtered("filter-text", "")
    check_exports(inspected)
    view.evaluate("document.querySelector('#clear').click()")
    view.until("document.querySelectorAll('#waterfall tbody tr').length == 0")


def check_exports(inspected: Inspected) -> None:
    har, log = (
        inspected.view.evaluate(f"fetch(document.querySelector('{link}').href).then(r => r.text())")
        for link in ("#export-har", "#export-frames")
    )
    assert "hunter2" not in har + log
    archive, frame_log = json.loads(har), json.loads(log)
    check_har(archive)
    static = [e for e in archive["log"]["entries"] if "/static/" in e["request"]["url"]]
    assert len(static) == RESOURCES
    assert {entry["request"]["httpVersion"] for entry in static} == {"HTTP/2"}
    assert sorted({entry["response"]["status"] for entry in static}) == [200, 404, 500]
    frames = frame_log["frames"]
    heads = [f for f in frames if f["type"] == "HEADERS" and f["direction"] == "in"]
    assert len(heads) > RESOURCES
    assert all([":method", "GET"] in frame["fields"] for frame in heads)
    (connection,) = [c for c in frame_log["connections"] if c["requests"] > RESOURCES]
    assert connection["tls"]["alpn"] == "h2"
    for block, fields in connection["hpack"].values():
        assert 0 < block < fields


def test_everything_is_reached_by_the_keyboard(inspected):
    inspected.load()
    view = inspected.view
    view.evaluate("document.querySelector('#waterfall tbody button').focus()")
    view.press("Enter")
    assert view.evaluate("document.activeElement.id") == "details"
    assert "Request fields" in view.evaluate("document.querySelector('#details').textContent")
    view.press("Escape")
    assert view.evaluate("document.querySelector('#details').hidden")
    assert view.evaluate("document.activeElement.closest('#waterfall') !== null"), "focus is back"
    view.evaluate("document.querySelector('[role=tab][aria-selected=true]').focus()")
    view.press("ArrowRight")
    view.until("document.querySelectorAll('#frame-table tbody tr').length > 30")
    view.press("ArrowRight")
    view.until(
        "document.querySelector('#connection-list article .chart polyline[points]') !== null"
    )
    assert view.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    unnamed = view.evaluate(
        "[...document.querySelectorAll('button, a, select, input')].filter(one =>"
        " !(one.textContent.trim() || one.labels?.length)).length"
    )
    assert unnamed == 0


def test_no_policy_is_violated_and_no_error_thrown(inspected):
    view = inspected.view
    view.evaluate(
        "window.complaints = []; for (const kind of ['securitypolicyviolation', 'error',"
        " 'unhandledrejection']) window.addEventListener(kind,"
        " event => complaints.push(kind + ' ' + (event.message ?? event.reason ?? '')), true);"
    )
    inspected.load()
    for tab in ("frames", "connections", "requests"):
        view.evaluate(f"document.querySelector('#tab-{tab}').click()")
    view.evaluate("document.querySelector('#waterfall tbody button').click()")
    view.until("!document.querySelector('#details').hidden")
    assert view.evaluate("complaints") == []


def take_pictures(inspected: Inspected) -> None:
    if PICTURES is None:
        return
    folder, view = Path(PICTURES), inspected.view
    for scheme in ("light", "dark"):
        view.evaluate("document.querySelector('#tab-requests').click()")
        view.screenshot(folder / f"inspector-{scheme}.png", scheme=scheme)
        view.evaluate(f"{rows('/static/13')}[0].querySelector('button').click()")
        view.screenshot(folder / f"inspector-details-{scheme}.png", scheme=scheme)
        view.evaluate("document.querySelector('#details .close').click()")
        for tab in ("frames", "connections"):
            view.evaluate(f"document.querySelector('#tab-{tab}').click()")
            view.screenshot(folder / f"inspector-{tab}-{scheme}.png", scheme=scheme)
        view.evaluate("document.querySelector('#tab-requests').click()")
