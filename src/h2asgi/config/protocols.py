"""HTTP/1.1, HTTP/2 and WebSockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .option import KIB, MIB, option

MIN_WINDOW = 65_535
"""RFC 9113 section 6.9.2: a client may send this much before it has seen our SETTINGS."""

MAX_WINDOW = 2**31 - 1
MIN_FRAME_SIZE = 16_384
MAX_FRAME_SIZE = 2**24 - 1
"""RFC 9113 section 6.5.2 bounds SETTINGS_MAX_FRAME_SIZE."""


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
