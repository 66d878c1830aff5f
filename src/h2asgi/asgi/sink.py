"""Where the output of a cycle goes: the connection."""

from __future__ import annotations

from collections.abc import Awaitable

from ..compiled import mypyc_attr
from ..request import Request
from .fields import Fields


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """What an ``asgi.http.HTTPCycle`` calls; all calls but the last three name the stream."""

    __slots__ = ()

    def send_informational(self, stream_id: int, status: int, headers: Fields) -> None:
        """Send a 1xx response (RFC 9110 section 15.2)."""
        raise NotImplementedError

    def send_headers(self, stream_id: int, status: int, headers: Fields, end_stream: bool) -> None:
        """Queue the head of the final response; the fields have been checked.

        ``send_data`` or ``flush`` follows before anything else happens.
        """
        raise NotImplementedError

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> Awaitable[None] | None:
        """Queue body octets; what it gives sees them into the transport or a full window.

        It is awaited at once; None says that they are there already. Queueing does not wait,
        so that a cancelled call loses nothing. Raises ``ClientDisconnected`` when the stream is
        gone.
        """
        raise NotImplementedError

    def outlet(self, stream_id: int) -> Awaitable[int] | None:
        """Give a descriptor to which octets of the body may be written without waiting.

        It is the caller's to close, and is awaited at once, which is until everything before is
        with the kernel. It may be -1 when it comes to it, for none. None where there never is one.
        """
        raise NotImplementedError

    def note_passed(self, stream_id: int, size: int) -> None:
        """Take note that ``size`` octets were written to an outlet."""
        raise NotImplementedError

    def send_trailers(self, stream_id: int, trailers: Fields) -> Awaitable[None] | None:
        """Queue the trailer section, which ends the response; awaited as ``send_data``."""
        raise NotImplementedError

    def flush(self) -> Awaitable[None] | None:
        """See what is queued into the transport; awaited as ``send_data``."""
        raise NotImplementedError

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """Say that the application took ``size`` octets of the body."""
        raise NotImplementedError

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Abandon the stream."""
        raise NotImplementedError

    def request_finished(self, response: object) -> None:
        """Take note, once for each ``Response``, that it ended or will never end."""
        raise NotImplementedError

    def application_ended(self, cycle: object, failed: bool) -> None:
        """Take note that the task of an ``HTTPCycle`` is about to end, or to fail."""
        raise NotImplementedError

    def log_ids(self, request: Request) -> dict[str, object]:
        """Say which request it is, for the attributes of log records."""
        raise NotImplementedError
