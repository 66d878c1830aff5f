"""A headless Chromium that a test drives: the few commands of its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.letters import HANG
from websockets.sync.client import ClientConnection, connect

POLL = 0.05


class Tab:
    """One page. What it has to say by itself is not listened to."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._ids = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return call(self._socket, next(self._ids), method, parameters, self._session)

    def evaluate(self, expression: str) -> Any:
        """Give the value of JavaScript, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, what: str = "") -> Any:
        """Give the value of JavaScript as soon as it is true: a page says no other way."""
        end = time.monotonic() + HANG
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, what or expression
            time.sleep(POLL)
        return value

    def goto(self, url: str) -> None:
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({url!r}) && document.readyState == 'complete'")

    def press(self, key: str) -> None:
        code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "Tab": 9}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def screenshot(self, path: Path, *, scheme: str, width: int = 1280, height: int = 800) -> None:
        self.call("Page.bringToFront")
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 600)))")
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def call(
    socket: ClientConnection,
    number: int,
    method: str,
    parameters: dict[str, Any],
    session: str | None = None,
) -> dict[str, Any]:
    message = {"id": number, "method": method, "params": parameters}
    if session is not None:
        message["sessionId"] = session
    socket.send(json.dumps(message))
    while True:
        answer = json.loads(socket.recv(HANG))
        if answer.get("id") == number and answer.get("sessionId") == session:
            assert "error" not in answer, answer["error"]
            return dict(answer["result"])


class Browser:
    """A running Chromium."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return call(self._socket, next(self._ids), method, parameters)

    def tab(self) -> Tab:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Tab(self._socket, session)


@contextlib.contextmanager
def chromium(folder: Path, *options: str) -> Iterator[Browser]:
    """Start one with a profile in ``folder``, and end it."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={folder}",
        "--remote-debugging-port=0", *options, "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        file = folder / "DevToolsActivePort"
        end = time.monotonic() + HANG
        while not (file.exists() and len(lines := file.read_text().split()) == 2):
            assert process.poll() is None
            assert time.monotonic() < end, "Chromium does not start"
            time.sleep(POLL)
        port, path = lines
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=2**26, proxy=None) as socket:
            browser = Browser(socket)
            yield browser
            with contextlib.suppress(Exception):
                browser.call("Browser.close")
    finally:
        try:
            process.wait(HANG / 3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
