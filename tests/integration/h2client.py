"""An HTTP/2 client on one blocking socket, for tests that need to say when it reads.

It never reads or writes by itself: ``request`` and ``send_body`` write,
``read_until`` reads. What arrives is kept per stream in a ``Response``.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.settings

READ_SIZE = 256 * 1024
GOAWAY = 0x7  # RFC 9113 section 6.8


@dataclass
class Response:
    """What has arrived on one stream."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)
    hints: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Fields of the informational ones."""
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    """Error code of the server's RST_STREAM."""

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class H2Client:
    """``acknowledge`` is whether what is read opens the windows again."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        acknowledge: bool = True,
        stream_window: int = 65_535,
        connection_window: int = 65_535,
    ) -> None:
        if isinstance(sock, ssl.SSLSocket):
            assert sock.selected_alpn_protocol() == "h2"
        self.sock = sock
        self.acknowledge = acknowledge
        self.responses: dict[int, Response] = {}
        self.pings = 0
        """Acknowledgements of our PINGs."""
        self.goaways: list[tuple[int, int]] = []
        """Last stream id and error code of each GOAWAY."""
        self.closed = False
        self._input = bytearray()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: stream_window})
        if connection_window > 65_535:
            self.h2.increment_flow_control_window(connection_window - 65_535)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Write what h2 has ready."""
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def start(
        self,
        path: str,
        method: str = "GET",
        *,
        authority: str = "localhost",
        headers: Iterable[tuple[str, str]] = (),
        end_stream: bool = True,
    ) -> int:
        """Send the head of a request; give its stream id."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", "https" if isinstance(self.sock, ssl.SSLSocket) else "http"),
            (":authority", authority),
            (":path", path),
            *headers,
        ]
        self.h2.send_headers(stream_id, fields, end_stream=end_stream)
        self.responses[stream_id] = Response()
        self.flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> int:
        """Send as much of ``data`` as the windows allow; give how much that was."""
        sent = 0
        while sent < len(data):
            room = self.room(stream_id)
            if room <= 0:
                break
            piece = data[sent : sent + room]
            sent += len(piece)
            self.h2.send_data(stream_id, piece, end_stream=end_stream and sent == len(data))
        self.flush()
        return sent

    def room(self, stream_id: int) -> int:
        """Octets that may be sent on the stream in one frame now."""
        return min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)

    def upload(self, stream_id: int, data: bytes) -> None:
        """Send a whole body and the end of the request, reading whenever a window is full."""
        sent = 0
        while sent < len(data) and not self.responses[stream_id].over:
            sent += self.send(stream_id, data[sent:], end_stream=True)
            if sent < len(data):
                self.read()

    def reset(self, stream_id: int, error_code: int = 8) -> None:
        self.h2.reset_stream(stream_id, error_code)
        self.flush()

    def ping(self) -> None:
        """Wait for a round trip."""
        before = self.pings
        self.h2.ping(b"12345678")
        self.flush()
        self.read_until(lambda: self.pings > before)

    def read_until(self, condition: Callable[[], object]) -> None:
        """Read until ``condition`` holds; the connection must not end before."""
        while not condition():
            assert not self.closed, f"the server closed the connection: {self.responses}"
            self.read()

    def finish(self, *stream_ids: int) -> list[Response]:
        """Read until these streams are over."""
        responses = [self.responses[stream_id] for stream_id in stream_ids]
        self.read_until(lambda: all(response.over for response in responses))
        return responses

    def read(self) -> None:
        """Wait for something to arrive and take note of it."""
        data = self.sock.recv(READ_SIZE)
        if not data:
            self.closed = True
            return
        self._input += data
        for event in self.h2.receive_data(self._whole_frames()):
            self._note(event)
        self.flush()

    def _whole_frames(self) -> bytes:
        """Take whole frames from the input, but for GOAWAY: h2 would stop at the first."""
        taken = bytearray()
        while len(self._input) >= 9:
            end = 9 + int.from_bytes(self._input[:3], "big")
            if len(self._input) < end:
                break
            frame = self._input[:end]
            del self._input[:end]
            if frame[3] == GOAWAY:
                last_stream_id, error_code = struct.unpack_from("!II", frame, 9)
                self.goaways.append((last_stream_id, error_code))
            else:
                taken += frame
        return bytes(taken)

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=stream_id, headers=headers):
                response = self.responses[stream_id]
                response.headers = [(bytes(name), bytes(value)) for name, value in headers]
                response.status = int(dict(response.headers)[b":status"])
            case h2.events.InformationalResponseReceived(stream_id=stream_id, headers=headers):
                status = int(dict(headers)[b":status"])
                self.responses[stream_id].informational.append(status)
                self.responses[stream_id].hints += [
                    (bytes(name), bytes(value)) for name, value in headers if name[:1] != b":"
                ]
            case h2.events.TrailersReceived(stream_id=stream_id, headers=headers):
                self.responses[stream_id].trailers = [
                    (bytes(name), bytes(value)) for name, value in headers
                ]
            case h2.events.DataReceived(stream_id=stream_id, data=data):
                self.responses[stream_id].body += data
                if self.acknowledge:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
            case h2.events.StreamEnded(stream_id=stream_id):
                self.responses[stream_id].ended = True
            case h2.events.StreamReset(stream_id=stream_id, error_code=code):
                self.responses[stream_id].reset = int(code)
            case h2.events.PingAckReceived():
                self.pings += 1
