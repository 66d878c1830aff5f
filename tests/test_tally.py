"""Rows of counts: what is told apart, what is not, and who counts on."""

from __future__ import annotations

import pytest

from h2asgi import tally
from h2asgi.errors import ErrorCode
from h2asgi.scoreboard import Scoreboard
from h2asgi.tally import METHODS, PROTOCOLS, SIZE, Tally


@pytest.fixture
def row() -> Tally:
    return Tally(memoryview(bytearray(SIZE)))


def test_words_do_not_overlap():
    assert tally.RESETS_SENT - tally.RESETS_RECEIVED == len(tally.CODES) == 15
    assert len(tally.CODES) == tally.GOAWAYS_SENT - tally.GOAWAYS_RECEIVED
    assert tally.GOAWAYS_SENT + len(tally.CODES) == tally.LAG
    assert len(tally.LAG_BOUNDS) + 2 == tally.LAG_WORDS
    assert tally.DURATIONS == tally.LAG + tally.LAG_WORDS
    assert len(tally.DURATION_BOUNDS) + 2 == tally.DURATION_WORDS
    assert tally.DURATIONS + len(PROTOCOLS) * tally.DURATION_WORDS == tally.OTHER_REQUESTS
    assert tally.DURATION_BOUNDS[0] == tally._FIRST_BOUND
    assert tally.OTHER_REQUESTS < tally.KINDS < tally.KINDS_END == tally.WORDS


@pytest.mark.parametrize("status", [0, 200, 101, 404, 999])
@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_requests_are_told_apart(row, version, status):
    for method in METHODS[:-1]:
        row.request_finished(version, method, status, 0.0)
    row.request_finished(version, "GET", status, 0.0)
    assert row.requests() == {
        (f"HTTP/{version}", method, status): 1 + (method == "GET") for method in METHODS[:-1]
    }


def test_methods_that_a_peer_makes_up_are_one(row):
    for method in ("get", "BREW", "", "other", "\x00", "x" * 1000):
        row.request_finished("1.1", method, 405, 0.0)
    row.request_finished("7.3", "GET", 200, 0.0)
    assert row.requests() == {("HTTP/1.1", "other", 405): 6, ("HTTP/1.1", "GET", 200): 1}


def test_kinds_of_requests_have_a_bound_and_none_is_lost(row):
    for status in range(200, 1000):
        for method in ("GET", "POST"):
            row.request_finished("2", method, status, 0.0)
            row.request_finished("2", method, status, 0.0)
    assert len(row.requests()) == 1000
    assert sum(row.requests().values()) + row.words[tally.OTHER_REQUESTS] == 3200
    assert row.words[tally.OTHER_REQUESTS] == 1200


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (10.0, 12), (10.1, 13), (1e9, 13)]
)
def test_a_duration_falls_into_its_bucket_up_to_its_bound(row, seconds, bucket):
    row.request_finished("2", "GET", 200, seconds)
    first = tally.DURATIONS + 2 * tally.DURATION_WORDS
    assert row.words[first + bucket] == 1
    assert row.words[first + tally.DURATION_WORDS - 1] == pytest.approx(seconds * 1e6, abs=1)


def test_codes_that_a_peer_makes_up_are_one(row):
    for code in (ErrorCode.CANCEL, 8, 14, 0xFFFFFFFF, -1):
        row.code(tally.RESETS_RECEIVED, code)
    words = row.words[tally.RESETS_RECEIVED : tally.RESETS_SENT].tolist()
    assert words == [0] * 8 + [2] + [0] * 5 + [3]


def test_handshakes_and_connections(row):
    row.handshake_done("TLSv1.2", False)
    row.handshake_done("TLSv1.3", True)
    assert row.words[tally.HANDSHAKES : tally.HANDSHAKES + 4].tolist() == [1, 0, 0, 1]
    row.connection_began("2")
    row.connection_began("1.1")
    row.connection_ended("2")
    assert row.words[tally.CONNECTIONS_OPEN : tally.CONNECTIONS].tolist() == [1, 0]
    assert row.words[tally.CONNECTIONS : tally.CONNECTIONS + 2].tolist() == [1, 1]


def test_the_next_worker_of_a_row_counts_on():
    """Counters of a worker that has ended do not fall; what it had in work is gone."""
    board = Scoreboard(2, counted=True)
    assert board.take_row() == 0
    tallies = board.tallies(0)
    assert tallies is not None
    for status in (200, 200, 404):
        tallies.own.request_finished("2", "GET", status, 0.01)
    tallies.own.connection_began("2")
    tallies.own.add(tally.REQUESTS_IN_PROGRESS, 5)
    board.give_back(0)
    assert board.take_row() == 0
    later = board.tallies(0)
    assert later is not None
    later.own.request_finished("2", "GET", 404, 0.01)
    later.own.request_finished("2", "PUT", 404, 0.01)
    assert later.own.requests() == {
        ("HTTP/2", "GET", 200): 2,
        ("HTTP/2", "GET", 404): 2,
        ("HTTP/2", "PUT", 404): 1,
    }
    assert later.own.words[: tally.CONNECTIONS + 2].tolist() == [0, 0, 0, 0, 1]
    supervisor = board.tallies()
    assert supervisor is not None
    assert len(supervisor.every) == 3
    assert supervisor.every[0].requests() == later.own.requests()
    assert supervisor.own.requests() == {}


def test_without_somebody_who_watches_there_is_nothing():
    board = Scoreboard(1)
    assert board.tallies() is None
    row = board.take_row()
    assert row is not None
    board.give_back(row)
