"""What each server does of what ``docs/comparison.md`` compares: ``python -m benchmarks.features``.

It starts the servers that ``benchmarks.servers`` knows, with one application, and looks at what
comes over an HTTP/2 connection. Nothing is timed.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import trustme

from .processes import NotStarted, Process
from .servers import H2, H2C, HOST, SERVERS, Launch, Server, installed, missing

SECONDS = 5.0
"""For an answer."""

WINDOW = 2**31 - 1
"""So that the server alone decides in which order it sends."""

CONNECT_PROTOCOL = 0x8
"""SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441 section 3."""


@dataclass
class Answer:
    """What came on one stream."""

    status: str = ""
    body: bytearray = field(default_factory=bytearray)
    hints: int = 0
    trailers: int = 0


class Client:
    """An HTTP/2 client on a blocking socket; ``answers`` by the numbers of streams."""

    def __init__(self, launch: Launch) -> None:
        self._socket: socket.socket = socket.create_connection((HOST, launch.port), SECONDS)
        self._scheme = "https" if launch.tls else "http"
        if launch.tls:
            context = ssl.create_default_context(cafile=str(launch.folder / "ca.pem"))
            context.set_alpn_protocols(["h2"])
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()
        code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        self._h2.update_settings({code: WINDOW})
        self._h2.increment_flow_control_window(WINDOW - 65_535)
        self.settings: dict[int, int] = {}
        self.answers: dict[int, Answer] = {}
        self._tunnels: set[int] = set()  # whose answer is its head
        self.ended: list[int] = []
        """Numbers of streams, in the order in which they ended."""

    def __del__(self) -> None:
        self._socket.close()

    def ask(self, *requests: tuple[str, dict[str, str]]) -> list[Answer]:
        """Send requests (path, fields) at once; wait for all answers."""
        numbers = []
        for path, fields in requests:
            numbers.append(number := self._h2.get_next_available_stream_id())
            pseudo = {":method": "GET", ":scheme": self._scheme, ":authority": "localhost"}
            websocket = fields.get(":protocol")
            self._h2.send_headers(
                number,
                list({**pseudo, ":path": path, **fields}.items()),
                end_stream=websocket is None,
            )
            self.answers[number] = Answer()
            if websocket:
                self._tunnels.add(number)
        while not set(numbers) <= set(self.ended):
            self.read()
        return [self.answers[number] for number in numbers]

    def read(self) -> None:
        """Write what there is, and take what comes. OSError or ProtocolError if it ends."""
        self._socket.sendall(self._h2.data_to_send())
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server closed the connection")
        for event in self._h2.receive_data(data):
            self._take(event)
        self._socket.sendall(self._h2.data_to_send())

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            changed = event.changed_settings.values()
            self.settings |= {int(each.setting): each.new_value for each in changed}
            return
        number = getattr(event, "stream_id", None)
        answer = self.answers.get(number or 0)
        if answer is None or number is None:
            return
        if isinstance(event, h2.events.ResponseReceived) and number in self._tunnels:
            self.ended.append(number)
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.hints += 1
        elif isinstance(event, h2.events.ResponseReceived):
            answer.status = dict(event.headers)[b":status"].decode()
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data or b""
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers += 1
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.append(number)


def _asked(launch: Launch, path: str) -> Client:
    """A client that has the answer to one request."""
    client = Client(launch)
    client.ask((path, {"te": "trailers"}))
    return client


def _extensions(launch: Launch) -> list[str]:
    names: list[str] = json.loads(_asked(launch, "/").answers[1].body)
    return names


def _trailers(launch: Launch) -> bool:
    return _asked(launch, "/trailers").answers[1].trailers > 0


def _hints(launch: Launch, path: str) -> bool:
    return _asked(launch, path).answers[1].hints > 0


def _priorities(launch: Launch) -> bool:
    """Whether the more urgent of two large answers comes first, whichever was asked for first."""
    for urgencies, winner in ((("u=7", "u=0"), 1), (("u=0", "u=7"), 0)):
        for _ in range(3):
            client = _asked(launch, "/")
            client.ask(*(("/large", {"priority": urgency}) for urgency in urgencies))
            last_two = sorted(client.ended[-2:])
            if client.ended[-2] != last_two[winner]:
                return False
    return True


def _websocket(launch: Launch) -> bool:
    client = _asked(launch, "/")  # SETTINGS have come with it
    fields = {":method": "CONNECT", ":protocol": "websocket", "sec-websocket-version": "13"}
    return client.ask(("/", fields))[0].status == "200"


QUESTIONS: dict[str, Callable[[Launch], object]] = {
    "extensions": _extensions,
    "trailers": _trailers,
    "early hints behind the start": lambda launch: _hints(launch, "/hint"),
    "early hints ahead of the start": lambda launch: _hints(launch, "/hint-first"),
    "the more urgent goes first": _priorities,
    "offers WebSockets over HTTP/2": lambda launch: bool(
        _asked(launch, "/").settings.get(CONNECT_PROTOCOL)
    ),
    "accepts a WebSocket over HTTP/2": _websocket,
}
IN_THE_CLEAR: dict[str, Callable[[Launch], object]] = {
    "HTTP/2 in the clear": lambda launch: _asked(launch, "/").answers[1].status == "200"
}


def look(server: Server, launch: Launch) -> None:
    """Print the answers of a server; each question has a connection of its own."""
    try:
        process = Process(server, launch)
    except NotStarted as error:
        print(f"  does not start: {error}")
        return
    try:
        for name, question in (QUESTIONS if launch.tls else IN_THE_CLEAR).items():
            try:
                print(f"  {name}: {question(launch)}")
            except (OSError, h2.exceptions.ProtocolError, ValueError) as error:
                print(f"  {name}: no ({error})")
    finally:
        process.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def main() -> None:
    """Print a paragraph for each server that is installed here."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        pair = authority.issue_cert("localhost")
        pair.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        pair.private_key_pem.write_to_path(str(folder / "key.pem"))
        for server in SERVERS.values():
            names = [server.distribution, *server.extras]
            if not server.distribution or missing(server, found := installed(python, names)):
                continue
            print(f"{server.name} {found[server.distribution]}")
            for protocol in sorted(server.protocols & {H2, H2C}):
                look(server, Launch(python, _free_port(), protocol, folder, "features:app"))


if __name__ == "__main__":
    main()
