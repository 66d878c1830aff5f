"""The opening handshake, the server's side (RFC 6455 section 4.2, RFC 8441 section 5)."""

from __future__ import annotations

from ...config import WebSocketConfig
from ...errors import H2ASGIError
from ..events import Headers, RequestReceived
from .codec import Codec


class HandshakeRejected(H2ASGIError):
    """A handshake to be answered with ``status``, ``headers`` and ``reason`` as the body.

    400 if it is malformed, 426 for another version, 403 for a foreign Origin.
    ``headers`` has only what the status asks for.
    """

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers: Headers = headers or []


class Handshake:
    """A handshake that may be accepted. ``subprotocols`` are the client's, in its order."""

    subprotocols: list[str]

    def accept(self, subprotocol: str | None, headers: Headers) -> Headers:
        """Give the fields of the accepting response for ``Engine.accept_tunnel``.

        ``headers`` are the application's, legal as fields. Raises ``IllegalMessage``
        for a subprotocol that the client has not offered (RFC 6455 section 4.2.2),
        and for fields that belong to the handshake or frame the message.
        """
        raise NotImplementedError

    def codec(self, kind: type[Codec]) -> Codec:
        """Give the codec for what was negotiated.

        ``kind`` is what ``engines.websocket_codec`` chose.
        """
        raise NotImplementedError


def check_handshake(request: RequestReceived, config: WebSocketConfig) -> Handshake:
    """Check the request for a WebSocket; raises ``HandshakeRejected``."""
    raise NotImplementedError
