"""Octets that both sides can make: large, and different at every offset."""

from __future__ import annotations

import hashlib

PIECE_SIZE = 40_000  # no multiple of a frame or a buffer


def piece(number: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(PIECE_SIZE)


def pieces(count: int) -> bytes:
    return b"".join(map(piece, range(count)))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
