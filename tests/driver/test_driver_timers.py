"""One timer for each connection, over the earliest of all deadlines."""

from __future__ import annotations

import pytest
from applications import hello, silent
from peers import HTTP2Peer

from h2asgi.closing import CLOSE_TIME, LINGER_TIME
from h2asgi.config import Timeouts

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
TIMEOUTS = Timeouts(first_bytes=10, request_headers=30, keep_alive=75, http2_idle=300)


def test_first_deadline_is_set_before_anything_arrives(driver):
    driver.serve(hello, timeouts=TIMEOUTS)
    driver.connect()
    assert driver.loop.timers_left() == [10]


def test_requests_make_no_timers(driver):
    """A timer that exists is early enough; it looks again when it fires."""
    driver.serve(hello, timeouts=TIMEOUTS)
    one, two = driver.http1(), driver.http2()
    made = driver.loop.timers_made
    for _ in range(10):
        one.send(GET)
        two.request()
        driver.loop.now += 0.1
    assert driver.loop.timers_made == made
    assert len(driver.loop.timers_left()) == 2


def test_timer_is_moved_forward_when_an_earlier_deadline_appears(driver):
    driver.serve(hello, timeouts=Timeouts(first_bytes=10, keep_alive=75, request_headers=5))
    peer = driver.http1()
    assert driver.loop.timers_left() == [10]
    peer.send(b"GET")
    assert driver.loop.timers_left() == [5]


def test_timer_that_fires_early_looks_again(driver):
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver.http1()
    driver.loop.advance(9)
    peer.send(GET)
    assert driver.loop.timers_left() == [1]
    driver.loop.advance(1)
    assert driver.loop.timers_left() == [74]
    driver.loop.advance(73.9)
    assert not peer.transport.is_closing()
    driver.loop.advance(0.1)
    assert peer.transport.is_closing()


def test_no_timer_runs_while_a_request_is_served(driver):
    driver.serve(silent, timeouts=TIMEOUTS)
    driver.http1().send(GET)
    driver.http2().request()
    driver.loop.advance(10)
    assert driver.loop.timers_left() == []
    driver.loop.advance(10_000)
    assert len(driver.state.connections) == 2


def test_http2_preface_has_a_deadline(driver):
    """RFC 9113 section 3.4; error code SETTINGS_TIMEOUT."""
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver._accept(HTTP2Peer, "h2")
    driver.loop.advance(10)
    peer.read()
    assert [frame.error_code for frame in peer.goaway] == [4]


def test_idle_http2_connection_ends_gracefully(driver):
    """Field note 6; RFC 9113 section 6.8: GOAWAY with 2^31-1, then with the true last stream."""
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver.http2()
    peer.request()
    driver.loop.advance(150)
    peer.request()
    driver.loop.advance(299)
    assert peer.goaway == []
    driver.loop.advance(1)
    peer.read()
    assert [frame.last_stream_id for frame in peer.goaway] == [2**31 - 1]
    driver.loop.advance(1)
    peer.read()
    assert [frame.last_stream_id for frame in peer.goaway] == [2**31 - 1, 3]
    driver.loop.advance(LINGER_TIME)  # for what the client still sends
    assert peer.transport.is_closing()
    assert not peer.transport.aborted


def test_slow_request_head_is_answered_408(driver):
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver.http1()
    peer.send(b"GET / HT")
    driver.loop.advance(30)
    assert peer.take().startswith(b"HTTP/1.1 408 ")
    assert driver.records[0].status == 408


def test_lost_connection_leaves_no_timer(driver):
    driver.serve(hello, timeouts=TIMEOUTS)
    for peer in (driver.connect(), driver.http1(), driver.http2()):
        peer.transport.lose()
    assert driver.loop.timers_left() == []


def test_timer_that_fires_after_the_end_does_nothing(driver):
    """The loss may be told in the very turn in which the timer is due."""
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver.http1()
    driver.loop.now += 10
    driver.loop.call_soon(peer.transport.lose)
    peer.connection._on_timer()
    driver.loop.settle()
    peer.connection._on_timer()
    assert driver.loop.timers_left() == []


def test_timer_of_a_closing_connection_waits_for_the_bound(driver):
    """What fires meanwhile is the engine's former deadline."""
    driver.serve(hello, timeouts=TIMEOUTS)
    peer = driver.http1()
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert peer.transport.is_closing()
    driver.loop.advance(10)
    assert driver.loop.timers_left() == [CLOSE_TIME - 10]
    driver.loop.advance(CLOSE_TIME - 10)
    assert peer.transport.aborted


class PastDeadline:
    """An engine whose deadline stays in the past until it is handled ``times`` times."""

    name = http_version = "fake"
    reading_suspended = awaits_writer = False

    def __init__(self, times: int) -> None:
        self.times = times
        self.handled = 0
        self.send_headers = None  # never called

    def __call__(self, *args, **options):
        return self

    def next_deadline(self):
        return 0.0 if self.handled < self.times else None

    def handle_deadline(self, now):
        self.handled += 1

    def take_events(self):
        return []

    def data_to_send(self, limit, now):
        return b""


@pytest.mark.interpreted
def test_deadline_in_the_past_is_handled_once_a_turn_and_no_more(driver, monkeypatch):
    engine = PastDeadline(2)
    monkeypatch.setattr("h2asgi.connection.http1_engine", lambda config: engine)
    driver.serve(hello)
    driver.http1()
    driver.loop.advance(1)
    driver.loop.advance(1)
    assert engine.handled == 2
    assert driver.loop.timers_left() == []
