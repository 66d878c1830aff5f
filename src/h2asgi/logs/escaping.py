"""Text of peers in lines of logs: nothing of it can end a line, or act on a terminal."""

from __future__ import annotations

import re

# C0, DEL, C1, the line separators that some viewers obey, the marks that turn
# text around, and surrogates, which no stream can encode.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_UNSAFE_OCTET = re.compile(rb"[^\x21\x23-\x5b\x5d-\x7e]")
_UNSAFE_IN_QUOTES = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_SAFE_OCTETS = _UNSAFE_OCTET.sub(b"", bytes(range(256)))


def escape(text: str) -> str:
    """Write every character that could act on a terminal or a log as \\xNN or \\uNNNN."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def word(octets: bytes, limit: int) -> str:
    """Write octets in visible ASCII, without quotes and backslashes; so many of them at most."""
    if len(octets) > limit:
        octets = octets[:limit] + b"..."
    if not octets.translate(None, _SAFE_OCTETS):
        return octets.decode("ascii")
    return _UNSAFE_OCTET.sub(_hexadecimal, octets).decode("ascii")


def quotable(octets: bytes, limit: int) -> str:
    """Write octets as ``word`` does, but leave spaces: to stand between double quotes."""
    if len(octets) > limit:
        octets = octets[:limit] + b"..."
    return _UNSAFE_IN_QUOTES.sub(_hexadecimal, octets).decode("ascii")


def _hexadecimal(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % ord(match[0])
