"""The server name in a ClientHello (RFC 6066 section 3), read before OpenSSL has it.

Python's ``sni_callback`` comes too late and too rashly: OpenSSL has resumed a session
by then, whatever name it was made for, and a name that is not ASCII makes Python
print a traceback. What is wrong with a ClientHello is left to OpenSSL to say.
"""

from __future__ import annotations

MAX_SIZE = 16 * 1024
"""Octets that are looked through: a ClientHello has two thousand at most, in one record or two."""

_HANDSHAKE = 22  # RFC 8446 section 5.1
_CLIENT_HELLO = 1  # section 4
_SERVER_NAME = 0  # RFC 6066 section 1.1
_HOST_NAME = 0  # section 3
_RECORD_HEADER_SIZE = 5
_MESSAGE_HEADER_SIZE = 4
_VERSION_AND_RANDOM_SIZE = 34


class ClientHello:
    """Takes the first octets of a connection; ``server_name`` is what was found, in lower case."""

    def __init__(self) -> None:
        self.server_name: str | None = None
        self._size = 0
        self._records = bytearray()
        self._message = bytearray()

    def feed(self, data: bytes) -> bool:
        """Say whether that was all of it, or all that is looked at."""
        self._size += len(data)
        self._records += data
        while len(self._records) >= _RECORD_HEADER_SIZE:
            if self._records[0] != _HANDSHAKE:
                return True
            end = _RECORD_HEADER_SIZE + int.from_bytes(self._records[3:_RECORD_HEADER_SIZE])
            if len(self._records) < end:
                break
            self._message += self._records[_RECORD_HEADER_SIZE:end]
            del self._records[:end]
        if self._is_whole():
            self._read()
            return True
        return self._size > MAX_SIZE

    def _is_whole(self) -> bool:
        message = self._message
        if len(message) < _MESSAGE_HEADER_SIZE:
            return False
        return len(message) >= _MESSAGE_HEADER_SIZE + int.from_bytes(message[1:4])

    def _read(self) -> None:
        if self._message[0] != _CLIENT_HELLO:
            return
        try:
            name = _server_name(bytes(self._message[_MESSAGE_HEADER_SIZE:]))
            self.server_name = name.decode("ascii").lower() if name else None
        except ValueError:
            pass


def _server_name(hello: bytes) -> bytes | None:
    """Read the name from a ClientHello without its header (RFC 8446 section 4.1.2)."""
    rest = hello[_VERSION_AND_RANDOM_SIZE:]
    for length_size in (1, 2, 1):  # session id, cipher suites, compression methods
        _, rest = _vector(rest, length_size)
    extensions, _ = _vector(rest, 2)
    while extensions:
        kind = int.from_bytes(extensions[:2])
        content, extensions = _vector(extensions[2:], 2)
        if kind == _SERVER_NAME:
            names, _ = _vector(content, 2)
            return _vector(names[1:], 2)[0] if names[:1] == bytes([_HOST_NAME]) else None
    return None


def _vector(data: bytes, length_size: int) -> tuple[bytes, bytes]:
    """Split off a vector with its length in front (RFC 8446 section 3.4); ValueError if cut off."""
    end = length_size + int.from_bytes(data[:length_size])
    if len(data) < max(end, length_size):
        raise ValueError("cut off")
    return data[length_size:end], data[end:]
