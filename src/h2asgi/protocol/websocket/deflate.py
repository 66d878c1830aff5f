"""permessage-deflate (RFC 7692): what is negotiated, and the bounded inflating."""

from __future__ import annotations


class PerMessageDeflate:
    """The compression of one WebSocket, both ways."""
