"""The WebSocket codecs alone, in memory: ``python -m benchmarks.codecs``.

Microseconds of CPU time of one text message in and the same one out, the least
of some repeats. The client's frames are made beforehand.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import zlib
from collections.abc import Iterator

from h2asgi.protocol.engines import ENGINES
from h2asgi.protocol.websocket.codec import Codec
from h2asgi.protocol.websocket.deflate import Agreement, PerMessageDeflate

KIB, MIB = 1024, 1024 * 1024
SLICE = 16 * KIB
"""Octets that the codec gets at a time."""

SIZES = {"64 B": (64, 2000), "64 KiB": (64 * KIB, 40), "1 MiB": (MIB, 4)}
"""What a message holds, and how many are echoed in one measurement."""


def text(size: int) -> str:
    """Records such as applications send, none like another."""
    numbers = random.Random(size)  # the same each time
    records: list[str] = []
    length = 0
    while length < size:
        record = {"id": numbers.randrange(10**6), "value": numbers.random(), "name": "abcdef"}
        records.append(json.dumps(record))
        length += len(records[-1])
    return "".join(records)[:size]


def client_frame(payload: bytes, compressed: bool) -> bytes:
    """A text frame with a mask of zeros, which is unmasked like any other."""
    first = 0xC1 if compressed else 0x81
    size = len(payload)
    if size < 126:
        header = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        header = bytes((first, 0xFE)) + size.to_bytes(2)
    else:
        header = bytes((first, 0xFF)) + size.to_bytes(8)
    return header + bytes(4) + payload


def client_slices(message: str, compress: bool, count: int) -> list[list[bytes]]:
    """What the codec reads for each of ``count`` messages."""
    deflater = zlib.compressobj(wbits=-12)
    found = []
    for _ in range(count):
        payload = message.encode()
        if compress:
            payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        frame = client_frame(payload, compress)
        found.append([frame[start : start + SLICE] for start in range(0, len(frame), SLICE)])
    return found


def echo(codec: Codec, slices: list[bytes]) -> str | bytes:
    """Take one message and give it back; returns what it said."""
    for octets in slices:
        events = codec.receive_data(octets)
    (message,) = events
    assert isinstance(message, str | bytes)
    codec.send_message(message)
    return message


def microseconds(kind: type[Codec], size: int, count: int, compress: bool, repeats: int) -> float:
    """The least CPU time of one echo."""
    message = text(size)
    messages = client_slices(message, compress, count)
    best = float("inf")
    for _ in range(repeats):
        codec = kind(16 * MIB, PerMessageDeflate(Agreement()) if compress else None)
        start = time.process_time()
        for slices in messages:
            last = echo(codec, slices)
        best = min(best, time.process_time() - start)
        if last != message:
            raise AssertionError(f"{codec.name}: the message has changed")
    return best / count * 1e6


def codecs() -> Iterator[type[Codec]]:
    """Those that can be had; says which cannot."""
    for name, load in ENGINES["ws"].items():
        try:
            yield load()
        except ImportError as error:
            print(f"{name} is left out: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    columns = list(codecs())
    print(f"{'microseconds':20}" + "".join(f"{kind.name:>12}" for kind in columns))
    for compress in (False, True):
        for name, (size, count) in SIZES.items():
            figures = [
                microseconds(kind, size, count, compress, options.repeats) for kind in columns
            ]
            label = f"{name}, compressed" if compress else name
            print(f"{label:20}" + "".join(f"{figure:12.1f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
