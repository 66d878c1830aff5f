"""Which transfers of a connection a peer holds up: bodies that do not come, responses not taken.

Every ``interval`` seconds all open streams are looked at, as long as one of them has a
body to come or octets to send; requests without either cost nothing. What a paused
transport holds up is the driver's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from ...config import Timeouts
from ..pace import Pace, Transfer
from .sender import Sender
from .stream import Stream, StreamTable


class Transfers:
    """Owns what the last look saw; ``due`` is when the next one is."""

    __slots__ = (
        "_bodies",
        "_body_pace",
        "_connection",
        "_interval",
        "_response_pace",
        "_responses",
        "_sender",
        "_streams",
        "due",
    )

    def __init__(self, timeouts: Timeouts, streams: StreamTable, sender: Sender) -> None:
        self._streams = streams
        self._sender = sender
        self._body_pace = Pace(timeouts.request_body, timeouts.min_transfer_rate)
        self._response_pace = Pace(timeouts.write, timeouts.min_transfer_rate)
        self._interval = min(self._body_pace.interval, self._response_pace.interval)
        # By stream, those that were waited for at the last look, and the connection.
        self._bodies: dict[int, Transfer] = {}
        self._responses: dict[int, Transfer] = {}
        self._connection: Transfer | None = None
        self.due = inf

    def expect(self, now: float) -> None:
        """See that there is a look: something has begun that may be held up."""
        self._streams.transfer_began = False
        if self.due == inf:
            self.due = now + self._interval

    def look(self, now: float, window_open: bool) -> Iterator[tuple[Stream, str, bool]]:
        """Give the streams that are held up, why, and whether it is by the body of the request.

        ``window_open`` says whether the peer may send anything on the connection.
        """
        streams = list(self._streams.open.values())
        coming = [stream for stream in streams if _body_to_come(stream)]
        leaving = [stream for stream in streams if stream.outgoing and stream.outgoing.queued]
        self.due = now + self._interval if coming or leaving else inf
        yield from self._look_at_bodies(coming, window_open)
        yield from self._look_at_responses(leaving)

    def _look_at_bodies(
        self, coming: list[Stream], window_open: bool
    ) -> Iterator[tuple[Stream, str, bool]]:
        before, self._bodies = self._bodies, {}
        for stream in coming:
            assert stream.window is not None
            if not window_open or stream.window.available <= 0:
                continue  # the application does not read: it is us who hold the peer back
            if stream.window.awaiting_continue and not stream.window.content:
                continue  # the same (RFC 9110 section 10.1.1)
            transfer = before.get(stream.stream_id) or Transfer()
            self._bodies[stream.stream_id] = transfer
            # How fast a body of unknown length is meant to come, nobody knows.
            rated = stream.body_left is not None
            reason = transfer.look(
                stream.window.content, self._body_pace, self._interval, rated=rated
            )
            if reason:
                yield stream, f"request body: {reason}", True

    def _look_at_responses(self, leaving: list[Stream]) -> Iterator[tuple[Stream, str, bool]]:
        before, self._responses = self._responses, {}
        all_held_up = self._look_at_connection(bool(leaving))
        for stream in leaving:
            reason = all_held_up
            outgoing = stream.outgoing
            if outgoing is not None and stream.send_window <= 0:
                sent = outgoing.credited - stream.send_window  # and a constant
                transfer = before.get(stream.stream_id) or Transfer()
                self._responses[stream.stream_id] = transfer
                rated = not stream.tunnel
                reason = reason or transfer.look(
                    sent, self._response_pace, self._interval, rated=rated
                )
            if reason:
                yield stream, f"response: {reason}", False

    def _look_at_connection(self, leaving: bool) -> str:
        """Give what is wrong with the peer's credit for the connection as a whole."""
        if not leaving or self._sender.window > 0:
            self._connection = None
            return ""
        self._connection = self._connection or Transfer()
        sent = self._sender.sent
        return self._connection.look(sent, self._response_pace, self._interval, rated=True)


def _body_to_come(stream: Stream) -> bool:
    """Whether a body is waited for: a response that has begun may go on beside it for ever."""
    return not (
        stream.window is None
        or stream.request_ended
        or stream.response_started
        or stream.window.asks_for_tunnel
    )
