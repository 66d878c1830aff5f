from __future__ import annotations

from collections import Counter

import pytest

TALLY = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Counter()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many blocks there were, and what was done with them."""
    if counted := config.stash.get(TALLY, Counter()):
        whole = ", ".join(f"{number} {what}" for what, number in counted.most_common())
        terminalreporter.write_line(
            f"README and docs: {counted.total()} blocks and commands: {whole}"
        )


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Counter[str]:
    return pytestconfig.stash[TALLY]
