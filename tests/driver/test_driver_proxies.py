"""What applications and the access log are told of clients behind proxies, and health checks."""

from __future__ import annotations

from typing import Any

import pytest
from applications import START, body, hello
from peers import HTTP2Peer
from tunnel_peers import HEAD

from h2asgi.config import Limits
from h2asgi.forwarded import Forwarding
from h2asgi.health import Health
from h2asgi.protocol.proxy import ClientTLS, ProxyHeader
from h2asgi.trust import Trusted

GET = b"GET / HTTP/1.1\r\nhost: origin\r\n%b\r\n"
CLIENT, PROXY, SERVER = ("192.0.2.7", 0), ("10.0.0.1", 5000), ("192.0.2.9", 443)
ADDRESSES = ("192.0.2.7", 50_000), ("198.51.100.1", 8443)


class Scopes:
    """Keeps the scopes of its requests."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send(START)
            await send(body(b"hello"))

    @property
    def scope(self) -> Any:
        return self.scopes[-1]


@pytest.fixture
def app() -> Scopes:
    return Scopes()


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def ask(request, driver):
    """Ask on a new connection for a path, with fields besides; gives the status."""

    def http1(
        path: str = "/", *fields: tuple[str, str], method: str = "GET", **options: Any
    ) -> int:
        peer = driver.connect("http/1.1", **options)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        peer.send(f"{method} {path} HTTP/1.1\r\nhost: origin\r\n{lines}\r\n".encode())
        return int(peer.take().split(b" ")[1])

    def http2(
        path: str = "/", *fields: tuple[str, str], method: str = "GET", **options: Any
    ) -> int:
        peer = driver._accept(HTTP2Peer, "h2", **options).start()
        return int(peer.response(peer.request(method, path, *fields)).status)

    return http1 if request.param == "HTTP/1.1" else http2


def believe(driver: Any, *trusted: str, kind: Any = "x-forwarded") -> None:
    driver.state.forwarding = Forwarding(Trusted(trusted), kind)


# Forwarded fields.

FIELDS = [("x-forwarded-for", "6.6.6.6, 192.0.2.7"), ("x-forwarded-proto", "http")]


def test_a_proxy_that_is_believed_says_who_the_client_is(driver, app, ask):
    driver.serve(app)
    believe(driver, "10.0.0.0/8")
    assert ask("/", *FIELDS, peername=PROXY) == 200
    assert (app.scope["client"], app.scope["scheme"]) == (CLIENT, "http")
    assert driver.records[0].client == CLIENT


@pytest.mark.parametrize("peername", [("192.0.2.1", 5000), "", ("2001:db8::1", 5000, 0, 0)])
@pytest.mark.parametrize(
    "fields",
    [
        [*FIELDS, ("x-forwarded-host", "evil"), ("x-forwarded-port", "1")],
        [("forwarded", "for=6.6.6.6;proto=http;host=evil")],
    ],
)
def test_what_others_send_changes_nothing(driver, app, ask, peername, fields):
    driver.serve(app)
    believe(driver, "10.0.0.0/8", kind="x-forwarded" if len(fields) > 1 else "forwarded")
    assert ask("/", *fields, peername=peername) == 200
    client = tuple(peername[:2]) if peername else None
    assert (app.scope["client"], app.scope["scheme"]) == (client, "https")
    assert app.scope["server"] == SERVER
    assert app.scope["headers"][0] == (b"host", b"origin" if ask.__name__ == "http1" else b"a")
    assert driver.records[0].client == client


def test_nobody_is_believed_unless_it_is_asked_for(driver, app, ask):
    driver.serve(app)
    ask("/", *FIELDS, peername=PROXY)
    assert (app.scope["client"], app.scope["scheme"]) == (PROXY, "https")


def test_fields_of_the_other_kind_are_ignored(driver, app, ask):
    driver.serve(app)
    believe(driver, "*", kind="forwarded")
    ask("/", *FIELDS, peername=PROXY)
    assert (app.scope["client"], app.scope["scheme"]) == (PROXY, "https")
    ask("/", ("forwarded", 'for="[2001:db8::7]:1";proto=http'), peername=PROXY)
    assert (app.scope["client"], app.scope["scheme"]) == (("2001:db8::7", 1), "http")


def test_a_unix_socket_is_believed_when_it_is_named(driver, app, ask):
    driver.serve(app)
    believe(driver, "unix")
    ask("/", *FIELDS, peername="")
    assert app.scope["client"] == CLIENT


def test_each_request_of_a_connection_has_its_own_client(driver, app):
    driver.serve(app)
    believe(driver, "10.0.0.1")
    peer = driver.connect("http/1.1", peername=PROXY)
    for client in (b"192.0.2.7", b"192.0.2.8"):
        peer.send(GET % (b"x-forwarded-for: %b\r\n" % client))
    peer.send(GET % b"")
    clients = [scope["client"] for scope in app.scopes]
    assert clients == [("192.0.2.7", 0), ("192.0.2.8", 0), PROXY]
    assert [record.client for record in driver.records] == clients


def test_the_host_that_the_client_asked_for(driver, app, ask):
    driver.serve(app)
    believe(driver, "10.0.0.1")
    fields = [("x-forwarded-host", "a.example:8443"), ("x-forwarded-port", "8443")]
    ask("/", *fields, peername=PROXY)
    hosts = [value for name, value in app.scope["headers"] if name == b"host"]
    assert hosts == [b"a.example:8443"]
    assert app.scope["headers"][0][0] == b"host"
    assert app.scope["server"] == (SERVER[0], 8443)


@pytest.mark.parametrize(
    "value", ["", "unknown", ",,,", "\xff\xfe", '"', "1" * 5000, "a, b;c=d", "[::1"]
)
def test_malformed_fields_are_ignored(driver, app, ask, value, caplog):
    driver.serve(app)
    for kind in ("x-forwarded", "forwarded"):
        believe(driver, "*", kind=kind)
        names = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port")
        fields = [(name, value) for name in names]
        assert ask("/", *fields, peername=PROXY) == 200
        assert (app.scope["client"], app.scope["scheme"]) == (PROXY, "https")
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


def test_a_websocket_is_told_the_same(driver, app):
    driver.serve(app)
    believe(driver, "10.0.0.1")
    head = HEAD.format(path="/").encode()
    for proto, scheme in ((b"https", "wss"), (b"http", "ws"), (b"nonsense", "ws")):
        peer = driver.connect(False, peername=PROXY)
        fields = b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: %b\r\n\r\n" % proto
        peer.send(head.replace(b"\r\n\r\n", b"\r\n" + fields))
        assert app.scope["type"] == "websocket"
        assert (app.scope["client"], app.scope["scheme"]) == (CLIENT, scheme)
        assert driver.records[-1].client == CLIENT


def test_what_is_refused_has_the_client_in_the_access_log_too(driver, app, ask):
    driver.serve(app, limits=Limits(concurrency=0))
    believe(driver, "10.0.0.1")
    assert ask("/", *FIELDS, peername=PROXY) == 503
    assert driver.records[0].client == CLIENT


def test_what_is_rejected_as_malformed_has_the_proxy_there(driver, app):
    """Its fields were not believed far enough to be kept."""
    driver.serve(app)
    believe(driver, "10.0.0.1")
    peer = driver.connect("http/1.1", peername=PROXY)
    peer.send(GET % b"host: b\r\nx-forwarded-for: 192.0.2.7\r\n")
    assert driver.records[0].client == PROXY


# The PROXY protocol.


def test_a_proxy_header_says_who_the_client_is(driver, app, ask):
    driver.serve(app)
    ask("/", proxied=ProxyHeader(1, True, *ADDRESSES))
    assert (app.scope["client"], app.scope["server"]) == ADDRESSES
    assert app.scope["scheme"] == "https"
    assert "h2asgi.proxy_protocol" not in app.scope["extensions"]
    assert driver.records[0].client == ADDRESSES[0]


@pytest.mark.parametrize("version", [1, 2])
def test_a_connection_of_the_load_balancer_itself_keeps_its_address(driver, app, ask, version):
    driver.serve(app)
    ask("/", proxied=ProxyHeader(version), peername=PROXY)
    assert (app.scope["client"], app.scope["server"]) == (PROXY, SERVER)
    assert "h2asgi.proxy_protocol" not in app.scope["extensions"]


def test_a_client_on_a_unix_socket_has_no_address(driver, app, ask):
    driver.serve(app)
    ask("/", proxied=ProxyHeader(2, True), peername=PROXY)
    assert (app.scope["client"], app.scope["server"]) == (None, SERVER)


def test_values_of_version_2_are_an_extension(driver, app):
    driver.serve(app)
    tls = ClientTLS("TLSv1.3", "TLS_AES_128_GCM_SHA256", True, "alice")
    values = ((0xEA, b"\1vpce"),)
    header = ProxyHeader(2, True, *ADDRESSES, b"h2", "a.example", b"id", tls, values)
    peer = driver.connect(False, proxied=header)
    peer.send(GET % b"")
    expected = {
        "alpn": b"h2",
        "authority": "a.example",
        "unique_id": b"id",
        "tls": True,
        "tls_version": "TLSv1.3",
        "tls_cipher": "TLS_AES_128_GCM_SHA256",
        "client_cert_verified": True,
        "client_cert_common_name": "alice",
        "values": values,
    }
    assert app.scope["extensions"]["h2asgi.proxy_protocol"] == expected
    assert app.scope["scheme"] == "https"  # to the load balancer
    app.scope["extensions"]["h2asgi.proxy_protocol"].clear()
    peer.send(GET % b"")
    assert app.scope["extensions"]["h2asgi.proxy_protocol"] == expected


def test_values_that_are_not_there_are_none(driver, app):
    driver.serve(app)
    driver.connect(False, proxied=ProxyHeader(2, True, *ADDRESSES)).send(GET % b"")
    extension = app.scope["extensions"]["h2asgi.proxy_protocol"]
    assert extension.pop("values") == ()
    assert not any(extension.values())
    assert app.scope["scheme"] == "http"


def test_a_websocket_has_the_extension(driver, app):
    driver.serve(app)
    peer = driver.connect(False, proxied=ProxyHeader(2, True, *ADDRESSES))
    peer.send(HEAD.format(path="/").encode())
    assert app.scope["client"] == ADDRESSES[0]
    assert "h2asgi.proxy_protocol" in app.scope["extensions"]


def test_fields_are_believed_from_whom_the_header_names(driver, app, ask):
    """A layer-4 load balancer in front of proxies: those are believed, its own clients are not."""
    driver.serve(app)
    believe(driver, "10.0.0.0/8")
    proxy, client = (("10.0.0.2", 1), ADDRESSES[1]), ADDRESSES
    ask("/", *FIELDS, peername=PROXY, proxied=ProxyHeader(2, True, *proxy))
    assert app.scope["client"] == CLIENT
    ask("/", *FIELDS, peername=PROXY, proxied=ProxyHeader(2, True, *client))
    assert (app.scope["client"], app.scope["scheme"]) == (ADDRESSES[0], "https")
    ask("/", *FIELDS, peername=PROXY, proxied=ProxyHeader(2))
    assert app.scope["client"] == CLIENT


# Health checks.


@pytest.mark.parametrize(
    ("state", "status", "text"),
    [
        ("serving", 200, b"ok\n"),
        ("draining", 503, b"draining\n"),
        ("starting", 503, b"starting\n"),
    ],
)
def test_health_checks_are_answered_without_the_application(driver, app, state, status, text):
    driver.serve(app)
    driver.state.health = Health("/healthz")
    driver.state.health.state = state
    peer = driver.connect("http/1.1")
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        peer.send(b"%b /healthz?verbose HTTP/1.1\r\nhost: a\r\n\r\n" % method)
        head, _, content = peer.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\ncache-control: no-store\r\n" in head
        assert content == (b"" if method == b"HEAD" else text)
    http2 = driver.http2()
    response = http2.response(http2.request("GET", "/healthz"))
    assert (response.status, response.body, response.ended) == (status, text, True)
    assert app.scopes == []
    assert driver.records == []  # a line every second would be noise


@pytest.mark.parametrize("path", ["/", "/healthz/", "/healthzz", "/a/healthz", "/health%7a", "*"])
def test_other_paths_are_the_application_s(driver, app, ask, path):
    driver.serve(app)
    driver.state.health = Health("/healthz")
    assert ask(path, method="OPTIONS") == 200
    assert len(app.scopes) == 1


def test_a_websocket_at_the_path_is_the_application_s(driver, app):
    driver.serve(app)
    driver.state.health = Health("/healthz")
    driver.connect(False).send(HEAD.format(path="/healthz").encode())
    assert app.scope["type"] == "websocket"


def test_a_body_of_a_health_check_is_nobody_s(driver, app):
    driver.serve(app)
    driver.state.health = Health("/healthz")
    peer = driver.connect("http/1.1")
    check = b"POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"
    for _ in range(2):
        peer.send(check)
        assert peer.take().startswith(b"HTTP/1.1 503 ")
    http2 = driver.http2()
    stream_id = http2.request("POST", "/healthz", end_stream=False)
    http2.body(stream_id, b"hello", end_stream=True)
    assert http2.response(stream_id).status == 503
    assert http2.response(http2.request("GET", "/")).status == 200


def test_an_overloaded_server_is_healthy(driver, ask):
    """Whoever takes it out of the rotation gives its load to those that have as much."""
    driver.serve(hello, limits=Limits(concurrency=0))
    driver.state.health = Health("/healthz")
    driver.state.health.state = "serving"
    assert ask("/healthz") == 200
    assert ask("/") == 503


def test_workers_answer_for_all_of_them(driver, ask):
    driver.serve(hello)

    class Workers:
        def __init__(self) -> None:
            self.states = ["draining", "serving"]

        def state(self, own: str) -> Any:
            assert own == "starting"
            return self.states.pop()

        def ends(self) -> bool:
            raise AssertionError

    driver.state.health = Health("/healthz", Workers())
    assert [ask("/healthz"), ask("/healthz")] == [200, 503]
