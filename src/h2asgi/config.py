"""Settings as frozen dataclasses, one per slice; no I/O happens here.

Each field is declared once, by ``option()``: its default, its name on the
command line, its topic and its explanation. The command line, the environment
(``H2ASGI_`` and the name in capitals), the TOML file and the keyword arguments
of ``h2asgi.run()`` are all read off these declarations; see ``options.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

KIB = 1024
MIB = 1024 * KIB

MIN_WINDOW = 65_535
"""RFC 9113 section 6.9.2: a client may send this much before it has seen our SETTINGS."""

MAX_WINDOW = 2**31 - 1
MIN_FRAME_SIZE = 16_384
MAX_FRAME_SIZE = 2**24 - 1
"""RFC 9113 section 6.5.2 bounds SETTINGS_MAX_FRAME_SIZE."""


MAX_HEADER_FIELDS = 256
"""Of one request: more than twice what any other server allows that counts them strictly."""


def option(
    default: Any,
    name: str,
    topic: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    metavar: str | None = None,
    separator: str = ",",
    words: Mapping[str, object] | None = None,
) -> Any:
    """Declare one setting. ``name`` is the command-line name without its dashes.

    ``separator`` stands between values of a repeatable setting in the environment,
    ``words`` are texts that stand for a value.
    """
    metadata = {
        "name": name,
        "topic": topic,
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "metavar": metavar,
        "separator": separator,
        "words": words or {},
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindConfig:
    """Where to listen."""

    host: str | None = option(
        None, "host", "Listening",
        "Host name or address to listen on. [default: loopback, 127.0.0.1 and ::1]",
    )  # fmt: skip
    port: int | None = option(
        None, "port", "Listening",
        "Port to listen on; 0 takes a free one. [default: 8443 with TLS, 8000 without]",
        minimum=0, maximum=65_535,
    )  # fmt: skip
    bind: tuple[str, ...] = option(
        (), "bind", "Listening",
        "Address to listen on instead of --host and --port: host:port, [::1]:port, unix:/path "
        "or fd://3. Repeatable.",
    )  # fmt: skip
    backlog: int = option(
        2048, "backlog", "Listening",
        "Connections that the kernel may hold before they are accepted.", minimum=1,
    )  # fmt: skip
    redirect_http: int | None = option(
        None, "redirect-http", "Listening",
        "A further port, in the clear, whose clients are sent to https; mostly 80.",
        minimum=0, maximum=65_535, metavar="PORT",
    )  # fmt: skip
    redirect_to: int | None = option(
        None, "redirect-to", "Listening",
        "Port that they are sent to, if clients see another than the one listened on.",
        minimum=1, maximum=65_535, metavar="PORT",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """Certificates and what TLS may negotiate."""

    certfile: str | None = option(
        None, "certfile", "TLS",
        "PEM file with the certificate and its chain, and the key unless --keyfile names it.",
        metavar="FILE",
    )  # fmt: skip
    keyfile: str | None = option(
        None, "keyfile", "TLS", "PEM file with the private key.", metavar="FILE"
    )
    keyfile_password: str | None = option(
        None, "keyfile-password", "TLS", "Password of the private key."
    )
    keyfile_password_file: str | None = option(
        None, "keyfile-password-file", "TLS",
        "File whose first line is the password of the private key.", metavar="FILE",
    )  # fmt: skip
    min_version: Literal["1.2", "1.3"] = option(
        "1.2", "tls-min-version", "TLS", "Lowest TLS version to accept."
    )
    ciphers: str | None = option(
        None, "ciphers", "TLS",
        "TLS 1.2 cipher suites in OpenSSL's notation; those that RFC 9113 forbids are refused.",
    )  # fmt: skip
    named_certificates: tuple[str, ...] = option(
        (), "cert", "TLS",
        "Certificate for clients that ask for NAME, such as example.com or *.example.com; "
        "--certfile is for all others. Repeatable.",
        metavar="NAME=CERTFILE[,KEYFILE]", separator=";",
    )  # fmt: skip
    check_authority: bool = option(
        False, "check-authority", "TLS",
        "Answer 421 to requests for a name that the certificate of their connection does not "
        "cover.",
    )  # fmt: skip
    ca_certs: str | None = option(
        None, "ca-certs", "TLS",
        "PEM file with the authorities whose client certificates are accepted.", metavar="FILE",
    )  # fmt: skip
    cert_reqs: Literal["none", "optional", "required"] = option(
        "none", "cert-reqs", "TLS",
        "Whether clients are asked for a certificate, and turned away without one.",
    )  # fmt: skip
    crl_file: str | None = option(
        None, "crl-file", "TLS",
        "PEM file with a revocation list of every authority above a client certificate.",
        metavar="FILE",
    )  # fmt: skip
    dev_cert: bool = option(
        False, "dev-cert", "TLS",
        "Serve with a certificate for local development, made and renewed for you.",
    )  # fmt: skip
    dev_cert_names: tuple[str, ...] = option(
        (), "dev-cert-name", "TLS",
        "A further name or address that the development certificate covers. Repeatable.",
    )  # fmt: skip

    @property
    def enabled(self) -> bool:
        """Whether connections are to be TLS."""
        return self.certfile is not None or self.dev_cert


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTP1Config:
    """HTTP/1.1 (RFC 9112)."""

    enabled: bool = option(True, "http1", "Protocols", "Speak HTTP/1.1.")
    engine: Literal["auto", "h11", "httptools"] = option(
        "auto", "http1-engine", "Protocols",
        "Library that parses HTTP/1.1; auto takes httptools when it is installed.",
    )  # fmt: skip
    max_head_size: int = option(
        64 * KIB, "http1-max-head-size", "Protocols",
        "Octets of request line and header fields; more is answered with 431 or 414.",
        minimum=1 * KIB,
    )  # fmt: skip
    receive_window: int = option(
        256 * KIB, "http1-receive-window", "Protocols",
        "Octets of request body that may wait for the application before reading stops.",
        minimum=1 * KIB,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTP2Config:
    """HTTP/2 (RFC 9113)."""

    enabled: bool = option(True, "http2", "Protocols", "Speak HTTP/2.")
    engine: Literal["auto", "h2", "ngh2"] = option(
        "auto", "http2-engine", "Protocols",
        "Library for HTTP/2; auto takes ngh2 when it is installed.",
    )  # fmt: skip
    max_concurrent_streams: int = option(
        128, "http2-max-concurrent-streams", "Protocols",
        "Requests that one connection may have open; one more is refused on its stream.",
        minimum=1, maximum=2**31 - 1,
    )  # fmt: skip
    stream_window: int = option(
        256 * KIB, "http2-stream-window", "Protocols",
        "Octets of request body that one stream may have unread.",
        minimum=MIN_WINDOW, maximum=MAX_WINDOW,
    )  # fmt: skip
    connection_window: int = option(
        1 * MIB, "http2-connection-window", "Protocols",
        "Octets of request bodies that one connection may have unread before the window grows.",
        minimum=MIN_WINDOW, maximum=MAX_WINDOW,
    )  # fmt: skip
    max_connection_window: int = option(
        16 * MIB, "http2-max-connection-window", "Protocols",
        "What the connection window may grow to, so that unread streams do not starve the others.",
        minimum=MIN_WINDOW, maximum=MAX_WINDOW,
    )  # fmt: skip
    window_growth: bool = option(
        True, "http2-window-growth", "Protocols",
        "Let windows grow, as measured by PING, until they hold back no peer that is read from.",
    )  # fmt: skip
    max_frame_size: int = option(
        16 * KIB, "http2-max-frame-size", "Protocols",
        "Largest frame payload to accept, in octets.",
        minimum=MIN_FRAME_SIZE, maximum=MAX_FRAME_SIZE,
    )  # fmt: skip
    max_header_list_size: int = option(
        64 * KIB, "http2-max-header-list-size", "Protocols",
        "Octets of decoded header fields, 32 more counted for each; more is answered with 431.",
        minimum=1 * KIB,
    )  # fmt: skip
    priorities: bool = option(
        True, "priorities", "Protocols",
        "Send HTTP/2 responses in the order that clients and applications ask for (RFC 9218), "
        "instead of fair shares for all.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketConfig:
    """WebSockets over HTTP/1.1 (RFC 6455) and over HTTP/2 (RFC 8441)."""

    enabled: bool = option(
        True, "ws", "WebSockets", "Serve WebSockets over every protocol that is spoken."
    )
    engine: Literal["auto", "wsproto", "websockets"] = option(
        "auto", "ws-engine", "WebSockets",
        "Library for WebSocket frames; auto takes websockets when it is installed.",
    )  # fmt: skip
    max_message_size: int = option(
        16 * MIB, "ws-max-message-size", "WebSockets",
        "Octets of a message, inflated and with all its fragments; more closes with 1009.",
        minimum=1,
    )  # fmt: skip
    per_message_deflate: bool = option(
        True, "ws-per-message-deflate", "WebSockets",
        "Compress messages when the client offers it (RFC 7692).",
    )  # fmt: skip
    ping_interval: float = option(
        20.0, "ws-ping-interval", "WebSockets",
        "How long until a WebSocket gets its next Ping; 0 sends none.", minimum=0.0,
    )  # fmt: skip
    ping_timeout: float = option(
        20.0, "ws-ping-timeout", "WebSockets",
        "How long a Pong may take before the connection counts as lost; 0 waits for ever.",
        minimum=0.0,
    )  # fmt: skip
    close_timeout: float = option(
        10.0, "ws-close-timeout", "WebSockets",
        "How long the peer may take to answer a Close frame.", minimum=0.1,
    )  # fmt: skip
    origins: tuple[str, ...] = option(
        (), "ws-origin", "WebSockets",
        "Origin whose pages may open WebSockets, such as https://example.com; others get 403. "
        "Repeatable. [default: every origin]",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines, in seconds."""

    tls_handshake: float = option(
        10.0, "tls-handshake-timeout", "Timeouts", "For the TLS handshake.", minimum=0.1
    )
    first_bytes: float = option(
        10.0, "first-bytes-timeout", "Timeouts",
        "For the first bytes of a connection, and the HTTP/2 preface.", minimum=0.1,
    )  # fmt: skip
    request_headers: float = option(
        30.0, "request-headers-timeout", "Timeouts",
        "From the first octet of a request head to its last.", minimum=0.1,
    )  # fmt: skip
    request_body: float = option(
        60.0, "request-body-timeout", "Timeouts",
        "How long no octet of an awaited request body may come before the request is answered "
        "with 408; 0 waits for ever.",
        minimum=0.0,
    )  # fmt: skip
    write: float = option(
        60.0, "write-timeout", "Timeouts",
        "How long a client may take nothing of what waits for it; 0 waits for ever.",
        minimum=0.0,
    )  # fmt: skip
    min_transfer_rate: int = option(
        100, "min-transfer-rate", "Timeouts",
        "Octets a second that a client sends of a body with a declared length, and takes of what "
        "waits for it; 0 asks for none.",
        minimum=0,
    )  # fmt: skip
    keep_alive: float = option(
        75.0, "keep-alive-timeout", "Timeouts",
        "How long an HTTP/1.1 connection may wait for its next request.", minimum=0.1,
    )  # fmt: skip
    http2_idle: float = option(
        300.0, "http2-idle-timeout", "Timeouts",
        "How long an HTTP/2 connection without streams stays open.", minimum=0.1,
    )  # fmt: skip
    http2_ping_interval: float = option(
        0.0, "http2-ping-interval", "Timeouts",
        "How long an HTTP/2 connection may be silent before it gets a PING; 0 sends none.",
        minimum=0.0,
    )  # fmt: skip
    http2_ping_timeout: float = option(
        20.0, "http2-ping-timeout", "Timeouts",
        "How long such a PING may take before the connection counts as lost.", minimum=0.1,
    )  # fmt: skip
    response: float = option(
        0.0, "response-timeout", "Timeouts",
        "How long the application may take to begin a response once the request is complete; "
        "then it is cancelled, and the answer is 503. 0 waits for ever.",
        minimum=0.0,
    )  # fmt: skip
    max_connection_age: float = option(
        0.0, "max-connection-age", "Timeouts",
        "How old a connection may become, give or take a tenth, before it is ended gracefully; "
        "0 sets no bound.",
        minimum=0.0,
    )  # fmt: skip
    graceful: float = option(
        25.0, "graceful-timeout", "Timeouts",
        "How long requests in flight may go on once the server is asked to stop.", minimum=0.0,
    )  # fmt: skip
    lifespan_shutdown: float = option(
        5.0, "lifespan-shutdown-timeout", "Timeouts",
        "How long the application's lifespan shutdown may take.", minimum=0.0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may cost, so that no few of them can use up the server."""

    connections: int | None = option(
        None, "limit-connections", "Limits",
        "Connections that the process may have open; more wait, unless idle ones give way. "
        "[default: three quarters of its file descriptors, 10,000 at most]",
        minimum=2,
    )  # fmt: skip
    connections_per_address: int | None = option(
        None, "limit-connections-per-address", "Limits",
        "The same for one IPv4 address or IPv6 /64; more are closed at once. [default: no limit]",
        minimum=1,
    )  # fmt: skip
    concurrency: int | None = option(
        None, "limit-concurrency", "Limits",
        "Requests and WebSockets in work in the process; more are answered with 503 and "
        "retry-after. [default: no limit]",
        minimum=1,
    )  # fmt: skip
    requests_per_connection: int | None = option(
        None, "limit-requests-per-connection", "Limits",
        "Requests after which a connection ends: gracefully on HTTP/2, with connection: close on "
        "HTTP/1.1. [default: no limit]", minimum=1,
    )  # fmt: skip
    http2_max_header_fields: int = option(
        MAX_HEADER_FIELDS, "http2-max-header-fields", "Limits",
        "Header fields of one request, all its cookies counted as one; more is answered with 431.",
        minimum=16,
    )  # fmt: skip
    http2_reset_burst: int = option(
        1000, "http2-reset-burst", "Limits",
        "Requests of one HTTP/2 connection that may come to nothing at once: reset by the client, "
        "refused or rejected.", minimum=1,
    )  # fmt: skip
    http2_reset_rate: int = option(
        100, "http2-reset-rate", "Limits",
        "How many more of them each second; past both the connection ends.", minimum=0,
    )  # fmt: skip
    http2_control_burst: int = option(
        10_000, "http2-control-burst", "Limits",
        "HTTP/2 frames without content that one client may send at once, beyond two for each "
        "frame that it is sent.", minimum=100,
    )  # fmt: skip
    http2_control_rate: int = option(
        1000, "http2-control-rate", "Limits",
        "How many more of them each second; past both the connection ends.", minimum=1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, and where."""

    level: Literal["debug", "info", "warning", "error", "critical"] = option(
        "info", "log-level", "Logging", "Lowest level of server messages to show, on stderr."
    )
    access_log: bool = option(True, "access-log", "Logging", "Log every request.")
    access_log_file: str | None = option(
        None, "access-log-file", "Logging",
        "File for the access log. [default: stdout]", metavar="FILE",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything; below ``server.py`` a part is handed only the slice it needs."""

    app: str | Callable[..., Any] = ""
    factory: bool = option(
        False, "factory", "Application", "APP is a function that returns the application."
    )
    app_dir: str = option(
        ".", "app-dir", "Application", "Folder to import APP from.", metavar="DIR"
    )
    root_path: str = option(
        "", "root-path", "Application", "Prefix that a proxy in front serves the application under."
    )
    lifespan: Literal["auto", "on", "off"] = option(
        "auto", "lifespan", "Application",
        "Whether to run the application's lifespan; auto goes on when it has none.",
    )  # fmt: skip
    gc_tuning: bool = option(
        True, "gc-tuning", "Application",
        "Make garbage collection rare, and leave out what lives when the application has started.",
    )  # fmt: skip
    loop: Literal["auto", "asyncio", "uvloop"] = option(
        "auto", "loop", "Protocols", "Event loop; auto takes uvloop when it is installed."
    )
    workers: int = option(
        1, "workers", "Application",
        "Processes that share the listening sockets, each with an application of its own; "
        "auto is one for each usable core.",
        minimum=0, words={"auto": 0},
    )  # fmt: skip
    server_header: bool = option(
        True, "server-header", "Protocols", "Send a server field with responses."
    )
    date_header: bool = option(
        True, "date-header", "Protocols", "Send a date field with responses."
    )
    bind: BindConfig = field(default_factory=BindConfig)
    tls: TLSConfig = field(default_factory=TLSConfig)
    http1: HTTP1Config = field(default_factory=HTTP1Config)
    http2: HTTP2Config = field(default_factory=HTTP2Config)
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    log: LogConfig = field(default_factory=LogConfig)
