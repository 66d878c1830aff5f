"""Receive windows that grow with the bandwidth-delay product, over a simulated link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from http2_peer import (
    DATA,
    PADDED,
    EngineFactory,
    Peer,
    Ping,
    ServerFrame,
    WindowUpdate,
    data,
    frame,
    ping,
    rst_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_link import BODY, FRAME, Upload

from h2asgi.config import KIB, MIB, Timeouts
from h2asgi.errors import ErrorCode
from h2asgi.limits import Budget
from h2asgi.protocol.http2.window_growth import FRUITLESS_MEASUREMENTS, MEASURING_PING

STREAM_WINDOW = 256 * KIB
CONNECTION_WINDOW = MIB
MAXIMUM = 16 * MIB

WIDTH = 20_000_000.0
DELAY = 0.05
PRODUCT = 2 * DELAY * WIDTH
"""Octets on their way when this link is full: eight times the first window of a stream."""


@pytest.fixture
def upload(engine_factory: EngineFactory) -> Callable[..., Upload]:
    def make(
        *,
        width: float = WIDTH,
        delay: float = DELAY,
        config: dict[str, Any] | None = None,
        **rest: Any,
    ) -> Upload:
        budget = rest.pop("unread_bodies", None)
        engine = engine_factory(unread_bodies=budget, **(config or {}))
        return Upload(Peer(engine), width=width, delay=delay, **rest)

    return make


# A reader that keeps up.


@pytest.mark.parametrize(
    ("width", "delay"), [(20e6, 0.05), (10e6, 0.1), (20e6, 0.02), (2e6, 0.2), (40e6, 0.03)]
)
def test_a_window_grows_until_the_link_is_full_and_no_further(
    upload: Callable[..., Upload], width: float, delay: float
) -> None:
    link = upload(width=width, delay=delay)
    link.run(until=40 * delay)
    assert link.run(until=60 * delay) > 0.9 * width * 20 * delay
    assert link.windows[1] <= max(4 * (2 * delay) * width, 2 * STREAM_WINDOW)
    assert link.windows[0] <= min(4 * link.windows[1], MAXIMUM)


def test_a_window_that_does_not_grow_leaves_the_link_empty(upload: Callable[..., Upload]) -> None:
    link = upload(config={"window_growth": False})
    assert link.run(until=5.0) < 0.2 * 5.0 * WIDTH
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}
    assert link.pings == []


@pytest.mark.parametrize("maximum", [MAXIMUM, 3 * MIB, MIB])
def test_no_window_exceeds_its_maximum(upload: Callable[..., Upload], maximum: int) -> None:
    link = upload(width=200e6, delay=0.1, config={"max_connection_window": maximum})
    link.run(until=4.0)
    assert link.windows == {0: maximum, 1: maximum // 2}
    at_the_maximum = len(link.pings)
    link.run(until=5.0)
    assert len(link.pings) == at_the_maximum


def test_windows_of_streams_that_share_the_link_grow_with_it(upload: Callable[..., Upload]) -> None:
    link = upload(streams=(1, 3, 5, 7))
    link.run(until=2.0)
    assert link.run(until=3.0) > 0.9 * WIDTH
    assert max(link.windows[stream_id] for stream_id in (1, 3, 5, 7)) <= 4 * PRODUCT


def test_a_full_link_is_not_measured_for_ever(upload: Callable[..., Upload]) -> None:
    link = upload(width=1e6, delay=0.001)
    link.run(until=60.0)
    assert link.windows[1] <= 2 * STREAM_WINDOW
    measured = len(link.pings)
    assert measured <= 2 * FRUITLESS_MEASUREMENTS
    link.run(until=120.0)
    assert len(link.pings) == measured


def test_small_uploads_measure_nothing(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory()).connect()
    stream_id = 1
    for _ in range(15):
        answer = peer.exchange(peer.headers(stream_id, end=False), data(stream_id, BODY, end=True))
        peer.events()
        peer.engine.acknowledge_received_data(stream_id, FRAME)
        peer.respond(stream_id)
        answer += peer.received()
        peer.events()
        assert not any(isinstance(one, Ping) for one in answer)
        stream_id += 2


# One that does not.


def test_nothing_grows_for_a_slow_application(upload: Callable[..., Upload]) -> None:
    link = upload(application_rate=STREAM_WINDOW / 4 / (2 * DELAY))
    link.run(until=30.0)
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}


def test_a_stream_that_nobody_reads_keeps_its_first_window(upload: Callable[..., Upload]) -> None:
    """Whatever its siblings have earned."""
    link = upload()
    link.run(until=3.0)
    peer = link.peer
    assert link.windows[1] > 4 * STREAM_WINDOW
    peer.post(3)
    peer.send(*[data(3, BODY)] * (STREAM_WINDOW // FRAME))
    peer.events()
    peer.send(data(3, b"x"))
    assert peer.events()[0].error_code == ErrorCode.FLOW_CONTROL_ERROR  # type: ignore[union-attr]


# The budget of the process.


def test_nothing_grows_once_the_budget_is_exhausted(upload: Callable[..., Upload]) -> None:
    budget = Budget(MIB)
    budget.used += MIB
    link = upload(unread_bodies=budget)
    first = link.run(until=3.0)
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}
    # Everybody goes on all the same, at the pace of the first windows.
    assert first > 25 * STREAM_WINDOW
    assert link.run(until=6.0) >= 0.95 * first


def test_what_has_grown_falls_back_once_the_budget_is_exhausted(
    upload: Callable[..., Upload],
) -> None:
    budget = Budget(256 * MIB)
    link = upload(unread_bodies=budget)
    link.run(until=3.0)
    assert link.windows[1] > 4 * STREAM_WINDOW
    budget.used += 256 * MIB
    link.run(until=4.0)
    link.windows = dict.fromkeys(link.windows, 0)
    assert link.run(until=6.0) > 15 * STREAM_WINDOW
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}
    budget.used -= 256 * MIB
    link.run(until=7.0)
    assert link.windows[1] > 4 * STREAM_WINDOW


def test_unread_streams_do_not_open_the_connection_beyond_the_budget(
    engine_factory: EngineFactory,
) -> None:
    unlimited = Timeouts(request_body=0, write=0, min_transfer_rate=0)
    peer = Peer(engine_factory(unlimited, unread_bodies=Budget(MIB))).connect()
    allowed = CONNECTION_WINDOW
    for stream_id in range(1, 33, 2):
        peer.post(stream_id)
        room = min(allowed, STREAM_WINDOW)
        answer = peer.exchange(*[data(stream_id, BODY)] * (room // FRAME))
        allowed += credit(answer, 0) - room
        peer.events()
    # Once from half a stream window on, while the budget lasts.
    assert allowed <= 0
    assert peer.engine.next_deadline() is None


@pytest.mark.parametrize(
    "end", ["taken", "reset", "answered", "connection", "terminated", "padding", "overrun"]
)
def test_what_is_unread_goes_back_to_the_budget(engine_factory: EngineFactory, end: str) -> None:
    budget = Budget(MIB)
    peer = Peer(engine_factory(unread_bodies=budget)).connect()
    for stream_id in (1, 3):
        peer.post(stream_id)
        peer.send(data(stream_id, BODY[:1_000], padding=10))
        peer.events()
    assert budget.used == 2_000  # nobody waits for padding
    for stream_id in (1, 3):
        if end == "taken":
            peer.engine.acknowledge_received_data(stream_id, 1_000)
        elif end == "reset":
            peer.send(rst_stream(stream_id))
        elif end == "answered":
            peer.respond(stream_id)
            peer.received()
    if end == "terminated":
        peer.engine.terminate(ErrorCode.NO_ERROR, "enough")
    if end == "padding":
        peer.assert_connection_error(ErrorCode.PROTOCOL_ERROR, frame(DATA, PADDED, 1, b"\xff" * 10))
    if end == "overrun":
        peer.send(*[data(1, BODY)] * 100)
    if end in ("connection", "terminated", "padding", "overrun"):
        peer.engine.receive_eof(0.0)
    assert budget.used == 0


# Peers that lie.


def test_a_peer_that_answers_no_ping_is_sent_one(upload: Callable[..., Upload]) -> None:
    link = upload(answers=0)
    first = link.run(until=3.0)
    assert len(link.pings) == 1
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}
    assert link.run(until=6.0) >= first


def test_a_second_answer_changes_nothing(upload: Callable[..., Upload]) -> None:
    once, twice = upload(), upload(answers=2)
    once.run(until=3.0)
    twice.run(until=3.0)
    assert twice.windows == once.windows
    assert len(twice.pings) == len(once.pings)


def test_answers_ahead_of_time_gain_nothing(upload: Callable[..., Upload]) -> None:
    link = upload(early=True)
    link.run(until=3.0)
    assert link.windows == {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}


def test_acknowledgements_that_nobody_asked_for_are_not_told(engine_factory: EngineFactory) -> None:
    peer = Peer(engine_factory()).connect()
    assert peer.exchange(ping(MEASURING_PING, ack=True)) == []
    assert peer.events() == []
    peer.assert_serves()


def credit(frames: list[ServerFrame], stream_id: int) -> int:
    return sum(
        one.increment
        for one in frames
        if isinstance(one, WindowUpdate) and one.stream_id == stream_id
    )


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([1, 3]), st.integers(1, 400_000)),
        st.tuples(st.just("take"), st.sampled_from([1, 3]), st.integers(1, 400_000)),
        st.tuples(st.just("pass"), st.just(0), st.sampled_from([1, 10, 1000, 30_000])),
        st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
        st.tuples(st.just("others"), st.just(0), st.sampled_from([0, 2**20, 2**21])),
    ),
    max_size=120,
)


@settings(deadline=None, max_examples=150)
@given(steps=_steps)
def test_credit_beyond_what_was_taken_never_exceeds_the_windows(
    engine_factory: EngineFactory, steps: list[tuple[str, int, int]]
) -> None:
    """Over any interleaving of what comes, what is taken, time, acknowledgements and the budget."""
    first, connection, maximum = 2**16, 2**17, 2**20
    budget = Budget(2**21)
    engine = engine_factory(
        unread_bodies=budget,
        stream_window=first,
        connection_window=connection,
        max_connection_window=maximum,
    )
    peer = Peer(engine).connect()
    allowed = {0: connection, 1: first, 3: first}  # beyond what was taken
    unread = {1: 0, 3: 0}
    others = 0
    for stream_id in unread:
        peer.post(stream_id)
    for what, stream_id, amount in [*steps, ("take", 1, 2**30), ("take", 3, 2**30)]:
        if what == "send":
            used = sum(unread.values())
            room = min(amount, allowed[stream_id] - unread[stream_id], allowed[0] - used)
            unread[stream_id] += room
            peer.send(
                *(data(stream_id, BODY[: min(FRAME, room - at)]) for at in range(0, room, FRAME))
            )
        elif what == "take":
            taken = min(amount, unread[stream_id])
            unread[stream_id] -= taken
            allowed[stream_id] -= taken
            allowed[0] -= taken
            peer.engine.acknowledge_received_data(stream_id, taken)
        elif what == "pass":
            peer.now += amount / 1000
        elif what == "acknowledge":
            peer.send(ping(MEASURING_PING, ack=True))
        else:
            budget.used -= others
            others = amount
            budget.used += others
        for one in peer.received():
            assert isinstance(one, WindowUpdate | Ping)
            if isinstance(one, WindowUpdate):
                allowed[one.stream_id] += one.increment
        peer.events()
        assert allowed[0] <= maximum
        assert max(allowed[1], allowed[3]) <= maximum // 2
        assert budget.used - others >= sum(unread.values()) >= 0
    # All is taken, so nobody waits for ever.
    assert allowed[0] > connection // 2 - 1
    assert min(allowed[1], allowed[3]) > first // 2 - 1
