"""A client that uploads over a link with a length and a width, in simulated time.

The client sends as much as its windows allow. What it sends queues for the
link, its acknowledgements of PINGs too; the way back takes time and no more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from http2_peer import Peer, Ping, Settings, WindowUpdate, data, ping

from h2asgi.protocol.events import DataReceived

FRAME = 16_384
BODY = b"x" * FRAME


class Upload:
    """Uploads without end on ``streams``, at ``width`` octets a second with ``delay`` each way.

    ``application_rate`` is what the application takes in a second, everything
    at once when it is None. ``answers`` is how often a PING is acknowledged, and
    ``early`` whether that goes ahead of everything else, in no time.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        width: float,
        delay: float,
        streams: tuple[int, ...] = (1,),
        application_rate: float | None = None,
        answers: int = 1,
        early: bool = False,
    ) -> None:
        self.peer = peer
        self.width = width
        self.delay = delay
        self.application_rate = application_rate
        self.answers = answers
        self.early = early
        self.taken = 0
        self.pings: list[float] = []
        self.windows = dict.fromkeys((0, *streams), 0)
        """The most that was allowed, by stream and on the connection, beyond what was taken."""
        settings = peer.log.read(peer.engine.data_to_send(2**20, 0.0))
        self._allowed = dict.fromkeys(streams, 0)
        self._allowed[0] = 65_535
        for one in settings:
            if isinstance(one, Settings):
                self._allowed |= dict.fromkeys(streams, one.values[4])
            elif isinstance(one, WindowUpdate):
                self._allowed[one.stream_id] += one.increment
        self._left = dict(self._allowed)  # to send
        self._backlog: list[tuple[int, int]] = []  # arrived and not taken
        self._link_free = 0.0
        self._order = count()
        self._agenda: list[tuple[float, int, str, object]] = []
        self._on_way = 0
        peer.connect()
        for stream_id in streams:
            peer.post(stream_id)

    def run(self, until: float) -> int:
        """Let time pass; give the octets that the application took meanwhile."""
        before = self.taken
        self._send()
        while self._agenda and self._agenda[0][0] <= until:
            self.peer.now, _, what, argument = heapq.heappop(self._agenda)
            if what == "arrives":
                self._arrive(argument)  # type: ignore[arg-type]
            elif what == "take":
                self._take()
            else:
                self._hear(argument)  # type: ignore[arg-type]
            self._answer()
            self._send()
        self.peer.now = until
        return self.taken - before

    def _later(self, when: float, what: str, argument: object = None) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what, argument))

    def _transmit(self, frame: bytes) -> None:
        self._link_free = max(self._link_free, self.peer.now) + len(frame) / self.width
        self._later(self._link_free + self.delay, "arrives", frame)

    def _send(self) -> None:
        for stream_id in self._turns():
            size = min(FRAME, self._left[stream_id], self._left[0])
            self._left[stream_id] -= size
            self._left[0] -= size
            self._transmit(data(stream_id, BODY[:size]))

    def _turns(self) -> Iterator[int]:
        while self._left[0] > 0:
            able = [one for one, left in self._left.items() if one and left > 0]
            if not able:
                return
            for stream_id in able:
                if self._left[0] > 0:
                    yield stream_id

    def _arrive(self, frame: bytes) -> None:
        self.peer.send(frame)
        for event in self.peer.events():
            assert isinstance(event, DataReceived)
            if self.application_rate is None:
                self._consume(event.stream_id, len(event.data))
            else:
                self._backlog.append((event.stream_id, len(event.data)))
                if len(self._backlog) == 1:
                    self._later(self.peer.now + len(event.data) / self.application_rate, "take")

    def _take(self) -> None:
        assert self.application_rate
        self._consume(*self._backlog.pop(0))
        if self._backlog:
            self._later(self.peer.now + self._backlog[0][1] / self.application_rate, "take")

    def _consume(self, stream_id: int, size: int) -> None:
        self.taken += size
        self._allowed[stream_id] -= size
        self._allowed[0] -= size
        self.peer.engine.acknowledge_received_data(stream_id, size)

    def _answer(self) -> None:
        for one in self.peer.received():
            if isinstance(one, WindowUpdate):
                self._allowed[one.stream_id] += one.increment
                self.windows[one.stream_id] = max(
                    self.windows[one.stream_id], self._allowed[one.stream_id]
                )
            else:
                assert isinstance(one, Ping)
                self.pings.append(self.peer.now)
            self._later(self.peer.now + (0 if self.early else self.delay), "hears", one)

    def _hear(self, one: WindowUpdate | Ping) -> None:
        if isinstance(one, WindowUpdate):
            self._left[one.stream_id] += one.increment
            return
        for _ in range(self.answers):
            if self.early:
                self._later(self.peer.now, "arrives", ping(one.payload, ack=True))
            else:
                self._transmit(ping(one.payload, ack=True))
