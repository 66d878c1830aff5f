"""Flow control for what we receive (RFC 9113 section 5.2): who has read what, and what to credit.

Every octet that the peer may have on its way, or that lies here unread, is
counted once: ``available`` is what the peer may still send, ``unread`` what has
arrived and was not taken. What is missing from the window's target is credit
that a WINDOW_UPDATE gives back. Credit therefore always means "was consumed".
"""

from __future__ import annotations

from ...errors import ErrorCode, PeerConnectionError
from ...limits import Budget
from .window_growth import WindowGrowth


class ReceiveWindow:
    """The window of one stream. It changes its size only with credit, which is to be earned.

    So a stream that nobody reads keeps the size that it began with.
    """

    __slots__ = (
        "asks_for_tunnel",
        "available",
        "awaiting_continue",
        "content",
        "discarded",
        "size",
        "unread",
    )

    def __init__(self, size: int) -> None:
        self.content = 0  # octets of the body that have come, without padding
        # What the client may wait for before it sends any.
        self.awaiting_continue = False
        self.asks_for_tunnel = False
        self.discarded = (
            False  # the response is over: what comes is for nobody, and earns no credit
        )
        self.size = size
        self.available = size
        self.unread = 0

    def receive(self, size: int) -> bool:
        """Count a DATA frame; False when the peer has sent more than it was allowed."""
        self.available -= size
        self.unread += size
        return self.available >= 0

    def acknowledge(self, size: int) -> None:
        """Count ``size`` octets as consumed."""
        self.unread -= size

    @property
    def due(self) -> int:
        """Octets consumed and not yet credited."""
        return self.size - self.available - self.unread

    def credit(self, growth: WindowGrowth) -> int:
        """The increment to send now, or 0. The size is what ``growth`` says from then on.

        Half a window is the threshold: crediting only exhausted windows can
        deadlock with a peer that waits for a whole message's worth, crediting
        every read costs a frame each.
        """
        held = self.available + self.unread
        if (self.size - held) * 2 < self.size:
            return 0
        self.size = growth.stream_window
        if held >= self.size:  # it shrinks
            return 0
        self.available = self.size - self.unread
        return self.size - held


class ConnectionWindow:
    """The window of the connection, which also grows with what is unread.

    Streams that nobody reads must not starve their siblings, so beyond what is
    unread there is always at least one stream window of credit, up to
    ``maximum`` and as long as the budget for what is unread lasts. When the
    unread octets go, so does this growth.
    """

    __slots__ = ("_budget", "_growth", "_maximum", "available", "unread")

    def __init__(self, growth: WindowGrowth, maximum: int, budget: Budget) -> None:
        self._growth = growth
        self._maximum = maximum
        self._budget = budget
        self.unread = 0
        self.available = self.size

    @property
    def size(self) -> int:
        """What the peer may send and what is unread, together, at the present target."""
        size = self._growth.connection_window
        if self._budget.exhausted:
            return size
        stream_window = self._growth.first_stream_window
        return max(size, min(self._maximum, self.unread + stream_window + stream_window // 2))

    def receive(self, size: int) -> None:
        """Count a DATA frame; raises PeerConnectionError when it exceeds the window."""
        self.available -= size
        self.unread += size
        self._budget.used += size
        if self.available < 0:
            # Section 6.9.1.
            raise PeerConnectionError(
                ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the connection window"
            )

    def acknowledge(self, size: int) -> None:
        """Count ``size`` octets as consumed or dropped."""
        self.unread -= size
        self._budget.used -= size

    def credit(self) -> int:
        """The increment to send now, or 0.

        From half a window on, or from half a stream window when the peer has
        less than a stream window left.
        """
        stream_window = self._growth.first_stream_window
        half = self._growth.half_connection_window
        if self.available >= stream_window and self.available + self.unread > half:
            return 0  # as most times; what follows says so too, and takes longer
        size = self.size
        due = size - self.available - self.unread
        if due * 2 < size and (self.available >= stream_window or due * 2 < stream_window):
            return 0
        self.available += due
        return due
