"""Metrics as Prometheus reads them: their text, their port, and their sums among workers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import workers
from fetching import HANG, fetch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metric_families,
)
from prometheus_client.parser import text_string_to_metric_families

import h2asgi
from h2asgi import metrics, monitoring, tally
from h2asgi.errors import ConfigurationError
from h2asgi.options import make_config
from h2asgi.tally import SIZE, Tallies, Tally

ASK = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
REQUESTS = "h2asgi_requests_total"


class Seen(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Samples of a scrape by name and labels."""

    def of(self, name: str, /, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def total(self, name: str, /, **labels: str) -> float:
        """The sum over whatever is not named."""
        return sum(
            value
            for (own, pairs), value in self.items()
            if own == name and frozenset(labels.items()) <= pairs
        )


def parsed(text: str) -> Seen:
    seen = Seen()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in seen
            seen[key] = sample.value
    return seen


async def scrape(address: Any) -> Seen:
    status, head, content = await fetch(address, ASK)
    assert status == 200
    assert b"\r\ncontent-type: text/plain; version=" in head
    return parsed(content.decode())


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


# The text, over rows that nobody writes but the test.


class Watched(SimpleNamespace):
    """Two workers and their supervisor."""

    def __init__(self) -> None:
        rows = [Tally(memoryview(bytearray(SIZE))) for _ in range(3)]
        super().__init__(ssl_context=None, tallies=Tallies(rows[0], rows))

    def text(self) -> str:
        registry = CollectorRegistry()
        registry.register(metrics.Collector(self))
        return generate_latest(registry).decode()


def test_every_metric_is_there_from_the_beginning():
    text = Watched().text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for declared in metrics.FAMILIES:
        family = families.pop(declared.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (declared.kind, declared.help)
        assert declared.name.endswith("_total") == (declared.kind == "counter")
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels <= {frozenset(declared.labels)}
        if declared not in (metrics.REQUESTS, metrics.CERTIFICATES):
            values = {tuple(s.labels[name] for name in declared.labels) for s in family.samples}
            assert values == set(declared.values)
    assert not families


def test_metrics_take_up_the_words_of_a_row_and_each_of_them_once():
    words: list[int] = []
    for family in metrics.FAMILIES:
        if family.word >= 0:
            each = len(family.bounds) + 2 if family.bounds else 1
            words += range(family.word, family.word + each * len(family.values))
    assert sorted(words) == list(range(tally.OTHER_REQUESTS))


def test_what_processes_have_counted_is_added_up():
    watched = Watched()
    first, second, supervisor = watched.tallies.every
    first.request_finished("2", "GET", 200, 0.002)
    second.request_finished("2", "GET", 200, 0.2)
    second.request_finished("1.1", "PUT", 0, 7.0)
    second.add(tally.OTHER_REQUESTS, 3)
    first.add(tally.RECEIVED_OCTETS, 10**15 + 1)
    second.add(tally.RECEIVED_OCTETS, 1)
    first.code(tally.RESETS_SENT, 7)
    second.code(tally.GOAWAYS_RECEIVED, 99)
    supervisor.add(tally.WORKERS_FAILED)
    second.add(tally.UNSENT_LIMIT)
    seen = parsed(watched.text())
    assert seen.of(REQUESTS, protocol="HTTP/2", method="GET", status="200") == 2
    assert seen.of(REQUESTS, protocol="HTTP/1.1", method="PUT", status="none") == 1
    assert seen.of(REQUESTS, protocol="other", method="other", status="other") == 3
    assert seen.of("h2asgi_received_bytes_total") == 10**15 + 2
    assert seen.of("h2asgi_stream_resets_total", sender="server", code="REFUSED_STREAM") == 1
    assert seen.of("h2asgi_goaways_total", sender="client", code="other") == 1
    assert seen.of("h2asgi_worker_restarts_total", reason="failed") == 1
    assert seen.of("h2asgi_limit_trips_total", limit="unsent") == 1
    assert seen.total("h2asgi_limit_trips_total") == 1
    duration = "h2asgi_request_duration_seconds"
    assert seen.of(f"{duration}_count", protocol="HTTP/2") == 2
    assert seen.of(f"{duration}_sum", protocol="HTTP/2") == pytest.approx(0.202)
    buckets = {"0.001": 0, "0.0025": 1, "0.1": 1, "0.25": 2, "+Inf": 2}
    for bound, count in buckets.items():
        assert seen.of(f"{duration}_bucket", protocol="HTTP/2", le=bound) == count


def test_when_certificates_end(dev_certificate):
    watched = Watched()
    pem = dev_certificate.read_text()
    named = {
        "*.example.com": SimpleNamespace(server_cert=pem[pem.index("-----BEGIN CERTIFICATE") :]),
        "strange.example.com": SimpleNamespace(server_cert=None),
        "odd.example.com": SimpleNamespace(server_cert="-----BEGIN\nAAAA\n-----END"),
    }
    expires = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    leaf = trustme.CA().issue_cert("localhost", not_after=expires).cert_chain_pems[0]
    watched.ssl_context = SimpleNamespace(server_cert=leaf.bytes().decode(), named=named)
    seen = parsed(watched.text())
    name = metrics.CERTIFICATES.name
    assert seen.of(name, name="default") == expires.timestamp()
    assert {dict(labels).get("name") for own, labels in seen if own == name} == {
        "default",
        "*.example.com",
    }


# The port.


def config(**options: Any) -> h2asgi.Config:
    return make_config(app, port=0, host="127.0.0.1", **options)


def test_the_port_shows_metrics_and_nothing_else(run):
    async def main() -> None:
        async with h2asgi.Server(app, config(metrics="127.0.0.1:0")) as server:
            (address,) = server.metrics_addresses
            assert server.health_addresses == []
            assert (await scrape(address)).total(REQUESTS) == 0
            for _ in range(3):
                assert (await fetch(server.addresses[0], ASK))[2] == b"hello"
            seen = await scrape(address)
            assert seen.of(REQUESTS, protocol="HTTP/1.1", method="GET", status="200") == 3
            assert seen.of("h2asgi_build_info", version=h2asgi.__version__) == 1
            # Those who watch are not counted themselves.
            assert seen.of("h2asgi_connections_total", protocol="HTTP/1") == 3
            status, head, _ = await fetch(address, ASK.replace(b"GET", b"POST"))
            assert (status, b"\r\nallow: GET, HEAD" in head) == (405, True)
            status, head, content = await fetch(address, ASK.replace(b"GET", b"HEAD"))
            assert (status, content) == (200, b"")
            assert (await fetch(address, ASK.replace(b"/metrics", b"/metric")))[0] == 404
            assert (await fetch(address, ASK.replace(b"/metrics", b"/metrics?x=%FF")))[0] == 200

    run(main())


def test_the_format_is_the_one_that_is_asked_for(run):
    async def main() -> None:
        async with h2asgi.Server(app, config(metrics="127.0.0.1:0")) as server:
            accept = b"accept: application/openmetrics-text; version=1.0.0\r\n"
            asked = ASK.replace(b"host", accept + b"host")
            _, head, content = await fetch(server.metrics_addresses[0], asked)
            assert b"content-type: application/openmetrics-text" in head
            names = {family.name for family in open_metric_families(content.decode())}
            assert "h2asgi_requests" in names
            odd = ASK.replace(b"host", b"accept: \xff\r\naccept-encoding: \xff, gzip\r\nhost")
            status, head, _ = await fetch(server.metrics_addresses[0], odd)
            assert (status, b"content-encoding" in head) == (200, False)

    run(main())


@pytest.mark.parametrize("bind", ["127.0.0.1:{port}", "unix:{folder}/watch.sock"])
def test_metrics_and_health_may_share_an_address(run, tmp_path, unused_port, bind):
    async def main() -> None:
        address = bind.format(port=unused_port, folder=tmp_path)
        options = config(metrics=address, health_bind=address, health_path="/healthz")
        async with h2asgi.Server(app, options) as server:
            assert server.metrics_addresses == server.health_addresses
            (where,) = server.metrics_addresses
            assert (await fetch(where, ASK))[0] == 200
            check = ASK.replace(b"/metrics", b"/healthz")
            assert (await fetch(where, check))[2] == b"ok\n"
        with pytest.raises(OSError, match=r"(?i)connect|no such"):
            await fetch(where, ASK)

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_who_may_ask_for_health_is_not_shown_metrics(run):
    async def main() -> None:
        binds = {"metrics": "127.0.0.1:0", "health_bind": "[::1]:0"}
        async with h2asgi.Server(app, config(**binds, health_path="/healthz")) as server:
            assert (await fetch(server.metrics_addresses[0], ASK))[0] == 200
            assert (await fetch(server.health_addresses[0], ASK))[0] == 404

    run(main())


def test_connections_there_have_a_bound_of_their_own(run, monkeypatch, caplog):
    monkeypatch.setattr(monitoring, "MAX_CONNECTIONS", 1)

    async def main() -> None:
        async with h2asgi.Server(app, config(metrics="127.0.0.1:0")) as server:
            _, writer = await asyncio.open_connection(*server.metrics_addresses[0])
            asked = asyncio.ensure_future(scrape(server.metrics_addresses[0]))
            async with asyncio.timeout(HANG):
                while "(the limit of --metrics)" not in caplog.text:
                    await asyncio.sleep(0.001)
            writer.close()
            await asked

    run(main())


def test_off_means_that_nothing_is_counted(run):
    async def main() -> None:
        async with h2asgi.Server(app, config()) as server:
            assert server._state.tally is None
            assert server._pulse is None

    run(main())


def test_handshakes_and_what_becomes_of_them(run, dev_certificate, authority):
    """Two that succeed, the second one resumed; one of no TLS, one that is left, one too slow."""

    async def main() -> None:
        options = config(
            metrics="127.0.0.1:0", certfile=str(dev_certificate), tls_handshake_timeout=1.0
        )
        async with h2asgi.Server(app, options) as server:
            host, port = server.addresses[0]
            tools = [sys.executable, "-c", RESUMING, str(port)]
            resuming = await asyncio.create_subprocess_exec(*tools)
            assert await resuming.wait() == 0
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b""):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(garbage)
                writer.write_eof()
                await reader.read()
                writer.close()
            reader, writer = await asyncio.open_connection(host, port)
            assert await reader.read() == b""
            writer.close()
            seen = await scrape(server.metrics_addresses[0])
            name = "h2asgi_tls_handshakes_total"
            assert seen.of(name, version="TLSv1.3", resumed="no") == 1
            assert seen.of(name, version="TLSv1.3", resumed="yes") == 1
            name = "h2asgi_tls_handshake_failures_total"
            assert {r: seen.of(name, reason=r) for r in ("timeout", "fault", "left")} == {
                "timeout": 1,
                "fault": 1,
                "left": 1,
            }
            assert seen.of(metrics.CERTIFICATES.name, name="default") > 0

    run(main())


RESUMING = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
session = None
for _ in range(2):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
        with context.wrap_socket(sock, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n")
            while tls.recv(1000):
                session = tls.session
            assert tls.session_reused is (_ == 1)
"""


def test_limits_on_connections_are_counted(run):
    async def main() -> None:
        limits = {"limit_connections": 2, "limit_connections_per_address": 1}
        async with h2asgi.Server(app, config(metrics="127.0.0.1:0", **limits)) as server:
            _, first = await asyncio.open_connection(*server.addresses[0])
            reader, second = await asyncio.open_connection(*server.addresses[0])
            assert await reader.read() == b""
            seen = await scrape(server.metrics_addresses[0])
            assert seen.of("h2asgi_limit_trips_total", limit="connections-per-address") == 1
            first.close()
            second.close()

    run(main())


@pytest.mark.parametrize("limit", ["connections", "handshakes"])
def test_whoever_waits_for_a_place_is_counted(run, monkeypatch, dev_certificate, limit):
    monkeypatch.setattr("h2asgi.listener.HANDSHAKE_PATIENCE", 0.01)
    options: dict[str, Any] = {"limit_connections": 2}
    if limit == "handshakes":  # half as many as connections
        options["certfile"] = str(dev_certificate)

    async def main() -> None:
        async with h2asgi.Server(app, config(metrics="127.0.0.1:0", **options)) as server:
            where, count = server.addresses[0], 2 if limit == "handshakes" else 3
            silent = [await asyncio.open_connection(*where) for _ in range(count)]
            async with asyncio.timeout(HANG):
                while True:
                    seen = await scrape(server.metrics_addresses[0])
                    if seen.of("h2asgi_limit_trips_total", limit=limit):
                        break
                    await asyncio.sleep(0.01)
            assert seen.total("h2asgi_limit_trips_total") == seen.of(
                "h2asgi_limit_trips_total", limit=limit
            )
            for _, writer in silent:
                writer.close()

    run(main())


def test_mistakes_are_one_sentence(run, monkeypatch):
    async def main(**options: Any) -> None:
        async with h2asgi.Server(app, config(**options)):
            pass

    with pytest.raises(ConfigurationError, match=r"^--metrics '9000' has no port"):
        run(main(metrics="9000"))
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r'^--metrics needs .*"h2asgi\[metrics\]"$'):
        run(main(metrics="127.0.0.1:0"))


def test_prometheus_client_is_loaded_for_metrics_only():
    script = (
        "import h2asgi.endpoint, h2asgi.server, sys; "
        "sys.exit('prometheus_client' in sys.modules or 'cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# Workers.


@pytest.fixture
def start(tmp_path: Path) -> Iterator[workers.Start]:
    with workers.starting(tmp_path) as start:
        yield lambda *arguments: start(
            "--workers", "2", "--metrics", f"unix:{tmp_path}/metrics.sock", *arguments
        )


def scraped(folder: Path) -> Seen:
    return asyncio.run(scrape(f"{folder}/metrics.sock"))


def counted(folder: Path, requests: int) -> Seen:
    """Wait until so many have ended: a client may have its answer a turn of the loop before."""
    workers.wait_until(lambda: scraped(folder).total(REQUESTS) >= requests)
    seen = scraped(folder)
    assert seen.total(REQUESTS) == requests
    return seen


def load(url: str, requests: int, *options: str) -> int:
    """Have h2load send requests; gives the octets of TLS content that it received."""
    command = ["h2load", f"-n{requests}", "-c4", "-m10", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True)
    assert f"{requests} succeeded, 0 failed" in done.stdout
    found = re.search(r"^traffic: \S+ \((\d+)\) total", done.stdout, re.MULTILINE)
    assert found is not None
    return int(found[1])


needs_h2load = pytest.mark.skipif(
    shutil.which("h2load") is None and os.environ.get("H2ASGI_REQUIRE_TOOLS") != "1",
    reason="h2load is missing",
)


@needs_h2load
@workers.needs_fork
def test_sums_of_two_workers_are_what_h2load_sent(start, tmp_path, dev_certificate):
    command = start("--certfile", str(dev_certificate))
    url = command.wait_for_error_line(r"https://localhost:\d+")[0]
    for _ in range(2):
        workers.served(command)
    received = load(f"{url}/a", 1000)
    (tmp_path / "body").write_bytes(bytes(1000))
    received += load(f"{url}/b", 500, f"-d{tmp_path}/body", "--h1")
    requests = {("HTTP/2", "GET"): 1000, ("HTTP/1.1", "POST"): 500}
    counted(tmp_path, 1500)
    for _ in range(10):  # whoever of the two answers
        seen = scraped(tmp_path)
        for (protocol, method), count in requests.items():
            labels = {"protocol": protocol, "method": method, "status": "200"}
            assert seen.of(REQUESTS, **labels) == count
            duration = "h2asgi_request_duration_seconds_count"
            assert seen.of(duration, protocol=protocol) == count
        assert seen.total(REQUESTS) == 1500
        # The GOAWAY of each connection comes when h2load has gone.
        assert received <= seen.of("h2asgi_sent_bytes_total") <= received + 4 * 17
        assert seen.of("h2asgi_received_bytes_total") > 500 * 1000
        for protocol in ("HTTP/1", "HTTP/2"):
            assert seen.of("h2asgi_connections_total", protocol=protocol) == 4
        assert seen.total("h2asgi_tls_handshakes_total", version="TLSv1.3") == 8
        assert seen.total("h2asgi_stream_resets_total") == 0
    workers.wait_until(lambda: scraped(tmp_path).total("h2asgi_connections_open") == 0)
    workers.wait_until(lambda: scraped(tmp_path).of("h2asgi_requests_in_progress") == 0)


@needs_h2load
@workers.needs_fork
def test_scrapes_under_load_never_fall_and_end_at_the_sum(start, tmp_path):
    command = start()
    url, _ = workers.serving(command, 2)
    with subprocess.Popen(
        ["h2load", "-n4000", "-c4", "-m10", "--rps=500", url], stdout=subprocess.PIPE, text=True
    ) as loading:
        before = Seen()
        while loading.poll() is None:
            seen = scraped(tmp_path)
            for (name, labels), value in before.items():
                if name.endswith(("_total", "_bucket", "_count", "_sum")):
                    assert seen[name, labels] >= value
            before = seen
        assert loading.stdout is not None
        assert "4000 succeeded, 0 failed" in loading.stdout.read()
    counted(tmp_path, 4000)


@workers.needs_fork
def test_what_workers_have_counted_outlives_them(start, tmp_path):
    command = start()
    url, pids = workers.serving(command, 2)
    for _ in range(10):
        workers.ask(url)
    counted(tmp_path, 10)
    os.kill(pids[0], signal.SIGKILL)
    workers.served(command)
    restarts = "h2asgi_worker_restarts_total"
    seen = scraped(tmp_path)
    assert (seen.total(REQUESTS), seen.of(restarts, reason="failed")) == (10, 1)
    workers.ask(url)
    command.send(signal.SIGHUP)
    command.wait_for_error_line("the workers have been replaced")
    workers.wait_until(lambda: scraped(tmp_path).of(restarts, reason="replaced") == 2)
    for _ in range(9):
        workers.ask(url)
    seen = counted(tmp_path, 20)
    assert seen.of(restarts, reason="failed") == 1
    assert seen.of("h2asgi_connections_total", protocol="HTTP/1") == 20


@workers.needs_fork
def test_what_a_killed_worker_had_open_is_open_no_more(start, tmp_path):
    command = start()
    url, _ = workers.serving(command, 2)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))

    async def main() -> None:
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /for-ever HTTP/1.1\r\nhost: a\r\n\r\n")

        async def open_are(connections: int, requests: int) -> None:
            async with asyncio.timeout(HANG):
                while True:
                    seen = await scrape(f"{tmp_path}/metrics.sock")
                    open_ = seen.of("h2asgi_connections_open", protocol="HTTP/1")
                    if (open_, seen.of("h2asgi_requests_in_progress")) == (connections, requests):
                        return
                    await asyncio.sleep(0.01)

        await open_are(1, 1)
        _, asking = await asyncio.open_connection(*address)
        asking.close()
        for pid in _children(command.process.pid):
            os.kill(pid, signal.SIGKILL)
        await open_are(0, 0)
        writer.close()

    asyncio.run(main())


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@workers.needs_fork
def test_an_application_that_uses_prometheus_client_is_left_alone(start, tmp_path):
    """Our metrics are no part of its registry, and its registry no part of ours."""
    command = start()
    workers.serving(command, 2)
    names = {name for name, _ in scraped(tmp_path)}
    assert all(name.startswith("h2asgi_") for name in names)
