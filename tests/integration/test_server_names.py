"""Several names on one port: certificates by name (SNI), and requests for the wrong one (421)."""

from __future__ import annotations

import ast
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import probe_app
import pytest
import trustme
from apps.letters import HANG
from client_certificates import ClientAuthority
from h2client import H2Client
from serving import BackgroundServer

Serve = Callable[..., BackgroundServer]
NAMED = ("shop.example", "*.wild.example", "other.example")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> ClientAuthority:
    return ClientAuthority(tmp_path_factory.mktemp("client-certificates"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files for each of ``NAMED``, and under "ca" the authority's."""
    folder = tmp_path_factory.mktemp("names")
    ca = trustme.CA()
    files = {"ca": str(folder / "ca.pem")}
    ca.cert_pem.write_to_path(files["ca"])
    for number, name in enumerate(NAMED):
        files[name] = str(folder / f"{number}.pem")
        ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(files[name])
    return files


@pytest.fixture
def naming(serve: Serve, pairs: dict[str, str]) -> Callable[..., BackgroundServer]:
    def start(**options: object) -> BackgroundServer:
        named = [f"{name}={pairs[name]}" for name in NAMED]
        return serve(probe_app.app, cert=named, **options)

    return start


def _context(server: BackgroundServer, pairs: dict[str, str], alpn: str = "h2") -> ssl.SSLContext:
    assert server.certificate is not None
    context = server.certificate.client_context(alpn)
    context.load_verify_locations(pairs["ca"])
    return context


def _connect(
    server: BackgroundServer,
    context: ssl.SSLContext,
    name: str,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=HANG)
    return context.wrap_socket(plain, server_hostname=name, session=session)


def _leaf(path: str) -> str:
    text = Path(path).read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :].partition("-----END CERTIFICATE-----")[0]


@pytest.mark.tool("curl")
@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("shop.example", "shop.example"),
        ("SHOP.example", "shop.example"),
        ("deep.wild.example", "*.wild.example"),
        ("other.example", "other.example"),
        ("localhost", None),
    ],
)
def test_curl_gets_the_certificate_of_the_name_it_asks_for(
    naming: Serve, pairs: dict[str, str], host: str, name: str | None, protocol: str
) -> None:
    server = naming()
    assert server.certificate is not None
    trust = server.certificate.ca_file if name is None else pairs["ca"]
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--max-time", str(HANG), "--cacert", trust),
            *("--resolve", f"{host}:{server.port}:127.0.0.1"),
            "--http2" if protocol == "HTTP/2" else "--http1.1",
            f"https://{host}:{server.port}/scope",
        ],
        capture_output=True,
        timeout=2 * HANG,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    scope = ast.literal_eval(done.stdout)
    assert scope["http_version"] == protocol.removeprefix("HTTP/")
    file = server.certificate.certfile if name is None else pairs[name]
    assert scope["extensions"]["tls"]["server_cert"].startswith(_leaf(file))


@pytest.mark.parametrize("name", ["wild.example", "a.b.wild.example", "shop.example.com"])
def test_other_names_get_the_default(naming: Serve, pairs: dict[str, str], name: str) -> None:
    server = naming()
    context = _context(server, pairs)
    context.check_hostname = False
    assert server.certificate is not None
    with _connect(server, context, name) as sock:
        shown = ssl.DER_cert_to_PEM_cert(sock.getpeercert(True) or b"")
    assert shown.startswith(_leaf(server.certificate.certfile))


def test_a_name_that_is_no_text_disturbs_nobody(naming: Serve, pairs: dict[str, str]) -> None:
    """Python's own callback for names would print a traceback."""
    server = naming()
    incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _context(server, pairs).wrap_bio(incoming, out, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG) as sock:
        sock.sendall(out.read().replace(b"shop.example", b"\xff\xfe\xfdp.example"))
        assert sock.recv(1)[0] == 22  # goes on with the default certificate
    with H2Client(_connect(server, _context(server, pairs), "shop.example")) as peer:
        (response,) = peer.finish(peer.start("/hello"))
    assert response.status == 200


@pytest.mark.parametrize("size", [1, 7])
def test_the_first_message_may_dribble_in(naming: Serve, pairs: dict[str, str], size: int) -> None:
    server = naming()
    incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _context(server, pairs).wrap_bio(incoming, out, server_hostname="shop.example")
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = out.read()
                for at in range(0, len(data), size):
                    sock.sendall(data[at : at + size])
                incoming.write(sock.recv(65_536))
        assert ("DNS", "shop.example") in (client.getpeercert() or {})["subjectAltName"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_under_its_own_name_alone(
    naming: Serve, pairs: dict[str, str], version: ssl.TLSVersion
) -> None:
    """RFC 6066 section 3: a server must not resume it under another."""
    server = naming()
    context = _context(server, pairs)
    context.check_hostname = False
    context.maximum_version = version
    for name in ("shop.example", "localhost"):
        with H2Client(_connect(server, context, name)) as peer:
            peer.finish(peer.start("/hello"))
            session = peer.sock.session
        for other in ("shop.example", "x.wild.example", "localhost"):
            with _connect(server, context, other, session) as sock:
                assert sock.session_reused is (other == name)


def test_every_name_asks_for_client_certificates(
    naming: Serve, pairs: dict[str, str], authority: ClientAuthority
) -> None:
    server = naming(cert_reqs="required", ca_certs=authority.ca_file)
    for name in ("shop.example", "x.wild.example", "localhost"):
        context = _context(server, pairs)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):  # noqa: SIM117
            with H2Client(_connect(server, context, name)) as peer:
                peer.finish(peer.start("/hello"))
        context.load_cert_chain(authority["good"].file)
        with H2Client(_connect(server, context, name)) as peer:
            (response,) = peer.finish(peer.start("/scope"))
        extension = ast.literal_eval(response.body.decode())["extensions"]["tls"]
        assert extension["client_cert_name"].startswith("CN=good")


# RFC 9110 section 15.5.20.


def _statuses(server: BackgroundServer, sock: ssl.SSLSocket, authorities: list[str]) -> list[int]:
    with H2Client(sock) as client:
        streams = [client.start("/hello", authority=authority) for authority in authorities]
        return [response.status for response in client.finish(*streams)]


def test_a_connection_that_is_used_for_another_name_answers_421(
    naming: Serve, pairs: dict[str, str]
) -> None:
    """A browser that finds both names at one address tries again on a connection of its own."""
    server = naming(check_authority=True)
    sock = _connect(server, _context(server, pairs), "shop.example")
    authorities = ["shop.example", "other.example", f"SHOP.example:{server.port}", "x.wild.example"]
    assert _statuses(server, sock, authorities * 2) == [200, 421, 200, 421] * 2
    sock = _connect(server, _context(server, pairs), "a.wild.example")
    assert _statuses(server, sock, ["b.wild.example", "shop.example"]) == [200, 421]


def test_unless_asked_for_any_name_is_answered(naming: Serve, pairs: dict[str, str]) -> None:
    server = naming()
    sock = _connect(server, _context(server, pairs), "shop.example")
    assert _statuses(server, sock, ["shop.example", "other.example"]) == [200, 200]


def test_the_body_of_a_misdirected_request_harms_nobody(
    naming: Serve, pairs: dict[str, str]
) -> None:
    server = naming(check_authority=True)
    with H2Client(_connect(server, _context(server, pairs), "shop.example")) as client:
        wrong = client.start("/echo", "POST", authority="other.example", end_stream=False)
        client.read_until(lambda: client.responses[wrong].over)
        right = client.start("/echo", "POST", authority="shop.example", end_stream=False)
        client.upload(right, b"x" * 100_000)
        (response,) = client.finish(right)
    assert (client.responses[wrong].status, response.status) == (421, 200)
    assert len(response.body) == 100_000


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: other.example\r\n\r\n", b"421"),
        (b"GET https://other.example/hello HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"421"),
        (b"GET /hello HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /hello HTTP/1.0\r\n\r\n", b"200"),
        (
            b"GET /hello HTTP/1.1\r\nHost: other.example\r\nUpgrade: websocket\r\n"
            b"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            b"421",
        ),
    ],
)
def test_http1_answers_421_as_well(
    naming: Serve, pairs: dict[str, str], request_head: bytes, status: bytes
) -> None:
    server = naming(check_authority=True)
    with _connect(server, _context(server, pairs, "http/1.1"), "shop.example") as sock:
        sock.sendall(request_head)
        assert sock.recv(12) == b"HTTP/1.1 " + status
