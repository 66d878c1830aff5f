"""Every exception that h2asgi raises on purpose.

H2ASGIError
├── ConfigurationError          an operator's mistake; exit code 2
├── ApplicationError            the application did not import or start; exit code 3
├── IllegalMessage              the application sent a message ASGI does not allow here
├── PeerError                   a peer broke the rules of the protocol
│   ├── PeerStreamError         costs one stream (RFC 9113 section 5.4.2)
│   └── PeerConnectionError     costs the connection (RFC 9113 section 5.4.1)
└── ClientDisconnected          also an OSError, as ASGI asks of ``send()``
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """HTTP/2 error codes (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class H2ASGIError(Exception):
    """The root of the tree above."""


class ConfigurationError(H2ASGIError):
    """An option, file or address that cannot work; the text is one sentence for the operator."""

    exit_code = 2


class ApplicationError(H2ASGIError):
    """The application could not be imported, or its startup failed."""

    exit_code = 3


class IllegalMessage(H2ASGIError, RuntimeError):
    """The application sent something that ASGI forbids at this point."""


class PeerError(H2ASGIError):
    """A peer broke a rule; ``error_code`` is what it is told."""

    def __init__(self, error_code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.error_code = error_code
        self.reason = reason


class PeerStreamError(PeerError):
    """Ends one stream; its siblings live on (RFC 9113 section 5.4.2)."""


class PeerConnectionError(PeerError):
    """Ends the connection (RFC 9113 section 5.4.1)."""


class ClientDisconnected(H2ASGIError, OSError):
    """The client is gone: raised from ``send()`` (ASGI HTTP spec, "Disconnected Client")."""
