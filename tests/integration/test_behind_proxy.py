"""Behind a load balancer, over real sockets: PROXY headers, forwarded fields, health checks."""

from __future__ import annotations

import ast
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import probe_app
import pytest
from apps.letters import HANG
from h2client import H2Client
from proxy_peer import TLVS, VALID, v2
from serving import BackgroundServer, Certificate, Command

Run = Callable[..., Command]
Serve = Callable[..., BackgroundServer]
Target = BackgroundServer | Command
Fields = list[tuple[str, str]]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return str(request.param)


def connect(server: Target, header: bytes, alpn: str, piece: int = 1 << 16) -> socket.socket:
    """Connect as a load balancer does: its header first, then TLS if there is any."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=HANG)
    try:
        for place in range(0, len(header), piece):
            sock.sendall(header[place : place + piece])
        if server.certificate is None:
            return sock
        context = server.certificate.client_context(alpn)
        sock = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
        sock.do_handshake()
        return sock
    except BaseException:
        sock.close()
        raise


def ask_http1(sock: socket.socket, fields: Fields) -> dict[str, Any]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    with sock:
        sock.sendall(f"GET /scope HTTP/1.1\r\nhost: a\r\n{lines}connection: close\r\n\r\n".encode())
        received = b""
        while data := sock.recv(65_536):
            received += data
    return ast.literal_eval(received.partition(b"\r\n\r\n")[2].decode())


def ask_http2(sock: socket.socket, fields: Fields) -> dict[str, Any]:
    with H2Client(sock) as client:
        (response,) = client.finish(client.start("/scope", headers=fields))
    return ast.literal_eval(response.body.decode())


def scopes(server: Target, header: bytes = b"", fields: Fields | None = None, **how: int) -> Any:
    """Ask by both protocols; give what the application was told, the same both times."""
    fields = fields or []
    told = []
    for name, ask in (("h2", ask_http2), ("http/1.1", ask_http1)):
        sock = connect(server, header, name, **how)
        own = sock.getsockname()
        scope = ask(sock, fields)
        client = scope["client"]
        told.append(
            (
                "self" if client is not None and tuple(client) == own else client,
                scope["scheme"],
                tuple(scope["server"]) if scope["server"][1] != server.port else "own",
                scope["extensions"].get("h2asgi.proxy_protocol"),
            )
        )
    assert told[0] == told[1]
    return told[0]


ENDS = ("192.0.2.7", 50_000), ("198.51.100.1", 443)
ENDS6 = ("2001:db8::7", 50_000), ("2001:db8::1", 443)


def test_proxy_headers(command: Run, loop: str, tls: bool) -> None:
    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.0/8")
    server = command("probe_app:app", "--loop", loop, *options, tls=tls)
    scheme = "https" if tls else "http"
    for piece in (1 << 16, 3):
        for name, ends in (("v1 IPv4", ENDS), ("v1 IPv6", ENDS6), ("v2 Unix", (None, "own"))):
            told = scopes(server, VALID[name], piece=piece)
            assert told[:3] == (ends[0], scheme, ends[1]), name
        for name in ("v1 unknown", "v2 local", "v2 local with addresses"):
            assert scopes(server, VALID[name], piece=piece) == ("self", scheme, "own", None), name
    client, scheme, address, extension = scopes(server, v2("192.0.2.7", 50_000, *TLVS))
    assert (client, scheme, address) == (ENDS[0], "https", ENDS[1])  # the client came by TLS
    assert extension == {
        "alpn": b"h2",
        "authority": "bücher.example",
        "unique_id": b"id-1",
        "tls": True,
        "tls_version": "TLSv1.3",
        "tls_cipher": "AES",
        "client_cert_verified": True,
        "client_cert_common_name": "alice",
        "values": tuple((tlv[0], tlv[3:]) for tlv in TLVS),
    }


# Python's ssl drops a socket that is reset before it is wrapped, without closing it.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_what_has_no_header_or_comes_from_elsewhere_is_refused(command: Run, tls: bool) -> None:
    for trusted, header in (("127.0.0.1", b""), ("10.0.0.0/8", v2()), ("unix", v2())):
        options = ("--proxy-protocol", "--forwarded-allow-ips", trusted)
        server = command("probe_app:app", *options, tls=tls)
        for ask, alpn in ((ask_http1, "http/1.1"), (ask_http2, "h2")):
            with pytest.raises((OSError, SyntaxError, AssertionError)):  # noqa: SIM117
                with connect(server, header, alpn) as sock:
                    ask(sock, [])


def test_spoofed_fields_are_no_way_around_a_proxy_header(command: Run, loop: str) -> None:
    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.1", "--forwarded")
    server = command("probe_app:app", "--loop", loop, *options, "x-forwarded", tls=False)
    spoof = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")]
    assert scopes(server, VALID["v1 IPv4"], spoof)[:2] == (ENDS[0], "http")


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
def test_forwarded_fields(command: Run, loop: str, tls: bool, kind: str) -> None:
    fields = {
        "x-forwarded": [
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "8443"),
        ],
        "forwarded": [("forwarded", 'for=6.6.6.6, for="[2001:db8::7]:9";proto=https')],
    }
    expected = {
        "x-forwarded": (("192.0.2.7", 0), "https", ("127.0.0.1", 8443), None),
        "forwarded": (("2001:db8::7", 9), "https", "own", None),
    }
    options = ("--forwarded", kind, "--forwarded-allow-ips")
    server = command("probe_app:app", "--loop", loop, *options, "127.0.0.1", tls=tls)
    assert scopes(server, fields=fields[kind]) == expected[kind]
    (other,) = fields.keys() - {kind}
    own = ("self", "https" if tls else "http", "own", None)
    assert scopes(server, fields=fields[other]) == own
    assert scopes(server) == own
    distrustful = command("probe_app:app", "--loop", loop, *options, "10.0.0.0/8", tls=tls)
    assert scopes(distrustful, fields=fields[kind]) == own


def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    serve(probe_app.app, tls=False, bind=[f"unix:{path}"], forwarded_allow_ips="unix")
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    told = ask_http1(sock, [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")])
    assert (told["client"], told["scheme"]) == (("192.0.2.7", 0), "https")
    assert tuple(told["server"]) == (path, None)


def test_the_redirect_takes_headers_too(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"proxy_protocol": True, "forwarded_allow_ips": "127.0.0.1", "redirect_http": port}
    serve(probe_app.app, host="127.0.0.1", **options)
    request = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
    for header, answer in ((v2(), b"HTTP/1.1 308 "), (b"", b"")):
        with socket.create_connection(("127.0.0.1", port), timeout=HANG) as sock:
            sock.sendall(header + request)
            try:
                received = sock.recv(65_536)
            except ConnectionResetError:
                received = b""
            assert received.startswith(answer)
            assert bool(received) == bool(answer)


def curl(server: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
    trust = ["--cacert", server.certificate.ca_file] if server.certificate else []
    command = ["curl", "--silent", "--show-error", "--ipv4", *trust, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


@pytest.mark.tool("curl")
def test_curl_with_a_proxy_header(command: Run, loop: str, tls: bool, protocol: str) -> None:
    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.1")
    server = command("probe_app:app", "--loop", loop, *options, tls=tls)
    version = {"HTTP/1.1": "--http1.1", "HTTP/2": "--http2" if tls else "--http2-prior-knowledge"}
    wanted = (version[protocol], "--write-out", "\n%{local_port}", server.url + "/scope")
    done = curl(server, "--haproxy-protocol", *wanted)
    assert done.stderr == ""
    told, _, port = done.stdout.rpartition("\n")
    scope = ast.literal_eval(told)
    assert tuple(scope["client"]) == ("127.0.0.1", int(port))
    assert scope["http_version"] == protocol.removeprefix("HTTP/")
    assert curl(server, *wanted).returncode != 0  # without a header


@pytest.mark.tool("curl")
def test_curl_asks_for_the_health(command: Run, tls: bool, protocol: str) -> None:
    server = command("probe_app:app", "--health-path", "/healthz", tls=tls)
    version = {"HTTP/1.1": "--http1.1", "HTTP/2": "--http2" if tls else "--http2-prior-knowledge"}
    done = curl(server, version[protocol], "--write-out", "%{http_code}", server.url + "/healthz")
    assert done.stdout == "ok\n200"


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend front
    bind 127.0.0.1:{front} ssl crt {pem} alpn h2,http/1.1
    unique-id-format %[rand]
    default_backend back
backend back
    server app 127.0.0.1:{port} send-proxy-v2-ssl-cn proxy-v2-options {options}
"""


@pytest.mark.tool("haproxy")
def test_haproxy_sends_values_and_a_checksum(
    command: Run, loop: str, protocol: str, certificate: Certificate, tmp_path: Path
) -> None:
    """It takes TLS off and passes on what is inside, with a header that says so."""
    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.1")
    server = command("probe_app:app", "--loop", loop, *options, tls=False)
    pem = tmp_path / "site.pem"
    pem.write_text(Path(certificate.certfile).read_text() + Path(certificate.keyfile).read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        front = free.getsockname()[1]
    wanted = "crc32c,authority,unique-id,ssl,cert-cn,ssl-cipher"
    file = tmp_path / "haproxy.cfg"
    file.write_text(HAPROXY.format(front=front, pem=pem, port=server.port, options=wanted))
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        name = "h2" if protocol == "HTTP/2" else "http/1.1"
        sock = _through(front, certificate.client_context(name))
        own = sock.getsockname()
        scope = (ask_http2 if name == "h2" else ask_http1)(sock, [])
    finally:
        process.terminate()
        process.wait(HANG)
    assert tuple(scope["client"]) == own
    assert tuple(scope["server"]) == ("127.0.0.1", front)
    assert scope["scheme"] == "https"
    extension = scope["extensions"]["h2asgi.proxy_protocol"]
    assert extension["authority"] == "localhost"
    assert (extension["tls"], extension["tls_version"]) == (True, "TLSv1.3")
    assert extension["tls_cipher"].startswith("TLS_")
    assert extension["client_cert_verified"] is False
    assert 0x03 in dict(extension["values"])  # the checksum, which was right


def _through(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect to a load balancer that is just starting."""
    end = time.monotonic() + HANG
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port), timeout=HANG)
            return context.wrap_socket(sock, server_hostname="localhost")
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)
