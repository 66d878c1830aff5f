"""Both directions of flow control, with applications and clients that do not read."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import probe_app
import pytest
from apps import letters
from h2client import H2Client
from serving import BackgroundServer, Command

from h2asgi.output import WRITE_SIZE
from h2asgi.protocol.engine import SEND_HIGH_WATER

KIB = 1024
MIB = 1024 * KIB
Serve = Callable[..., BackgroundServer]


def test_unread_streams_do_not_delay_a_sibling(
    serve: Serve, measured: Callable[[str], None]
) -> None:
    """Field notes 19, 20 and 27: 16 applications read nothing, each stream's window is full."""
    server = serve(probe_app.app)
    key = uuid.uuid4().hex
    with H2Client(server.connect("h2")) as client:
        client.ping()
        unread = []
        for number in range(16):
            path = f"/unread?key={key}{number}"
            stream_id = client.start(path, "POST", end_stream=False)
            unread.append(stream_id)
            while client.h2.streams[stream_id].outbound_flow_control_window > 0:
                if client.send(stream_id, bytes(256 * KIB)) == 0:
                    client.read()  # the connection's window grows behind the unread
        for number in range(16):
            letters.wait(f"{key}{number} began")

        data = os.urandom(MIB)
        began = time.perf_counter()
        stream_id = client.start("/digest", "POST", end_stream=False)
        client.upload(stream_id, data)
        (response,) = client.finish(stream_id)
        measured(f"{(time.perf_counter() - began) * 1000:.0f} ms for the sibling")
        assert json.loads(response.body)["sha256"] == hashlib.sha256(data).hexdigest()

        for number in range(16):
            letters.post(f"{key}{number} go on")
        for response in client.finish(*unread):
            assert response.status == 200
        # What they left unread has been given back: all of it fits again.
        stream_id = client.start("/digest", "POST", end_stream=False)
        client.upload(stream_id, bytes(5 * MIB))
        (response,) = client.finish(stream_id)
        assert json.loads(response.body)["size"] == 5 * MIB


def test_http2_sender_is_held_when_the_reader_stops(serve: Serve, tls: bool) -> None:
    """Field note 21: what ``send()`` accepts is bounded by the window and the high-water mark."""
    server = serve(probe_app.app, tls=tls)
    key = uuid.uuid4().hex
    with H2Client(server.connect("h2"), acknowledge=False, connection_window=16 * MIB) as client:
        stream_id = client.start(f"/flood?key={key}")
        client.read_until(lambda: len(client.responses[stream_id].body) == 65_535)
        for _ in range(50):
            client.ping()  # 50 turns of the server's loop at the least
        taken = probe_app.accepted[key]
        assert 65_535 <= taken <= 65_535 + SEND_HIGH_WATER + len(probe_app.PIECE)
        assert len(client.responses[stream_id].body) == 65_535
        # Held, not lost: the sibling runs, and credit lets the writer go on.
        (response,) = client.finish(client.start("/hello"))
        assert response.status == 200
        client.h2.increment_flow_control_window(MIB)
        client.h2.increment_flow_control_window(MIB, stream_id)
        client.flush()
        client.read_until(lambda: len(client.responses[stream_id].body) == 65_535 + MIB)


@pytest.mark.parametrize("name", ["h2", "http/1.1"])
def test_sender_is_held_when_the_client_reads_nothing_at_all(
    serve: Serve, tls: bool, name: str
) -> None:
    """Field note 21: then TCP holds the server back, and the transport's buffer is bounded."""
    server = serve(probe_app.app, tls=tls)
    key = uuid.uuid4().hex
    small = 64 * KIB
    sock = server.connect(name, receive_buffer=small)
    with sock:
        if name == "h2":
            window = 2**31 - 1
            client = H2Client(sock, stream_window=window, connection_window=window)
            client.start(f"/flood?key={key}")
        else:
            sock.sendall(b"GET /flood?key=%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % key.encode())
        taken = _settled(server, key)
        kernel = _largest_send_buffer() + 4 * small  # what TCP holds on both sides
        assert taken <= SEND_HIGH_WATER + 4 * WRITE_SIZE + len(probe_app.PIECE) + kernel


def _largest_send_buffer() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    except OSError:
        return 4 * MIB


def _settled(server: BackgroundServer, key: str) -> int:
    """Give the octets accepted once 50 round trips on another connection changed nothing."""
    with H2Client(server.connect("h2")) as other:
        before = -1
        while before != (taken := probe_app.accepted.get(key, -1)) or taken < 0:
            before = taken
            for _ in range(50):
                other.ping()
    return taken


def test_a_gibibyte_for_a_stopped_reader_costs_no_memory(
    command: Callable[..., Command], measured: Callable[[str], None]
) -> None:
    """Field notes 7 and 21."""
    server = command("probe_app:app")
    with H2Client(server.connect("h2"), acknowledge=False, connection_window=16 * MIB) as client:
        (response,) = client.finish(client.start("/hello"))
        before = server.memory()
        stream_id = client.start("/flood?key=only")
        client.read_until(lambda: len(client.responses[stream_id].body) == 65_535)
        for _ in range(200):
            client.ping()
        growth = server.memory() - before
        measured(f"{growth / MIB:.1f} MiB more")
        assert response.status == 200
        assert growth < 5 * MIB


def test_a_hundred_streams_echo_a_mebibyte_each_over_one_connection(
    command: Callable[..., Command], measured: Callable[[str], None]
) -> None:
    """Every octet right, in bounded memory."""
    server = command("probe_app:app")
    window = 16 * MIB
    bodies = {}
    with H2Client(
        server.connect("h2"), stream_window=256 * KIB, connection_window=window
    ) as client:
        client.ping()
        left = {}
        for _ in range(100):
            stream_id = client.start("/echo", "POST", end_stream=False)
            bodies[stream_id] = os.urandom(MIB)
            left[stream_id] = memoryview(bodies[stream_id])
        while left:
            progress = False
            for stream_id, data in list(left.items()):
                sent = client.send(stream_id, bytes(data[: 64 * KIB]))
                left[stream_id] = data[sent:]
                progress = progress or sent > 0
                if not left[stream_id]:
                    del left[stream_id]
                    client.h2.end_stream(stream_id)
                    client.flush()
            if not progress:
                client.read()
        client.finish(*bodies)
        for stream_id, body in bodies.items():
            digest = hashlib.sha256(client.responses[stream_id].body).digest()
            assert digest == hashlib.sha256(body).digest()
    peak = server.peak_memory()
    measured(f"{peak / MIB:.0f} MiB at the peak")
    assert peak < 150 * MIB


def test_concurrent_clients_over_both_protocols(serve: Serve, protocol: str) -> None:
    """Threads with a client each: httpx's own, shared by threads, can miss a WINDOW_UPDATE."""
    server = serve(probe_app.app)
    assert server.certificate is not None
    context = server.certificate.client_context()
    options = {"verify": context, "http2": protocol == "HTTP/2", "trust_env": False}

    def exchange(first: int) -> bool:
        with httpx.Client(base_url=server.url, timeout=60, **options) as client:
            for number in range(first, 40, 8):
                data = os.urandom(10_000 * number)
                response = client.post("/echo", content=data)
                if response.http_version != protocol or response.content != data:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(exchange, range(8)))
