"""What a request says of itself: the seam between the engines and the cycles of ASGI.

A class and no ``typing.Protocol``: compiled, an attribute of an object whose class is known
costs next to nothing, and one that has to be looked for a hundred times as much.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, init=False)
class Request:
    """The head of a request; the fields are those of ``protocol.events.RequestReceived``.

    It is asked when something is wanted, since most requests are asked for little.
    """

    stream_id: int
    http_version: str
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    end_stream: bool
    expect_continue: bool
    accepts_trailers: bool
