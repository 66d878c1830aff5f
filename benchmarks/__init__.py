"""Measures h2asgi beside other servers: ``python -m benchmarks``. See README.md in this folder."""
