"""Honest clients are answered, whatever goes on beside them; ``tests.soak.crowd`` says how fast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.soak import crowd, hostile
from tests.soak.target import Target, serving_command

REQUESTS = 10


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with serving_command() as (_, target):
        yield target


@pytest.mark.parametrize("attack", hostile.ATTACKS)
def test_honest_clients_beside(target: Target, attack: str) -> None:
    seen = crowd.beside(target, attack, REQUESTS)
    assert seen.failures == []
    assert len(seen.latencies) == REQUESTS * crowd.CLIENTS
    assert seen.attacks
