"""Workers that are replaced by age or by the number of their requests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from workers import (
    APPLICATION,
    Asking,
    Start,
    gone,
    needs_fork,
    served,
    serving,
    starting,
    wait_until,
)

pytestmark = needs_fork


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as start:
        yield start


@pytest.mark.parametrize("option", [("--max-requests", "20"), ("--max-worker-age", "1")])
def test_workers_are_replaced_and_no_request_is_lost(start: Start, option: tuple[str, str]) -> None:
    command = start("--workers", "2", *option)
    url, workers = serving(command, 2)
    asking = Asking(url)
    later = [served(command) for _ in range(4)]
    wait_until(lambda: all(map(gone, workers)))
    answered = asking.end()
    assert len(answered) > 2
    assert not set(workers) & set(later)
    command.send(signal.SIGTERM)
    code, _, errors = command.end()
    assert code == 0
    assert " error " not in errors


def test_one_that_cannot_be_replaced_goes_on(start: Start, tmp_path: Path) -> None:
    command = start("--workers", "2", "--max-requests", "10")
    url, workers = serving(command, 2)
    (tmp_path / "application.py").write_text("raise RuntimeError('broken')")
    asking = Asking(url)
    for _ in range(2):  # it is tried again
        command.wait_for_error_line("the new worker ended with exit code 3: the old ones go on")
    assert asking.end() <= set(workers)
    (tmp_path / "application.py").write_text(APPLICATION + "\n# changed\n")
    assert served(command) not in workers


@pytest.mark.parametrize("option", ["--max-requests", "--max-worker-age"])
def test_a_process_alone_has_nobody_to_replace_it(start: Start, option: str) -> None:
    command: Command = start(option, "10")
    code, _, errors = command.end()
    assert code == 2
    assert errors == (
        "h2asgi: --max-requests and --max-worker-age replace workers: give --workers 2 or more\n"
    )
