"""HTTP/1.1 engines (RFC 9112)."""
