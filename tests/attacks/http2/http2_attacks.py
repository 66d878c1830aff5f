"""What the attacks on HTTP/2 share: one step again and again, until the connection ends."""

from __future__ import annotations

from collections.abc import Callable

from http2_peer import Goaway, Peer

from h2asgi.errors import ErrorCode
from h2asgi.protocol.events import ConnectionTerminated, Event

Step = Callable[[Peer, int], bytes]
"""The octets of one repetition, by its number from 0 on."""


def stream(number: int) -> int:
    """The stream id of a repetition that opens one; 1 is left to the start."""
    return 2 * number + 3


def repeat(peer: Peer, step: Step, times: int) -> tuple[int, list[Event]]:
    """Repeat until the connection ends; how often that was, and what the server did meanwhile.

    The answers are read each time, so that it is never for them that it ends.
    """
    events: list[Event] = []
    for number in range(times):
        peer.send(step(peer, number))
        events += peer.events()
        if events and isinstance(events[-1], ConnectionTerminated):
            return number + 1, events
        peer.received()
    return times, events


def assert_calmed(peer: Peer, events: list[Event], reason: str) -> None:
    """It has ended for the named budget; the client is told so, and nothing is read after it."""
    end = events[-1]
    assert isinstance(end, ConnectionTerminated)
    assert (end.error_code, end.reason) == (ErrorCode.ENHANCE_YOUR_CALM, reason)
    *answers, goaway = peer.received()
    assert isinstance(goaway, Goaway)
    assert goaway.error_code == ErrorCode.ENHANCE_YOUR_CALM
    assert all(not isinstance(answer, Goaway) for answer in answers)
    peer.assert_ended_silently()
