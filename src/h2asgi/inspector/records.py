"""What is kept of connections, requests and frames, and how it is told in JSON.

Times are seconds on the loop's clock; in JSON they are milliseconds since the recorder began.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from .masking import Fields

MAX_SAMPLES: Final = 240
"""Of flow control, for each connection: the last minute."""

MAX_GOAWAYS: Final = 8
"""Of one connection: honest ones have two, and one from their peer."""


@dataclass(slots=True)
class ConnectionRecord:
    """One connection; what is counted, is counted while somebody looks."""

    number: int
    client: str
    server: str
    protocol: str
    engine: str
    tls: dict[str, Any] | None
    opened: float
    limits: dict[str, int]
    closed: float | None = None
    reason: str = ""
    requests: int = 0
    resets: int = 0
    frames_in: int = 0
    frames_out: int = 0
    octets_in: int = 0
    octets_out: int = 0
    # Field blocks as they were sent, and what they mean; the difference is HPACK's.
    blocks_in: int = 0
    fields_in: int = 0
    blocks_out: int = 0
    fields_out: int = 0
    peer_settings: dict[str, int] = field(default_factory=dict)
    goaways: list[dict[str, Any]] = field(default_factory=list)
    samples: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    flows: list[dict[str, int]] = field(default_factory=list)
    revision: int = 0

    def as_json(self, epoch: float) -> dict[str, Any]:
        """Everything but the samples."""
        return {
            "number": self.number,
            "client": self.client,
            "server": self.server,
            "protocol": self.protocol,
            "engine": self.engine,
            "tls": self.tls,
            "opened": _ms(self.opened, epoch),
            "closed": _ms(self.closed, epoch),
            "reason": self.reason,
            "requests": self.requests,
            "resets": self.resets,
            "frames": [self.frames_in, self.frames_out],
            "octets": [self.octets_in, self.octets_out],
            "hpack": {
                "in": [self.blocks_in, self.fields_in],
                "out": [self.blocks_out, self.fields_out],
            },
            "limits": self.limits,
            "peerSettings": self.peer_settings,
            "goaways": self.goaways,
            "flows": self.flows,
        }


@dataclass(slots=True)
class StreamRecord:
    """One request and its response. ``reset_by`` is ``"client"`` or ``"server"``."""

    number: int
    connection: int
    stream_id: int
    protocol: str
    method: str
    target: str
    scheme: str
    fields: Fields
    started: float
    request_ended: float | None = None
    request_size: int = 0
    status: int = 0
    response_fields: Fields = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    responded: float | None = None
    first_octet: float | None = None
    ended: float | None = None
    response_size: int = 0
    reset_by: str = ""
    reset_code: int = 0
    reason: str = ""
    tunnel: str = ""
    messages_in: int = 0
    messages_out: int = 0
    revision: int = 0

    def as_json(self, epoch: float) -> dict[str, Any]:
        """Everything."""
        return {
            "number": self.number,
            "connection": self.connection,
            "stream": self.stream_id,
            "protocol": self.protocol,
            "method": self.method,
            "target": self.target,
            "scheme": self.scheme,
            "fields": self.fields,
            "started": _ms(self.started, epoch),
            "requestEnded": _ms(self.request_ended, epoch),
            "requestSize": self.request_size,
            "status": self.status,
            "responseFields": self.response_fields,
            "trailers": self.trailers,
            "responded": _ms(self.responded, epoch),
            "firstOctet": _ms(self.first_octet, epoch),
            "ended": _ms(self.ended, epoch),
            "responseSize": self.response_size,
            "resetBy": self.reset_by,
            "resetCode": self.reset_code,
            "reason": self.reason,
            "tunnel": self.tunnel,
            "messages": [self.messages_in, self.messages_out],
        }


@dataclass(slots=True)
class FrameRecord:
    """One frame. ``fields`` are those of a field block that ends with it."""

    number: int
    connection: int
    time: float
    outgoing: bool
    kind: str
    flags: list[str]
    stream_id: int
    length: int
    detail: str
    fields: Fields | None = None

    def as_json(self, epoch: float) -> dict[str, Any]:
        """Everything."""
        return {
            "number": self.number,
            "connection": self.connection,
            "time": _ms(self.time, epoch),
            "direction": "out" if self.outgoing else "in",
            "type": self.kind,
            "flags": self.flags,
            "stream": self.stream_id,
            "length": self.length,
            "detail": self.detail,
            "fields": self.fields,
        }


def _ms(time: float | None, epoch: float) -> float | None:
    return None if time is None else round((time - epoch) * 1000, 3)
