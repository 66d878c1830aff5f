"""Honest clients are answered, whatever goes on beside them; ``tests.soak.crowd`` says how fast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from tests.soak import crowd, hostile
from tests.soak.attackers import Attackers
from tests.soak.target import Target, serving_command

REQUESTS = 5


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with serving_command() as (_, target):
        yield target


@pytest.fixture(scope="module")
def attackers(target: Target) -> Iterator[Attackers]:
    with contextlib.closing(Attackers(target, crowd.ATTACKERS)) as attackers:
        yield attackers


@pytest.mark.parametrize("attack", hostile.ATTACKS)
def test_honest_clients_beside(target: Target, attackers: Attackers, attack: str) -> None:
    seen = crowd.beside(target, attackers, [attack], REQUESTS)
    assert seen.failures == []
    assert len(seen.latencies) == REQUESTS * crowd.CLIENTS
    assert attackers.attacks
