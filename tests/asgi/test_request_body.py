"""What has arrived and was not taken yet: order, memory, waiters."""

from __future__ import annotations

import asyncio
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2asgi.asgi.body import SMALL_PIECE, RequestBody

CONSTANT = 512
"""Octets for the empty containers, whatever is in them."""


def memory(body: RequestBody) -> int:
    return sys.getsizeof(body._pieces) + sum(map(sys.getsizeof, body._pieces))


sizes = st.one_of(
    st.integers(0, 3),
    st.integers(SMALL_PIECE - 2, SMALL_PIECE + 2),
    st.integers(0, 20_000),
)
steps = st.lists(st.one_of(sizes, st.just("take")), max_size=60)


@given(steps)
def test_any_feeding_and_taking_keeps_the_octets_and_their_order(sequence):
    body = RequestBody()
    fed, taken = bytearray(), bytearray()
    for number, step in enumerate(sequence):
        if step == "take":
            piece = body.take()
            assert type(piece) is bytes
            taken += piece
        else:
            data = bytes([number % 256]) * step
            body.feed(data)
            fed += data
        assert body.unread == len(fed) - len(taken)
        assert memory(body) <= 2 * body.unread + CONSTANT
    assert taken + body.take() == fed


@pytest.mark.parametrize("size", [1, 2, 7, 40, SMALL_PIECE - 1, SMALL_PIECE, 16_384])
def test_memory_stays_within_twice_the_unread_octets_for_pieces_of_one_size(size):
    body = RequestBody()
    for _ in range(max(1, 65_536 // size)):
        body.feed(b"x" * size)
        assert memory(body) <= 2 * body.unread + CONSTANT


def test_small_and_large_pieces_in_turn_stay_within_the_bound():
    body = RequestBody()
    for _ in range(200):
        body.feed(b"a")
        body.feed(b"b" * SMALL_PIECE)
        assert memory(body) <= 2 * body.unread + CONSTANT
    assert body.take() == (b"a" + b"b" * SMALL_PIECE) * 200


def test_a_single_piece_is_handed_out_as_it_is():
    body = RequestBody()
    for piece in (b"small", b"x" * 16_384):
        body.feed(piece)
        assert body.take() is piece
    assert body.take() == b""


def test_large_pieces_are_not_copied_while_stored():
    body = RequestBody()
    pieces = [b"1" * 4096, b"2" * 4096]
    for piece in pieces:
        body.feed(piece)
    assert all(stored is piece for stored, piece in zip(body._pieces, pieces, strict=True))


def test_what_was_taken_is_not_changed_by_later_pieces():
    body = RequestBody()
    body.feed(b"a")
    body.feed(b"b")
    taken = body.take()
    body.feed(b"c")
    assert taken == b"ab"
    assert body.take() == b"c"


def test_a_closed_body_drops_what_it_holds_and_what_comes():
    body = RequestBody()
    body.feed(b"before")
    body.close()
    assert body.unread == 0
    body.feed(b"after")
    assert body.unread == 0
    assert body.take() == b""


@pytest.mark.parametrize("change", [lambda b: b.feed(b"x"), lambda b: b.end(), lambda b: b.close()])
def test_every_waiter_is_woken_by_feed_end_and_close(change):
    async def main():
        body = RequestBody()
        waiters = [asyncio.create_task(body.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters)
        change(body)
        await asyncio.wait_for(asyncio.gather(*waiters), 5)

    asyncio.run(main())


def test_a_cancelled_waiter_neither_cancels_the_others_nor_stays_behind():
    async def main():
        body = RequestBody()
        one, two = (asyncio.create_task(body.wait()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        assert one.cancelled()
        assert not two.done()
        assert len(body._waiters) == 1
        body.feed(b"x")
        body.feed(b"y")  # a second change before the waiter has run
        await asyncio.wait_for(two, 5)
        assert not body._waiters
        assert body.take() == b"xy"

    asyncio.run(main())


def test_a_body_begins_with_nothing():
    body = RequestBody()
    assert (body.unread, body.ended, body.closed, body.trailers) == (0, False, False, [])
    assert body.take() == b""


def test_pieces_from_a_size_on_are_kept_and_not_copied():
    body = RequestBody()
    first, second = b"a" * SMALL_PIECE, b"b" * SMALL_PIECE
    for piece in (first, second, b"c", b"d"):
        body.feed(piece)
    assert body._pieces[0] is first
    assert body._pieces[1] is second
    assert body._pieces[2:] == [b"cd"]
    assert body.take() == first + second + b"cd"
