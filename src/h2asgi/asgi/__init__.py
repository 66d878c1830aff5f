"""The ASGI side: scopes, bodies and the request cycle. Knows no protocol library."""
