"""--reload under a browser, with a development certificate that it trusts."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from apps.letters import HANG
from browser import document
from serving import Command, without_options

APPLICATION = """
import pathlib

VERSION = 1
PAGE = b'''<!doctype html><title>reload</title><pre id="result">waiting</pre><script>
const ask = path => fetch(path).then(response => response.text());
(async () => {
  let seen = [], failed = 0;
  for (let round = 0; round < 2000 && seen.at(-1) !== "2"; round++) {
    await new Promise(resolve => setTimeout(resolve, 5));
    try {
      const version = await ask(round === 10 ? "/save" : "/version");
      if (version !== seen.at(-1)) seen.push(version);
    } catch (error) { failed++; }
  }
  const [page] = performance.getEntriesByType("navigation");
  document.getElementById("result").textContent =
    [page.nextHopProtocol, "saw", ...seen, "failed", failed].join(" ");
})();
</script>'''


async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"cache-control", b"no-store"), (b"content-type", b"text/html")]
    if scope["path"] == "/save":
        file = pathlib.Path(__file__)
        beside = file.with_suffix(".new")
        beside.write_text(file.read_text().replace("VERSION = 1", "VERSION = 2"))
        beside.rename(file)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = PAGE if scope["path"] == "/" else str(VERSION).encode()
    await send({"type": "http.response.body", "body": body})
"""


class Connecting:
    """Somebody who makes one connection after the other meanwhile, and notes what goes wrong."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.answers: list[str] = []
        self.failures: list[Exception] = []
        self._url = url
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._connect)

    def _connect(self) -> None:
        last = False
        while not last:
            last = self._over.is_set()  # one more, from then on
            try:
                # Over HTTP/1.1: after a GOAWAY, h2 cannot take the PING that follows it.
                with httpx.Client(verify=self._context, trust_env=False, timeout=HANG) as client:
                    self.answers.append(client.get(self._url).text)
            except httpx.HTTPError as error:
                self.failures.append(error)

    def __enter__(self) -> Connecting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(HANG)


@pytest.mark.tool("chromium")
@pytest.mark.tool("certutil")
def test_an_edit_is_seen_by_the_next_request_and_no_connection_is_refused(
    command: Callable[..., Command],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[str], None],
) -> None:
    for name in ("H2ASGI_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "edited.py").write_text(APPLICATION)
    install = [sys.executable, "-m", "h2asgi", "--dev-cert-install"]
    environment = without_options()
    subprocess.run(install, env=environment, check=True, timeout=HANG, capture_output=True)
    server = command("edited:app", "--app-dir", str(tmp_path), "--reload", "--dev-cert", tls=False)
    url = f"https://localhost:{server.port}"
    ca_file = tmp_path / ".local/share/h2asgi/devcerts/ca.pem"
    with Connecting(url + "/version", ca_file) as connecting:
        page = document(url + "/", tmp_path / "browser", "--virtual-time-budget=60000")
    assert '<pre id="result">h2 saw 1 2 failed 0</pre>' in page
    assert connecting.failures == []
    assert set(connecting.answers) == {"1", "2"}
    assert connecting.answers == sorted(connecting.answers)  # who has seen the new one sees no old
    assert "edited.py changed: starting anew" in "".join(server.output)
    measured(f"{len(connecting.answers)} connections one after the other, none refused")
