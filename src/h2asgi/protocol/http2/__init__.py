"""HTTP/2 engines (RFC 9113)."""
