"""WebSockets without I/O (RFC 6455, RFC 7692): the handshake, and frames to messages and back."""
