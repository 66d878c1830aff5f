"""What blocks the event loop is named, on either loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import Command

from h2asgi import loop_watch, process
from h2asgi.loop_watch import LoopWatch

HERE = __file__


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a coroutine under watch, with short times; give the loop's name."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    monkeypatch.setattr(loop_watch, "BLOCKED", 0.1)
    monkeypatch.setattr(loop_watch, "INTERVAL", 0.01)

    def run(coroutine: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            with LoopWatch():
                await asyncio.sleep(0.02)
                await coroutine()

        process.run(process.new_event_loop(request.param), main())
        assert [t for t in threading.enumerate() if "loop watch" in t.name] == []

    return run


def block_for(seconds: float) -> None:
    time.sleep(seconds)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "h2asgi"]


def test_the_task_and_the_place_are_named(run, caplog):
    async def careless() -> None:
        asyncio.current_task().set_name("careless")
        block_for(0.4)

    run(careless)
    blocked, over = warnings(caplog)
    assert blocked.startswith("the event loop is blocked by task careless (")
    line = block_for.__code__.co_firstlineno + 1
    assert f" at {HERE}:{line} in block_for, called from {HERE}:" in blocked
    assert ".careless" in blocked
    assert over.startswith("the event loop was blocked for 0.")


def test_a_callback_is_named(run, caplog):
    async def main() -> None:
        asyncio.get_running_loop().call_soon(block_for, 0.4)
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)  # so that its end is told

    run(main)
    blocked, _ = warnings(caplog)
    assert blocked.startswith("the event loop is blocked by block_for at ")


def test_waiting_is_no_blocking(run, caplog):
    run(lambda: asyncio.sleep(0.3))
    assert warnings(caplog) == []


def test_a_short_block_is_not_told(run, caplog, monkeypatch):
    monkeypatch.setattr(loop_watch, "BLOCKED", 5)

    async def main() -> None:
        block_for(0.2)

    run(main)
    assert warnings(caplog) == []


def test_each_block_is_told_once(run, caplog):
    async def main() -> None:
        for _ in range(2):
            block_for(0.3)
            await asyncio.sleep(0.05)

    run(main)
    told = ["is blocked" in line for line in warnings(caplog)]
    assert told == [True, False, True, False]


def test_whatever_is_over_before_it_is_looked_at_is_not_blamed_on_the_loop(caplog):
    """A call of C that keeps the interpreter to itself: the thread comes too late."""

    async def main() -> None:
        watch = LoopWatch()
        watch._loop_thread = -1
        assert "not known" in watch._culprit()

    asyncio.run(main())


class JustMissed(threading.Event):
    """Is set each time behind the look at it."""

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep(0.001)
        return False


@pytest.mark.timeout(60)
def test_a_stop_is_noticed_that_comes_just_before_a_question() -> None:
    """The loop stands still by then, and nobody would answer."""

    async def main() -> None:
        watch = LoopWatch()
        watch._stopped = JustMissed()
        with watch:
            pass

    for _ in range(20):
        asyncio.run(main())


def test_a_loop_that_waits_for_something_to_do_is_in_no_call() -> None:
    source = "import sys\ndef wait(): return sys._getframe()"
    names: dict[str, Any] = {}
    exec(compile(source, f"{loop_watch._STDLIB}/selectors.py", "exec"), names)
    assert loop_watch._calls(names["wait"]()) == []


APPLICATION = """
import threading, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/block":
        compute()
    body = b"%d" % sum("loop watch" in thread.name for thread in threading.enumerate())
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})

def compute():
    time.sleep(0.6)  # line 14
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_command_names_what_blocks_it(tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (tmp_path / "blocking.py").write_text(APPLICATION)
    options = ("--port", "0", "--loop", loop, "--debug-loop")
    command = Command(tmp_path, "-m", "h2asgi", "blocking:app", *options)
    try:
        url = f"http://localhost:{command.port()}"
        assert httpx.get(url + "/block").text == "1"
        line = command.wait_for_error_line("is blocked by .* in compute")[0]
        assert line
        assert f"{tmp_path}/blocking.py:14 in compute, called from " in command.errors[-1]
        assert "warning" in command.errors[-1]
        command.wait_for_error_line(r"was blocked for (0\.[4-9]|[1-9])")
        command.send(15)
        assert command.end()[0] == 0
    finally:
        command.stop()


def test_without_the_option_there_is_no_thread(tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(APPLICATION)
    command = Command(tmp_path, "-m", "h2asgi", "blocking:app", "--port", "0")
    try:
        assert httpx.get(f"http://localhost:{command.port()}/").text == "0"
        command.send(15)
        assert command.end()[0] == 0
    finally:
        command.stop()


def test_it_is_not_even_imported_without_the_option() -> None:
    code = "import sys, h2asgi.server; print('h2asgi.loop_watch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
