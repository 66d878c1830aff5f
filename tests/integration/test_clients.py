"""The clients that people use: curl, nghttp, h2load and Java's HttpClient."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import probe_app
import pytest
from apps.letters import HANG
from serving import BackgroundServer, Command

MIB = 1024 * 1024
Serve = Callable[..., BackgroundServer]
FLAGS = {"HTTP/2": "--http2", "HTTP/1.1": "--http1.1"}


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments, capture_output=True, timeout=2 * HANG, check=False)


def _curl(server: BackgroundServer, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    trust = ("--cacert", server.certificate.ca_file) if server.certificate else ()
    return _run("curl", "--silent", "--show-error", "--max-time", str(HANG), *trust, *arguments)


@pytest.mark.tool("curl")
def test_curl_is_served_over_the_protocol_it_asks_for(serve: Serve, protocol: str) -> None:
    server = serve(probe_app.app)
    done = _curl(
        server, FLAGS[protocol], "--write-out", " %{http_version} %{http_code}",
        f"{server.url}/hello",
    )  # fmt: skip
    assert done.stderr == b""
    version = protocol.removeprefix("HTTP/")
    assert done.stdout.decode() == f'{{"http_version": "{version}"}} {version} 200'


@pytest.mark.tool("curl")
def test_curl_without_alpn_gets_http1(serve: Serve) -> None:
    server = serve(probe_app.app)
    done = _curl(server, "--no-alpn", f"{server.url}/hello")
    assert json.loads(done.stdout) == {"http_version": "1.1"}


@pytest.mark.tool("curl")
@pytest.mark.parametrize(
    ("flag", "version"),
    [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1"), ("--http1.0", "1.0")],
)
def test_curl_in_the_clear(serve: Serve, flag: str, version: str) -> None:
    server = serve(probe_app.app, tls=False)
    done = _curl(server, flag, "--data-binary", "@-", f"{server.url}/hello")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"http_version": version})


@pytest.mark.tool("curl")
def test_curl_asking_to_upgrade_in_the_clear_is_answered_over_http1(serve: Serve) -> None:
    """Field note 14: ``--http2`` on http:// sends Upgrade: h2c."""
    server = serve(probe_app.app, tls=False)
    done = _curl(server, "--http2", "--data-binary", "a body", f"{server.url}/echo")
    assert (done.returncode, done.stdout) == (0, b"a body")


@pytest.mark.tool("curl")
def test_curl_uploads_with_expect_100_continue(
    serve: Serve, protocol: str, tls: bool, tmp_path: Path
) -> None:
    """RFC 9110 section 10.1.1: the 100 comes when the application reads."""
    server = serve(probe_app.app, tls=tls)
    file = tmp_path / "upload"
    file.write_bytes(os.urandom(3 * MIB))
    flag = FLAGS[protocol] if tls or protocol == "HTTP/1.1" else "--http2-prior-knowledge"
    done = _curl(
        server, flag, "--verbose", "--header", "Expect: 100-continue",
        "--expect100-timeout", str(HANG), "--data-binary", f"@{file}", f"{server.url}/echo",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == file.read_bytes()
    statuses = re.findall(rb"^< HTTP/\S+ (\d+)", done.stderr, re.MULTILINE)
    assert statuses == [b"100", b"200"]


@pytest.mark.tool("curl")
def test_curl_is_not_told_to_continue_with_what_is_rejected(serve: Serve, tmp_path: Path) -> None:
    """RFC 9110 section 10.1.1: a final answer instead of 100, and none of the body is sent."""
    server = serve(probe_app.app)
    file = tmp_path / "upload"
    file.write_bytes(bytes(3 * MIB))
    done = _curl(
        server, "--http1.1", "--header", "Expect: 100-continue",
        "--expect100-timeout", str(HANG), "--data-binary", f"@{file}",
        "--write-out", " %{http_code} %{size_upload}", f"{server.url}/reject",
    )  # fmt: skip
    assert done.stdout == b"too much 413 0"


@pytest.mark.tool("curl")
def test_curl_reuses_its_connection(serve: Serve, protocol: str) -> None:
    server = serve(probe_app.app)
    done = _curl(
        server, FLAGS[protocol], "--write-out", " %{num_connects}\n",
        *[f"{server.url}/hello"] * 5,
    )  # fmt: skip
    connects = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert connects == [1, 0, 0, 0, 0]


@pytest.mark.tool("curl")
def test_plain_http_on_the_tls_port_disturbs_nothing(serve: Serve) -> None:
    """The fixture sees to it that the server logs no error either."""
    server = serve(probe_app.app)
    plain = server.url.replace("https://", "http://")
    for flag in ("--http1.1", "--http2-prior-knowledge"):
        assert _curl(server, flag, f"{plain}/hello").returncode != 0
    done = _curl(server, f"{server.url}/hello")
    assert json.loads(done.stdout) == {"http_version": "2"}


@pytest.mark.tool("nghttp")
def test_nghttp_downloads_and_uploads(serve: Serve, tls: bool, tmp_path: Path) -> None:
    server = serve(probe_app.app, tls=tls)
    file = tmp_path / "upload"
    file.write_bytes(os.urandom(MIB))
    done = _run("nghttp", "--no-verify-peer", f"{server.url}/hello")
    assert done.stdout == b'{"http_version": "2"}'
    done = _run("nghttp", "--no-verify-peer", f"--data={file}", f"{server.url}/echo")
    assert done.stdout == file.read_bytes()


@pytest.mark.tool("nghttp")
def test_nghttp_sees_a_whole_conversation(serve: Serve) -> None:
    """Field note 3, and no error from either side: with padding, CONTINUATION and small windows."""
    server = serve(probe_app.app)
    done = _run(
        "nghttp", "--no-verify-peer", "--verbose", "--null-out", "--padding=100", "--continuation",
        "--window-bits=10", "--multiply=20", f"{server.url}/hello",
    )  # fmt: skip
    output = re.sub(rb"\x1b\[[0-9;]*m", b"", done.stdout)
    assert output.count(b":status: 200") == 20
    assert b"RST_STREAM" not in output
    assert not re.search(rb"recv GOAWAY.*\n.*error_code=(?!NO_ERROR)", output)


@pytest.mark.tool("h2load")
@pytest.mark.parametrize("arguments", [("-c10", "-m10"), ("-c2", "-m100"), ("--h1", "-c10")])
def test_h2load_sees_no_failure(
    command: Callable[..., Command], tls: bool, arguments: tuple[str, ...]
) -> None:
    server = command("probe_app:app", "--no-access-log", tls=tls)
    done = _run("h2load", "-n5000", *arguments, f"{server.url}/hello")
    counts = re.search(rb"^requests: .*$", done.stdout, re.MULTILINE)
    assert counts is not None, done.stdout + done.stderr
    assert counts[0] == (
        b"requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored,"
        b" 0 timeout"
    )


@pytest.mark.tool("h2load")
def test_h2load_uploads_without_a_failure(command: Callable[..., Command], tmp_path: Path) -> None:
    server = command("probe_app:app", "--no-access-log")
    file = tmp_path / "upload"
    file.write_bytes(os.urandom(100_000))
    done = _run("h2load", "-n200", "-c4", "-m10", f"--data={file}", f"{server.url}/echo")
    assert b"200 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert b"status codes: 200 2xx" in done.stdout


JAVA = Path(__file__).parent / "Client.java"


def _java(server: BackgroundServer, *arguments: str) -> list[str]:
    """Give version, status and body as Java's HttpClient sees them."""
    ca_file = server.certificate.ca_file if server.certificate else "-"
    done = _run("java", "-XX:TieredStopAtLevel=1", str(JAVA), ca_file, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.tool("java")
def test_java_asking_to_upgrade_with_a_body_is_answered_over_http1(serve: Serve) -> None:
    """Field note 14: its default in the clear is Upgrade: h2c, also for a POST."""
    server = serve(probe_app.app, tls=False)
    assert _java(server, f"{server.url}/echo", "HTTP_2", "plain") == [
        "HTTP_1_1 200 200000 true",
        "HTTP_1_1 200 200000 true",
    ]


@pytest.mark.tool("java")
@pytest.mark.parametrize("version", ["HTTP_2", "HTTP_1_1"])
def test_java_waits_for_100_continue(serve: Serve, version: str) -> None:
    """RFC 9110 section 10.1.1, over HTTP/2 as well: Java's client sends nothing before it."""
    server = serve(probe_app.app)
    assert _java(server, f"{server.url}/echo", version, "continue") == [
        f"{version} 200 200000 true",
        f"{version} 200 200000 true",
    ]
