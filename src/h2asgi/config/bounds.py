"""How long anything may take, and how much there may be of it."""

from __future__ import annotations

from dataclasses import dataclass

from .option import KIB, MIB, option

MAX_HEADER_FIELDS = 256
"""Of one request: more than twice what any other server allows that counts them strictly."""


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
    unsent: int = option(
        256 * MIB, "limit-unsent", "Limits",
        "Octets of responses that may wait for their clients in the process; beyond, connections "
        "that take next to nothing are cut off, and at twice as much those with most.",
        minimum=16 * KIB,
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
