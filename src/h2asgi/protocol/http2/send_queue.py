"""Who sends next, by the priorities of RFC 9218 section 10.

A more urgent stream goes before every less urgent one. Within an urgency,
responses that are of use only as a whole go one after another, in the order of
their requests; those that are used as they arrive take turns, a frame at a
time. Where there are both kinds, every other turn is for either: neither a
long download nor a stream without end keeps the other kind waiting.

Without priorities all streams are of the one kind that takes turns, so that a
large download does not hold up a small answer.
"""

from __future__ import annotations

from bisect import insort
from operator import attrgetter

from .priority import URGENCIES, Priority
from .stream import Stream

_stream_id = attrgetter("stream_id")


class _Urgency:
    """The streams of one urgency."""

    __slots__ = ("_next", "_order_is_next", "in_order", "in_turns")

    def __init__(self) -> None:
        self.in_order: list[Stream] = []  # by stream id
        self.in_turns: list[Stream] = []  # a ring; rotating a deque costs more than the rest
        self._next = 0  # whose turn is next in it
        self._order_is_next = True

    def add(self, stream: Stream) -> None:
        if stream.priority.incremental:
            self.in_turns.insert(self._next, stream)  # behind all the others
            self._next = (self._next + 1) % len(self.in_turns)
        else:
            insort(self.in_order, stream, key=_stream_id)

    def remove(self, stream: Stream) -> None:
        if not stream.priority.incremental:
            self.in_order.remove(stream)
            return
        turns, place = self.in_turns, self._next - 1
        if turns[place] is not stream:  # it did not just have its turn
            place = turns.index(stream)
        del turns[place]
        if 0 <= place < self._next:
            self._next -= 1
        elif self._next == len(turns):
            self._next = 0

    def first(self) -> Stream:
        if self.in_order and (self._order_is_next or not self.in_turns):
            return self.in_order[0]
        return self.in_turns[self._next]

    def take_turn(self) -> Stream:
        if self.in_order and (self._order_is_next or not self.in_turns):
            self._order_is_next = False
            return self.in_order[0]
        self._order_is_next = True
        stream = self.in_turns[self._next]
        self._next = (self._next + 1) % len(self.in_turns)
        return stream


class SendQueue:
    """The streams that have octets to send and whose own windows let some of them go.

    The connection window is the sender's business. Only open streams are in
    it, so their number is bounded.
    """

    __slots__ = ("_urgencies", "size")

    def __init__(self) -> None:
        self._urgencies: list[_Urgency | None] = [None] * URGENCIES  # made when there is a stream
        self.size = 0  # how many streams wait

    def schedule(self, stream: Stream) -> None:
        """Put a stream that has an ``outgoing`` in its place, unless it is there already."""
        outgoing = stream.outgoing
        assert outgoing is not None
        if outgoing.scheduled:
            return
        outgoing.scheduled = True
        self.size += 1
        urgency = self._urgencies[stream.priority.urgency]
        if urgency is None:
            urgency = self._urgencies[stream.priority.urgency] = _Urgency()
        urgency.add(stream)

    def remove(self, stream: Stream) -> bool:
        """Take a stream out that cannot go on; give whether it was there."""
        outgoing = stream.outgoing
        if outgoing is None or not outgoing.scheduled:
            return False
        outgoing.scheduled = False
        self.size -= 1
        urgency = self._urgencies[stream.priority.urgency]
        assert urgency is not None
        urgency.remove(stream)
        return True

    def prioritise(self, stream: Stream, priority: Priority) -> None:
        """Change a stream's priority, and its place if it has one."""
        if priority != stream.priority:
            was_there = self.remove(stream)
            stream.priority = priority
            if was_there:
                self.schedule(stream)

    def first(self) -> Stream:
        """Give the stream whose turn it is."""
        return self._most_urgent().first()

    def take_turn(self) -> Stream:
        """Give the stream whose turn it is, and pass the turn on; the stream stays in the queue."""
        return self._most_urgent().take_turn()

    def _most_urgent(self) -> _Urgency:
        for urgency in self._urgencies:
            if urgency is not None and (urgency.in_turns or urgency.in_order):
                return urgency
        raise IndexError("nobody waits")
