"""How much memory some attacks cost at the most: ``python -m tests.soak.peaks``.

Each on a server of its own that has served a little before; what it holds more than then is told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from . import honest, hostile
from .target import Command, H2Client, Target, serving_command

import http2_peer as wire  # isort: skip  # which target.py has found

MIB = 1024 * 1024
PUSHED = 200 * MIB
STREAMS = 100
CONNECTIONS = 60
STAY = 4.0
"""Seconds that who takes nothing stays: longer than it takes to be noticed."""

QUIET = 0.5
"""Seconds without a word from the server after which it gives no further credit."""

ENGINES = {
    "in pure Python": ("--http1-engine", "h11", "--http2-engine", "h2"),
    "native": ("--http1-engine", "httptools", "--http2-engine", "ngh2"),
}


def push_over_http1(target: Target) -> int:
    """Give how many octets could be sent."""
    sent = 0
    with hostile.connected(target) as sock:
        sock.sendall(b"POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % PUSHED)
        while sent < PUSHED:
            sent += sock.send(bytes(65_536))
    return sent


def push_over_http2(target: Target) -> int:
    """The same, keeping to the windows, on as many streams as it takes."""
    sent = 0
    with contextlib.suppress(OSError), H2Client(target.connect("h2")) as client:
        client.ping()
        client.sock.settimeout(QUIET)
        streams = [client.start("/deaf", "POST", end_stream=False) for _ in range(STREAMS)]
        while sent < PUSHED and not client.closed:
            now = sum(_fill(client, stream_id) for stream_id in streams)
            sent += now
            if not now:
                client.read()
    return sent


def _fill(client: H2Client, stream_id: int) -> int:
    if client.responses[stream_id].over:
        return 0
    return client.send(stream_id, bytes(min(64 * 1024, PUSHED // STREAMS)))


def window_of_one(target: Target) -> int:
    hostile.window_of_one(target)
    return STREAMS * 50_000_000


def pings(target: Target) -> int:
    hostile.pings(target)
    return 100_000 * len(wire.ping())


def endless_continuation(target: Target) -> int:
    """As much as the server takes, with content as large as a frame may be."""
    piece = wire.frame(wire.CONTINUATION, 0, 1, b"\0\1a\x7f\x80\x7e" + b"b" * 254) * 100
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        yield wire.frame(wire.HEADERS, 0, 1, b"\x82")
        while sent < PUSHED:
            sent += len(piece)
            yield piece

    hostile.send_http2(target, counted())
    return sent


def inflating_block(target: Target) -> int:
    """4 KB that say 4,000 times what the table has 4,000 octets of; 50 times over."""
    for _ in range(50):
        with H2Client(target.connect("h2")) as client:
            entry = client.start("/hello", headers=[("x", "0" * 4_000)])
            client.finish(entry)
            block = b"\x82\x87\x84\x01\x01a" + b"\xbe" * 4_000
            client.sock.sendall(wire.frame(wire.HEADERS, 0x5, entry + 2, block))
            with contextlib.suppress(OSError):  # an RST in place of the end
                while not client.closed:
                    client.read()
    return 50 * 4_000 * 4_000


def windows_of_zero(target: Target) -> int:
    """Ask on many connections at once, let nothing through, and stay."""
    block = hostile._block("GET", "/download?size=50000000")
    heads = b"".join(hostile._head(stream_id, block) for stream_id in hostile.IDS[:STREAMS])
    begin = wire.PREFACE + wire.settings((wire.INITIAL_WINDOW_SIZE, 0)) + wire.SETTINGS_ACK
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(hostile.connected(target, "h2")).sendall(begin + heads)
        time.sleep(STAY)
    return CONNECTIONS * STREAMS * 50_000_000


ATTACKS: dict[str, Callable[[Target], int]] = {
    "pushed at an application that never reads, HTTP/1.1": push_over_http1,
    "pushed at an application that never reads, HTTP/2": push_over_http2,
    "100 streams of 50 MB with a window of 1": window_of_one,
    "the same with a window of 0 on 60 connections": windows_of_zero,
    "100,000 PINGs, answers unread": pings,
    "endless CONTINUATION": endless_continuation,
    "4 KB of fields that inflate to 16 MB, 50 times": inflating_block,
}


def peak(name: str, options: tuple[str, ...]) -> tuple[int, int]:
    """Give the octets that were sent or asked for, and those that it cost at the most."""
    with serving_command(*options) as (command, target):
        for errand in islice(honest.ERRANDS * 2, 16):
            errand(target)
        before = command.memory()
        _forget_peak(command)
        sent = ATTACKS[name](target)
        return sent, command.peak_memory() - before


def _forget_peak(command: Command) -> None:
    Path(f"/proc/{command.process.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM


def main() -> None:
    print("| attack | sent or asked for |", " | ".join(ENGINES), "|")
    print("|---|---|" + "---|" * len(ENGINES))
    for name in ATTACKS:
        figures = [peak(name, options) for options in ENGINES.values()]
        sent = " / ".join(f"{octets / MIB:,.1f}" for octets, _ in figures)
        cells = " | ".join(f"{more / MIB:.1f} MiB" for _, more in figures)
        print(f"| {name} | {sent} MiB | {cells} |", flush=True)


if __name__ == "__main__":
    main()
