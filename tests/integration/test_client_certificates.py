"""Client certificates, with real clients: who is let in, and what the application is told."""

from __future__ import annotations

import ast
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import probe_app
import pytest
from apps.letters import HANG
from client_certificates import DAY, ClientAuthority, ClientCertificate
from h2client import H2Client
from serving import BackgroundServer

from h2asgi.config import TLSConfig
from h2asgi.tls import engine_name

Serve = Callable[..., BackgroundServer]
ALERTS = {
    "missing": "certificate required|handshake failure",
    "expired": "certificate expired|curl: .60. SSL certificate verification failed",  # curl's own
    "revoked": "certificate revoked",
    "foreign": "unknown ca",
}
"""RFC 8446 section 6.2, in OpenSSL's words; TLS 1.2 has none for a certificate that is missing."""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> ClientAuthority:
    return ClientAuthority(tmp_path_factory.mktemp("client-certificates"))


@pytest.fixture
def asking(serve: Serve, authority: ClientAuthority) -> Callable[..., BackgroundServer]:
    def start(cert_reqs: str = "required", **options: object) -> BackgroundServer:
        options = {"ca_certs": authority.ca_file, "crl_file": authority.crl_file, **options}
        return serve(probe_app.app, cert_reqs=cert_reqs, **options)

    return start


@pytest.fixture(params=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _context(
    server: BackgroundServer, client: ClientCertificate | None, version: str = "1.3"
) -> ssl.SSLContext:
    assert server.certificate is not None
    context = server.certificate.client_context()
    context.minimum_version = context.maximum_version = {
        "1.2": ssl.TLSVersion.TLSv1_2,
        "1.3": ssl.TLSVersion.TLSv1_3,
    }[version]
    if client is not None:
        context.load_cert_chain(client.file)
    return context


class Refused(Exception):
    """With what the client says about it."""


def _httpx(server: BackgroundServer, client: Any, version: str, protocol: str) -> str:
    with httpx.Client(
        verify=_context(server, client, version),
        http2=protocol == "HTTP/2",
        http1=protocol == "HTTP/1.1",
        timeout=HANG,
        trust_env=False,
    ) as session:
        try:
            response = session.get(f"{server.url}/scope")
        except httpx.TransportError as error:
            raise Refused(str(error)) from None
        assert response.http_version == protocol
        return response.text


def _curl(server: BackgroundServer, client: Any, version: str, protocol: str) -> str:
    assert server.certificate is not None
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--max-time", str(HANG)),
            *("--cacert", server.certificate.ca_file, f"--tlsv{version}", "--tls-max", version),
            *(("--cert", client.file) if client else ()),
            *("--http2" if protocol == "HTTP/2" else "--http1.1", f"{server.url}/scope"),
        ],
        capture_output=True,
        timeout=2 * HANG,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def _ssl(server: BackgroundServer, client: Any, version: str, protocol: str) -> str:
    context = _context(server, client, version)
    context.set_alpn_protocols(["h2" if protocol == "HTTP/2" else "http/1.1"])
    try:
        return _ask(server, context, protocol)[0]
    except ssl.SSLError as error:
        raise Refused(str(error)) from None


def _ask(
    server: BackgroundServer,
    context: ssl.SSLContext,
    protocol: str,
    session: ssl.SSLSession | None = None,
) -> tuple[str, ssl.SSLSession | None, bool]:
    """Give the scope, the session that can be resumed, and whether this one was."""
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=HANG)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
        reused = bool(sock.session_reused)
        if protocol == "HTTP/2":
            client = H2Client(sock)
            (response,) = client.finish(client.start("/scope"))
            return response.body.decode(), sock.session, reused
        sock.sendall(b"GET /scope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while data := sock.recv(65_536):
            received += data
        return received.partition(b"\r\n\r\n")[2].decode(), sock.session, reused


CLIENTS = {"httpx": _httpx, "curl": _curl, "ssl": _ssl}


@pytest.fixture(params=["httpx", pytest.param("curl", marks=pytest.mark.tool("curl")), "ssl"])
def ask(request: pytest.FixtureRequest) -> Callable[..., str]:
    return CLIENTS[request.param]


def _tls(scope: str) -> dict[str, Any]:
    extension: dict[str, Any] = ast.literal_eval(scope)["extensions"]["tls"]
    return extension


def test_a_good_certificate_is_shown_to_the_application(
    asking: Serve,
    authority: ClientAuthority,
    ask: Callable[..., str],
    version: str,
    protocol: str,
) -> None:
    """ASGI TLS extension 0.2, complete."""
    server = asking()
    assert server.certificate is not None
    extension = _tls(ask(server, authority["good"], version, protocol))
    # AES-GCM with 256 bits or, for TLS 1.3 by pyOpenSSL, 128.
    newer = 0x1301 if engine_name(TLSConfig()) == "pyopenssl" else 0x1302
    number, suite = {"1.2": (0x0303, 0xC02C), "1.3": (0x0304, newer)}[version]
    assert extension == {
        "server_cert": Path(server.certificate.certfile).read_text(),
        "tls_version": number,
        "cipher_suite": suite,
        "client_cert_chain": authority["good"].chain,
        "client_cert_name": "CN=good\\, client,OU=Clients,O=Example",
        "client_cert_error": None,
    }


@pytest.mark.parametrize("kind", ["missing", "expired", "revoked", "foreign"])
def test_whoever_has_no_good_certificate_is_turned_away_and_told_why(
    asking: Serve,
    authority: ClientAuthority,
    kind: str,
    ask: Callable[..., str],
    version: str,
    protocol: str,
) -> None:
    server = asking()
    client = None if kind == "missing" else authority[kind]
    with pytest.raises(Refused) as refused:
        ask(server, client, version, protocol)
    assert re.search(ALERTS[kind], str(refused.value).replace("_", " "), re.IGNORECASE)


def test_where_none_is_required_a_client_without_one_is_let_in(
    asking: Serve, ask: Callable[..., str], version: str, protocol: str
) -> None:
    extension = _tls(ask(asking("optional"), None, version, protocol))
    assert extension["client_cert_chain"] == ()
    assert (extension["client_cert_name"], extension["client_cert_error"]) == (None, None)


@pytest.mark.parametrize("kind", ["expired", "revoked", "foreign"])
def test_a_bad_certificate_is_turned_away_where_none_is_required(
    asking: Serve, authority: ClientAuthority, kind: str, version: str
) -> None:
    with pytest.raises(Refused):
        _ssl(asking("optional"), authority[kind], version, "HTTP/2")


def test_without_being_asked_a_client_shows_no_certificate(
    serve: Serve, authority: ClientAuthority, version: str, protocol: str
) -> None:
    extension = _tls(_ssl(serve(probe_app.app), authority["foreign"], version, protocol))
    assert extension["client_cert_chain"] == ()


def test_the_chain_is_what_the_client_sent(
    asking: Serve, authority: ClientAuthority, version: str
) -> None:
    """Not the authority's own certificate, which the server has, nor what proves nothing."""
    client = authority.issue_below(f"below-{version}")
    with open(client.file, "a") as file:
        file.write(authority["foreign"].chain[0])
    server = asking(crl_file=None)
    extension = _tls(_ssl(server, client, version, "HTTP/1.1"))
    assert len(client.chain) == 2
    assert extension["client_cert_chain"] == client.chain


def test_every_authority_of_the_chain_needs_its_revocation_list(
    asking: Serve, authority: ClientAuthority
) -> None:
    client = authority.issue_below("unlisted")
    with pytest.raises(Refused):
        _ssl(asking(), client, "1.3", "HTTP/2")


def test_a_revocation_list_that_is_out_of_date_lets_nobody_in(
    asking: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = ClientAuthority(tmp_path)
    authority.revoke(end=-DAY)
    server = asking(ca_certs=authority.ca_file, crl_file=authority.crl_file)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"in {authority.crl_file} expired at" in warning.getMessage()
    with pytest.raises(Refused):
        _ssl(server, authority["good"], "1.3", "HTTP/2")


def test_the_last_line_of_the_authorities_need_not_end(asking: Serve, tmp_path: Path) -> None:
    authority = ClientAuthority(tmp_path)
    file = Path(authority.ca_file)
    file.write_bytes(file.read_bytes().rstrip())
    server = asking(ca_certs=authority.ca_file, crl_file=authority.crl_file)
    _ssl(server, authority["good"], "1.3", "HTTP/2")


@pytest.mark.parametrize("cert_reqs", ["optional", "required"])
def test_a_session_is_resumed_with_the_certificate_it_began_with(
    asking: Serve, authority: ClientAuthority, cert_reqs: str, version: str, protocol: str
) -> None:
    """RFC 8446 section 2.2: no certificate is sent then; of the chain the leaf is remembered."""
    client = authority.issue_below(f"resuming-{cert_reqs}-{version}-{protocol[-1]}")
    server = asking(cert_reqs, crl_file=None)
    context = _context(server, client, version)
    context.set_alpn_protocols(["h2" if protocol == "HTTP/2" else "http/1.1"])
    scope, session, resumed = _ask(server, context, protocol)
    first = _tls(scope)
    assert (len(first["client_cert_chain"]), resumed) == (2, False)
    scope, _, resumed = _ask(server, context, protocol, session)
    assert resumed
    again = _tls(scope)
    assert again["client_cert_chain"] == client.chain[:1]
    assert again["client_cert_name"] == first["client_cert_name"]


def test_a_session_of_another_server_does_not_stand_for_a_certificate(
    asking: Serve, serve: Serve, version: str
) -> None:
    """A ticket that was given without a certificate is of no use where one is required."""
    context = _context(serve(probe_app.app), None, version)
    context.set_alpn_protocols(["h2"])
    for lax in (serve(probe_app.app), asking("optional")):
        _, session, _ = _ask(lax, context, "HTTP/2")
        assert session is not None
        assert session.has_ticket
        with pytest.raises(ssl.SSLError):
            _ask(asking(), context, "HTTP/2", session)


def test_requests_of_a_connection_do_not_share_what_they_change(
    serve: Serve, authority: ClientAuthority
) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            told.append(scope["extensions"]["tls"]["client_cert_name"])
            scope["extensions"]["tls"]["client_cert_name"] = "CN=somebody else"
        await probe_app.app(scope, receive, send)

    server = serve(app, cert_reqs="required", ca_certs=authority.ca_file)
    with httpx.Client(verify=_context(server, authority["good"]), http2=True) as client:
        for _ in range(2):
            client.get(f"{server.url}/hello").raise_for_status()
    assert told == ["CN=good\\, client,OU=Clients,O=Example"] * 2


@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
def test_in_the_clear_there_is_no_extension(serve: Serve, protocol: str) -> None:
    server = serve(probe_app.app, tls=False)
    sock = server.connect()
    if protocol == "HTTP/2":
        with H2Client(sock) as client:
            (response,) = client.finish(client.start("/scope"))
        text = response.body.decode()
    else:
        with sock:
            sock.sendall(b"GET /scope HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b""
            while data := sock.recv(65_536):
                received += data
        text = received.partition(b"\r\n\r\n")[2].decode()
    assert "tls" not in ast.literal_eval(text).get("extensions", {})
