"""A few seconds of the soak: whatever comes and goes, nothing stays."""

from __future__ import annotations

import pytest
from tests.soak.__main__ import soak


@pytest.mark.timeout(180)
def test_nothing_stays() -> None:
    outcome = soak(3.0)
    assert outcome.failures == []
    assert outcome.grown == []
    assert outcome.answered
    assert outcome.attacks
