"""Startup and shutdown (ASGI lifespan specification 2.0)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from h2asgi.errors import ApplicationError, IllegalMessage
from h2asgi.lifespan import Lifespan


async def well_behaved(scope, receive, send):
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert (await receive()) == {"type": "lifespan.startup"}
    scope["state"]["db"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive()) == {"type": "lifespan.shutdown"}
    scope["state"]["db"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


async def unsupporting(scope, receive, send):
    raise AssertionError("only http here")


async def breaking(scope, receive, send):
    await receive()
    raise ValueError("no database")


async def returning(scope, receive, send):
    return


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.DEBUG, "h2asgi")


def test_startup_then_shutdown_with_state():
    async def main() -> None:
        lifespan = Lifespan(well_behaved, "on")
        await lifespan.startup()
        assert lifespan.state == {"db": "open"}
        await lifespan.shutdown(5)
        assert lifespan.state == {"db": "closed"}

    asyncio.run(main())


def test_off_calls_nothing():
    async def main() -> None:
        lifespan = Lifespan(unsupporting, "off")
        await lifespan.startup()
        assert lifespan.state is None
        await lifespan.shutdown(5)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("app", "level"),
    [(unsupporting, "DEBUG"), (returning, "DEBUG"), (breaking, "WARNING")],
)
def test_auto_goes_on_when_the_application_ends_without_an_answer(app, level, caplog):
    """A warning only for one that took lifespan.startup before it raised."""

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        assert lifespan.state is None
        await lifespan.shutdown(5)

    asyncio.run(main())
    assert [record.levelname for record in caplog.records] == [level]


@pytest.mark.parametrize(
    ("app", "reason", "cause"),
    [
        (unsupporting, "no lifespan", Exception),
        (returning, "no lifespan", type(None)),
        (breaking, "startup failed", ValueError),
    ],
)
def test_on_fails_when_the_application_ends_without_an_answer(app, reason, cause):
    async def main() -> None:
        with pytest.raises(ApplicationError, match=reason) as failed:
            await Lifespan(app, "on").startup()
        assert isinstance(failed.value.__cause__, cause)

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_failed_is_logged_line_by_line_and_fails(mode, caplog):
    """Starlette puts its whole traceback in ``message``, and then raises."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback:\n  no database"})
        raise ValueError("no database")

    async def main() -> None:
        with pytest.raises(ApplicationError, match="startup failed") as caught:
            await Lifespan(app, mode).startup()
        assert caught.value.exit_code == 3
        assert isinstance(caught.value.__cause__, ValueError)

    asyncio.run(main())
    assert caplog.messages == [
        "the application's startup failed:",
        "  Traceback:",
        "    no database",
    ]


def test_shutdown_failed_is_logged(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed"})

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(5)

    asyncio.run(main())
    assert caplog.messages == ["the application's shutdown failed"]


def test_shutdown_is_bounded_and_then_cancelled(caplog):
    cancelled: list[bool] = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(0.01)

    asyncio.run(main())
    assert cancelled
    assert "took more than 0.01 s" in caplog.text


def test_an_application_that_completes_its_shutdown_and_stays_is_cancelled():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        await receive()  # there is no third message

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_shutdown_that_ignores_cancellation_is_left_behind(monkeypatch):
    monkeypatch.setattr("h2asgi.lifespan.CANCEL_TIMEOUT", 0.01)
    release = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        while not release:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(0.01)
        release.append(True)

    asyncio.run(main())


def test_a_lifespan_that_dies_while_serving_is_logged_once(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("lost the database")

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await lifespan.shutdown(5)

    asyncio.run(main())
    assert caplog.messages == ["the application's lifespan raised"]
    assert "lost the database" in caplog.text


def test_an_exception_during_shutdown_is_logged(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("cannot close")

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(5)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert caplog.messages == ["the application's lifespan raised"]


def test_startup_has_no_time_limit_but_can_be_cancelled():
    ended: list[bool] = []

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        task = asyncio.ensure_future(Lifespan(app, "auto").startup())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(main())


@pytest.mark.parametrize(
    "messages",
    [
        ["lifespan.startup.complete", "lifespan.startup.complete"],
        ["lifespan.startup.complete", "lifespan.startup.failed"],
        ["lifespan.shutdown.complete"],
        ["lifespan.startup"],
        ["http.response.start"],
        ["lifespan.startup.complete", "lifespan.shutdown.complete", "lifespan.shutdown.failed"],
    ],
)
def test_illegal_messages_raise_in_the_application(messages):
    raised: list[BaseException] = []

    async def app(scope, receive, send):
        try:
            for message in messages:
                await send({"type": message})
        except IllegalMessage as error:
            raised.append(error)
            raise

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        await lifespan.shutdown(5)

    asyncio.run(main())
    assert repr(messages[-1]) in str(raised[0])
