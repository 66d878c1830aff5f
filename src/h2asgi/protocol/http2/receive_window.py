"""Flow control for what we receive (RFC 9113 section 5.2): who has read what, and what to credit.

Every octet that the peer may have on its way, or that lies here unread, is
counted once: ``available`` is what the peer may still send, ``unread`` what has
arrived and was not taken. What is missing from the window's target is credit
that a WINDOW_UPDATE gives back. Credit therefore always means "was consumed".
"""

from __future__ import annotations

from ...errors import ErrorCode, PeerConnectionError


class ReceiveWindow:
    """The window of one stream, of a fixed size."""

    __slots__ = ("available", "size", "unread")

    def __init__(self, size: int) -> None:
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

    def credit(self) -> int:
        """The increment to send now, or 0.

        Half a window is the threshold: crediting only exhausted windows can
        deadlock with a peer that waits for a whole message's worth, crediting
        every read costs a frame each.
        """
        due = self.size - self.available - self.unread
        if due * 2 < self.size:
            return 0
        self.available += due
        return due


class ConnectionWindow:
    """The window of the connection, which grows with what is unread.

    Streams that nobody reads must not starve their siblings, so beyond what is
    unread there is always at least one stream window of credit, up to
    ``maximum``. When the unread octets go, so does the growth.
    """

    __slots__ = ("_initial", "_maximum", "_stream_window", "available", "unread")

    def __init__(self, initial: int, stream_window: int, maximum: int) -> None:
        self._initial = initial
        self._stream_window = stream_window
        self._maximum = maximum
        self.unread = 0
        self.available = self.size

    @property
    def size(self) -> int:
        """What the peer may send and what is unread, together, at the present target."""
        wanted = self.unread + self._stream_window + self._stream_window // 2
        return max(self._initial, min(self._maximum, wanted))

    def receive(self, size: int) -> None:
        """Count a DATA frame; raises PeerConnectionError when it exceeds the window."""
        self.available -= size
        self.unread += size
        if self.available < 0:
            # Section 6.9.1.
            raise PeerConnectionError(
                ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the connection window"
            )

    def acknowledge(self, size: int) -> None:
        """Count ``size`` octets as consumed or dropped."""
        self.unread -= size

    def credit(self) -> int:
        """The increment to send now, or 0.

        From half a window on, or from half a stream window when the peer has
        less than a stream window left.
        """
        size = self.size
        due = size - self.available - self.unread
        if due * 2 < size and (
            self.available >= self._stream_window or due * 2 < self._stream_window
        ):
            return 0
        if due <= 0:
            return 0
        self.available += due
        return due
