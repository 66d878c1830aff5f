"""What a process counts, for those who watch: a row of machine words in memory.

Counting is one addition to a word, with nothing looked up but the kind of a request that is
not like the one before. Words are written whole, and each row has one writer, so others can
read at any time. Where there are several workers, the rows lie in memory that all of them have
(``scoreboard.py``): a row is handed from a worker that has ended to the next one, which counts
on. Nothing is ever moved or added up but by who reads, so no sum ever falls.

No peer can make a row grow: it sends methods, of which only the registered ones are told
apart, and codes, of which RFC 9113 has fourteen.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from .errors import ErrorCode

# What is told apart.

PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")
METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
    "other",
)
"""RFC 9110 section 9.3 and RFC 5789."""

CODES: Final = (*(code.name for code in ErrorCode), "other")
TLS_VERSIONS: Final = ("TLSv1.2", "TLSv1.3")

DURATION_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds, the upper bounds of the histograms' buckets; one more has no bound."""

# Which word counts what. Behind the first word of a group come those that it is told apart by.

REQUESTS_IN_PROGRESS: Final = 0
CONNECTIONS_OPEN: Final = 1  # HTTP/1, HTTP/2
GAUGES: Final = 3
"""Words that say how much there is now, and are nothing when their process has ended."""

CONNECTIONS: Final = 3  # HTTP/1, HTTP/2
RECEIVED_OCTETS: Final = 5
SENT_OCTETS: Final = 6

STREAM_STALLS: Final = 7
CONNECTION_STALLS: Final = 8
TRANSPORT_STALLS: Final = 9

HANDSHAKES: Final = 10  # by version, each anew and resumed
HANDSHAKE_TIMEOUTS: Final = 14
HANDSHAKE_FAULTS: Final = 15
HANDSHAKES_LEFT: Final = 16

RESET_LIMIT: Final = 17
CONTROL_LIMIT: Final = 18
ANSWERS_LIMIT: Final = 19
STREAMS_LIMIT: Final = 20
CONCURRENCY_LIMIT: Final = 21
CONNECTIONS_LIMIT: Final = 22
ADDRESS_LIMIT: Final = 23
HANDSHAKES_LIMIT: Final = 24
UNSENT_LIMIT: Final = 25

WORKERS_REPLACED: Final = 26
WORKERS_FAILED: Final = 27

RESETS_RECEIVED: Final = 28  # by code
RESETS_SENT: Final = 43
GOAWAYS_RECEIVED: Final = 58
GOAWAYS_SENT: Final = 73
_OTHER_CODE: Final = 14

LAG: Final = 88  # buckets, then the sum
LAG_WORDS: Final = 13
DURATIONS: Final = 101  # the same for each protocol
DURATION_WORDS: Final = 15

OTHER_REQUESTS: Final = 146
KINDS: Final = 147  # of requests, as they turned up: what kind, and how many
KINDS_END: Final = 2147
"""A thousand kinds: what an application answers is some ten statuses to a few methods. Requests of
further kinds are counted, but not told apart."""

WORDS: Final = 2147
SIZE: Final = 8 * WORDS
"""Octets of a row."""

_FIRST_BOUND: Final = 0.001
_MICROSECONDS: Final = 1_000_000.0

_PROTOCOL_INDEX: Final = {name.removeprefix("HTTP/"): at for at, name in enumerate(PROTOCOLS)}
_METHOD_INDEX: Final = {name: at for at, name in enumerate(METHODS)}
_OTHER_METHOD: Final = len(METHODS) - 1
_HTTP11: Final = 1

Words = memoryview  # mypyc does not find the name by itself where a dataclass is


class Tally:
    """One row: ``memory`` has ``SIZE`` octets, zeros when it is new.

    Whoever counts takes it over from whoever counted there before.
    """

    __slots__ = ("_end", "_histogram", "_kind", "_kinds", "_method", "_status", "_version", "words")

    def __init__(self, memory: memoryview) -> None:
        self.words = memory.cast("q")
        self._kinds: dict[int, int] = {}  # where each kind of request is counted
        at = KINDS
        while at < KINDS_END and self.words[at]:
            self._kinds[self.words[at]] = at + 1
            at += 2
        self._end = at
        # Of the last request: what it was like, and where that is counted.
        self._version = self._method = ""
        self._status = -1
        self._kind = self._histogram = 0

    def add(self, word: int, amount: int = 1) -> None:
        """Count ``amount`` more."""
        self.words[word] += amount

    def clear_gauges(self) -> None:
        """Take note that the process has ended."""
        for word in range(GAUGES):
            self.words[word] = 0

    # Requests.

    def request_finished(
        self, http_version: str, method: str, status: int, duration: float
    ) -> None:
        """Count a request; ``duration`` is in seconds, ``status`` 0 when no response was begun."""
        if status != self._status or method != self._method or http_version != self._version:
            self._find(http_version, method, status)
        words, histogram = self.words, self._histogram
        words[self._kind] += 1
        bucket = 0 if duration <= _FIRST_BOUND else bisect_left(DURATION_BOUNDS, duration)
        words[histogram + bucket] += 1
        words[histogram + DURATION_WORDS - 1] += int(duration * _MICROSECONDS)

    def _find(self, http_version: str, method: str, status: int) -> None:
        """Look up where to count, and remember it: the next request is mostly of that kind, too."""
        protocol = _PROTOCOL_INDEX.get(http_version, _HTTP11)
        # What a kind is, as one number that is not 0.
        kind = (status * 16 + _METHOD_INDEX.get(method, _OTHER_METHOD)) * 4 + protocol + 1
        self._kind = self._kinds.get(kind, 0) or self._new_kind(kind)
        self._histogram = DURATIONS + protocol * DURATION_WORDS
        self._version, self._method, self._status = http_version, method, status

    def _new_kind(self, kind: int) -> int:
        at = self._end
        if at == KINDS_END:
            return OTHER_REQUESTS
        self.words[at] = kind
        self._kinds[kind] = at + 1
        self._end = at + 2
        return at + 1

    def requests(self) -> dict[tuple[str, str, int], int]:
        """Give how many requests there were of each protocol, method and status."""
        found: dict[tuple[str, str, int], int] = {}
        for at in range(KINDS, KINDS_END, 2):
            kind = self.words[at] - 1
            if kind < 0:
                break
            method = METHODS[kind // 4 % 16]
            found[PROTOCOLS[kind % 4], method, kind // 64] = self.words[at + 1]
        return found

    # Connections.

    def connection_began(self, http_version: str) -> None:
        """Count a connection whose protocol is known."""
        which = 1 if http_version == "2" else 0
        self.words[CONNECTIONS + which] += 1
        self.words[CONNECTIONS_OPEN + which] += 1

    def connection_ended(self, http_version: str) -> None:
        """Count it no longer among those that are open."""
        self.words[CONNECTIONS_OPEN + (1 if http_version == "2" else 0)] -= 1

    def handshake_done(self, version: str | None, resumed: bool) -> None:
        """Count a handshake by its TLS version, as OpenSSL names it, and whether it was short."""
        self.words[HANDSHAKES + 2 * (version == "TLSv1.3") + resumed] += 1

    def code(self, group: int, error_code: int) -> None:
        """Count a code of RFC 9113 section 7, in one of the groups that are told apart by them."""
        self.words[group + (error_code if 0 <= error_code < _OTHER_CODE else _OTHER_CODE)] += 1

    # The loop.

    def loop_lag(self, lag: float) -> None:
        """Count by how many seconds a timer was late."""
        self.words[LAG + bisect_left(LAG_BOUNDS, lag)] += 1
        self.words[LAG + LAG_WORDS - 1] += int(lag * _MICROSECONDS)


UNCOUNTED: Final = Tally(memoryview(bytearray(SIZE)))
"""For engines that nobody watches: what they count is rare, so they need not ask."""


@dataclass(slots=True)
class Tallies:
    """``own`` is where this process counts; ``every`` is where the service does, this one too."""

    own: Tally
    every: list[Tally] = field(default_factory=list)


def of_one_process() -> Tallies:
    """Give those of a server without colleagues."""
    own = Tally(memoryview(bytearray(SIZE)))
    return Tallies(own, [own])
