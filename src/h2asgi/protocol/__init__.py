"""HTTP without I/O: bytes in, events out, bytes to send. No asyncio, no clock, no logging."""
