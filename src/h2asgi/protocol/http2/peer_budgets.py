"""What a peer may have us do for nothing; past it the connection ends with ENHANCE_YOUR_CALM.

RFC 9113 section 10.5 leaves the bounds to us. Two budgets are enough. One is
for requests that come to nothing, whoever resets them: a client that cancels
what it asks for (CVE-2023-44487) and one that breaks rules so that we cancel it
(CVE-2025-8671) cost the same. The other is for frames that carry nothing:
control frames, empty DATA, frames on streams that have ended. What HEADERS and
DATA with content cost is paid for by what they carry, and is not counted.
"""

from __future__ import annotations

from ...config import Limits
from ...errors import ErrorCode, PeerConnectionError
from ...limits import RateBudget
from ...tally import CONTROL_LIMIT, RESET_LIMIT, Tally
from .stream import MAX_STREAM_ID


class PeerBudgets:
    """The budgets of one connection. Methods raise PeerConnectionError when one is used up.

    ``earned`` is how many frames the peer may send in answer to ours, without
    touching its budget: an honest one sends up to two WINDOW_UPDATEs for a
    DATA frame, and some a PING. It has no bound, since the frames of a whole
    download may be on their way before the first is answered. The request
    ``last_stream_id`` is the last one before the connection ends in good grace.
    """

    __slots__ = ("_control_frames", "_resets", "_tally", "earned", "last_stream_id")

    def __init__(self, limits: Limits, tally: Tally) -> None:
        self._tally = tally
        self._resets = RateBudget(limits.http2_reset_burst, limits.http2_reset_rate)
        self._control_frames = RateBudget(limits.http2_control_burst, limits.http2_control_rate)
        self.earned = 0
        requests = limits.requests_per_connection or MAX_STREAM_ID
        self.last_stream_id = 2 * requests - 1  # they rise by 2, from 1 on

    def lose_request(self, now: float) -> None:
        """Count a request that was reset by the peer, refused, rejected or malformed."""
        if not self._resets.consume(now):
            self._tally.add(RESET_LIMIT)
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are reset")

    def take_control_frame(self, now: float, amount: int = 1) -> None:
        """Count a frame without content, or one that makes as much work as ``amount`` of them."""
        if self.earned >= amount:
            self.earned -= amount
        elif not self._control_frames.consume(now, amount):
            self._tally.add(CONTROL_LIMIT)
            raise PeerConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, "too many frames without content"
            )
