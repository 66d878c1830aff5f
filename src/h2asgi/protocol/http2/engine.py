"""One HTTP/2 connection, whatever library is under it.

The parts: ``receiver`` knows what each frame means, with ``frames`` to cut the
input, ``field_block`` for header blocks and ``receive_window`` for the credit;
``stream`` keeps the streams, ``sender`` the way out, ``goaway`` the end. Here
they meet, behind the seam. The engines derive from it and name their library's
``codec`` and, if it has a say in them, streams.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import ClassVar

from ...config import HTTP2Config, Limits, Timeouts
from ...errors import ErrorCode, PeerConnectionError
from ...limits import UNREAD_BODIES, UNSENT, Budget, WatchedBudget
from ...tally import RESETS_SENT, UNCOUNTED, Tally
from ..engine import Engine
from ..events import ConnectionTerminated, Event, Headers, SendQueueDrained
from ..flow import MAX_FLOWS, Flow, StreamFlow
from . import frames
from .codec import Codec
from .discards import Discards
from .goaway import Goaway
from .keep_alive import KEEP_ALIVE_PING, KeepAlive
from .peer_budgets import PeerBudgets
from .peer_settings import (
    ENABLE_CONNECT_PROTOCOL,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
)
from .priorities import Priorities, respond
from .receiver import Receiver
from .sections import RequestSections, ResponseSections
from .sender import Sender
from .stream import Stream, StreamTable
from .transfers import Transfers


class HTTP2Engine(Engine):
    """See ``protocol.engine.Engine`` for the rules of use.

    ``unread_bodies`` and ``unsent`` count the octets of all connections; one that is alone has
    its own. ``tally`` counts what happens on them.
    """

    name: ClassVar[str]
    http_version: ClassVar[str] = "2"
    codec_type: ClassVar[type[Codec]]
    stream_type: ClassVar[type[Stream]]

    def __init__(
        self,
        config: HTTP2Config,
        timeouts: Timeouts,
        now: float,
        unread_bodies: Budget | None = None,
        *,
        websocket: bool = False,
        limits: Limits | None = None,
        unsent: WatchedBudget | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._config = config
        self._timeouts = timeouts
        self._codec = self.codec_type(config.max_header_list_size)
        self._streams = StreamTable()
        limits = limits or Limits()
        self._tally = tally = tally or UNCOUNTED
        self._budgets = PeerBudgets(limits, tally)
        self._sender = Sender(
            ResponseSections(self._codec),
            self._streams,
            self._budgets,
            unsent or WatchedBudget(UNSENT),
            tally,
        )
        self._goaway = Goaway(self._sender, self._streams, tally)
        priorities = None
        if config.priorities:
            priorities = Priorities(config.max_concurrent_streams, self._streams, self._sender)
            self._sender.on_waiting = respond
        self._send_settings(websocket)
        self._receiver = Receiver(
            config,
            RequestSections(
                self._codec, config.max_header_list_size, websocket, limits.http2_max_header_fields
            ),
            self.stream_type,
            self._streams,
            self._sender,
            self._goaway,
            priorities,
            self._budgets,
            unread_bodies or Budget(UNREAD_BODIES),
            tally,
        )
        self._transfers = Transfers(timeouts, self._streams, self._sender)
        self._keep_alive = KeepAlive(timeouts.http2_ping_interval, timeouts.http2_ping_timeout, now)
        self._now = now
        self._preface_deadline = now + timeouts.first_bytes
        self._idle_since: float | None = now  # None while a stream is open
        self._discards = Discards()
        self._terminated = False

    def _send_settings(self, websocket: bool) -> None:
        """Our half of the connection preface (RFC 9113 section 3.4)."""
        config = self._config
        settings: dict[int, int] = {
            MAX_CONCURRENT_STREAMS: config.max_concurrent_streams,
            INITIAL_WINDOW_SIZE: config.stream_window,
            MAX_FRAME_SIZE: config.max_frame_size,
            MAX_HEADER_LIST_SIZE: config.max_header_list_size,
        }
        if websocket:
            settings[ENABLE_CONNECT_PROTOCOL] = 1  # RFC 8441 section 3
        if config.priorities:
            settings[NO_RFC7540_PRIORITIES] = 1  # RFC 9218 section 2.1
        self._sender.write(frames.settings(settings))

    # What comes in.

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """See ``Engine``. Connection errors become GOAWAY and ``ConnectionTerminated``."""
        self._now = self._keep_alive.heard = now
        if self._terminated:
            return
        receiver, streams = self._receiver, self._streams.open
        try:
            receiver.feed(data)
            while receiver.receive(now):
                if streams:
                    self._idle_since = None
                    continue
                self._notice_idle()
                if self._terminated:
                    return
        except PeerConnectionError as error:
            self.terminate(error.error_code, error.reason)
        if self._streams.transfer_began:
            self._transfers.expect(now)

    def receive_eof(self, now: float) -> None:
        """See ``Engine``. HTTP/2 has no half-closed connections: whoever closes is gone."""
        self._now = now
        for stream in list(self._streams.open.values()):
            self._receiver.close(stream, by_us=False)
            self._receiver.report_reset(stream, ErrorCode.CANCEL, "connection closed", remote=True)
        self._receiver.forget_unread()
        self._end(ErrorCode.NO_ERROR, "closed by the peer", unread_input=False)

    def take_events(self) -> list[Event]:
        """See ``Engine``."""
        receiver = self._receiver
        events, receiver.events = receiver.events, []
        return events

    # What goes out.

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and not stream.response_started:
            if status == 100 and stream.window is not None:
                stream.window.awaiting_continue = False
            self._sender.send_informational(stream, status, headers)

    def send_headers(self, stream_id: int, status: int, headers: Headers, end_stream: bool) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and not stream.response_started:
            stream.response_fields = headers
            self._sender.send_headers(stream, status, headers, end_stream)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """See ``Engine``. ``data_to_send`` writes it as the windows allow."""
        stream = self._live(stream_id)
        if stream is None or not stream.response_started or stream.response_ended:
            return 0
        return self._sender.send_data(stream, data, end_stream)

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and stream.response_started and not stream.response_ended:
            self._sender.send_trailers(stream, trailers)

    def accept_tunnel(self, stream_id: int, headers: Headers) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None and not stream.response_started:
            stream.tunnel = True
            self._sender.send_headers(stream, 200, headers, end_stream=False)

    def acknowledge_received_data(self, stream_id: int, size: int) -> None:
        """See ``Engine``. Stream and connection are credited, each in its own time."""
        stream = self._live(stream_id)
        if stream is not None:
            self._receiver.take(stream, size)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``Engine``."""
        stream = self._live(stream_id)
        if stream is not None:
            self._sender.write(frames.rst_stream(stream_id, error_code))
            self._tally.code(RESETS_SENT, error_code)
            self._receiver.close(stream, by_us=True)
            if error_code == ErrorCode.REFUSED_STREAM:
                self._count_refusal()

    def _count_refusal(self) -> None:
        """Whoever refuses it, a request that comes to nothing is the client's to pay for."""
        try:
            self._budgets.lose_request(self._now)
        except PeerConnectionError as error:
            self.terminate(error.error_code, error.reason)

    def ping(self, payload: bytes) -> None:
        """See ``Engine``."""
        if not self._terminated:
            self._sender.write(frames.ping(payload, ack=False))

    def data_to_send(self, limit: int, now: float) -> bytes:
        """See ``Engine``. Control frames and field sections go whole, DATA in turns."""
        self._now = now
        self._keep_alive.flushed = True
        if not self._terminated:
            self._sender.pump(limit)
            if self._streams.transfer_began:
                self._transfers.expect(now)
            self._settle()
        return self._sender.take()

    @property
    def awaits_writer(self) -> bool:
        """See ``Engine``."""
        return self._sender.awaits_writer

    @property
    def reading_suspended(self) -> bool:
        """Never: credit holds a peer back, and its control frames must still be seen."""
        return False

    @property
    def idle(self) -> bool:
        """See ``Engine``. A stream stays open until its end is taken."""
        return not self._streams.open

    @property
    def ended(self) -> bool:
        """See ``Engine``."""
        return self._terminated

    @property
    def unsent(self) -> int:
        """See ``Engine``."""
        waiting = [stream.outgoing for stream in self._streams.open.values()]
        return sum(outgoing.queued for outgoing in waiting if outgoing is not None)

    def flow(self) -> Flow:
        """See ``Engine``."""
        streams = []
        for stream in islice(self._streams.open.values(), MAX_FLOWS):
            window, outgoing = stream.window, stream.outgoing
            streams.append(
                StreamFlow(
                    stream.stream_id,
                    stream.send_window,
                    0 if window is None else window.available,
                    0 if window is None else window.unread,
                    0 if outgoing is None else outgoing.queued,
                )
            )
        window_in = self._receiver.window
        return Flow(
            self._sender.window, window_in.available, window_in.unread, self.unsent, streams
        )

    @property
    def awaited(self) -> int | None:
        """See ``Engine``."""
        return self._receiver.awaited

    def _live(self, stream_id: int) -> Stream | None:
        return None if self._terminated else self._streams.open.get(stream_id)

    def _settle(self) -> None:
        """Close the streams whose responses have ended; wake the writers that may go on.

        Only what is taken to be written has ended: as long as a peer does not
        read, the streams that it has open bound what waits for it.
        """
        sender = self._sender
        if sender.drained:
            self._receiver.events += map(SendQueueDrained, sender.drained)
            sender.drained.clear()
        ended, sender.ended = sender.ended, []
        for stream in ended:
            if self._streams.open.get(stream.stream_id) is not stream:
                continue  # reset before its end was taken
            if stream.request_ended:
                self._receiver.close(stream, by_us=False)
            elif stream.tunnel:
                sender.ended.append(stream)  # half-closed, until the peer ends its half too
            else:
                self._receiver.discard(stream)
                self._discards.begin(stream, -inf if self._goaway.begun else self._now)
        if self._discards.streams:
            self._close_discards()
        if self._codec.spent:
            self._goaway.begin(self._now)
        self._notice_idle()

    def _close_discards(self) -> None:
        for stream in self._discards.take_over(self._streams.open, self._now):
            if not stream.request_ended:
                # Section 8.1: an answer ahead of its request's end asks the
                # client to stop sending.
                self._sender.write(frames.rst_stream(stream.stream_id, ErrorCode.NO_ERROR))
                self._tally.code(RESETS_SENT, ErrorCode.NO_ERROR)
            self._receiver.close(stream, by_us=not stream.request_ended)

    # The end of the connection.

    def begin_shutdown(self, now: float) -> None:
        """See ``Engine`` and ``Goaway``."""
        self._now = now
        if not self._terminated:
            self._goaway.begin(now)
            self._discards.hurry()

    def announce_shutdown(self, now: float) -> float:
        """See ``Engine``: a GOAWAY says it at any time but ahead of the first request.

        HAProxy 2.6 fails a request that it has opened the connection for when GOAWAY comes first.
        """
        if self._streams.highest or self._idle_since is None:
            return -inf
        return self._idle_since

    def _notice_idle(self) -> None:
        """Start the idle time when the last stream has closed, or end if that was waited for."""
        if self._streams.open:
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = self._now
        if self._goaway.due:
            if not self._goaway.begun:
                self._goaway.say(ErrorCode.NO_ERROR)  # the peer leaves: name what was served
            self._end(ErrorCode.NO_ERROR, "all streams are finished")

    def terminate(self, error_code: int, reason: str) -> None:
        """See ``Engine``. Says GOAWAY; streams that are open end with it (section 5.4.1)."""
        if not self._terminated:
            self._goaway.say(error_code, reason)
            self._end(error_code, reason)

    def _end(self, error_code: int, reason: str, *, unread_input: bool = True) -> None:
        # A client answers what it reads, with WINDOW_UPDATE or an acknowledgement
        # of our last PING: even after a friendly end there is input to come.
        if not self._terminated:
            self._terminated = True
            self._receiver.events.append(ConnectionTerminated(error_code, reason, unread_input))

    def next_deadline(self) -> float | None:
        """See ``Engine``."""
        if self._terminated:
            return None
        deadline = self._phase_deadline()
        look = self._transfers.due
        if self._keep_alive.due < look:
            look = self._keep_alive.due
        if self._discards.streams:
            look = min(look, self._discards.due)
        if deadline is None or look < deadline:
            return look if look < inf else None
        return deadline

    def _phase_deadline(self) -> float | None:
        """Drain, preface, field block, idle: one of them at a time."""
        if self._goaway.deadline is not None:
            return self._goaway.deadline
        if not self._receiver.settings_received:
            return self._preface_deadline
        if self._receiver.block_since is not None:
            return self._receiver.block_since + self._timeouts.request_headers
        if self._idle_since is not None and not self._goaway.begun:
            return self._idle_since + self._timeouts.http2_idle
        return None

    def handle_deadline(self, now: float) -> None:
        """See ``Engine``."""
        self._now = now
        if self._terminated:
            return
        if now >= self._transfers.due:
            self._look_at_transfers(now)
        if now >= self._keep_alive.due:
            self._look_for_life(now)
        if now >= self._discards.due:  # also where a paused transport asks for nothing
            self._close_discards()
            self._notice_idle()
            if self._terminated:
                return
        deadline = self._phase_deadline()
        if deadline is not None and now >= deadline:
            self._end_phase(now)

    def _end_phase(self, now: float) -> None:
        if self._goaway.deadline is not None:
            self._goaway.ping_acknowledged()
            self._notice_idle()
        elif not self._receiver.settings_received:
            self.terminate(ErrorCode.SETTINGS_TIMEOUT, "no connection preface")
        elif self._receiver.block_since is not None:
            self.terminate(ErrorCode.ENHANCE_YOUR_CALM, "field block took too long")
        else:
            self.begin_shutdown(now)

    def _look_for_life(self, now: float) -> None:
        if self._keep_alive.look(now):
            self.ping(KEEP_ALIVE_PING)
        elif self._keep_alive.lost:
            # Section 6.7: a PING must be answered.
            self.terminate(ErrorCode.PROTOCOL_ERROR, "PING is not answered")

    def _look_at_transfers(self, now: float) -> None:
        """Give up the streams whose peer holds them up; their siblings live on."""
        for stream, reason, by_body in self._transfers.look(now, self._receiver.window_open):
            if by_body:
                # A request that stalls is the client's mistake, which 408 tells it, as on
                # HTTP/1.1 (RFC 9110 section 15.5.9); a reset would look like our fault.
                self._receiver.report_late_body(stream, reason)
                continue
            # Section 7: CANCEL says that the stream is no longer needed. The peer has broken
            # no rule of flow control; it may keep a window closed.
            self.reset_stream(stream.stream_id, ErrorCode.CANCEL)
            self._receiver.report_reset(stream, ErrorCode.CANCEL, reason, remote=False)
        self._notice_idle()
